"""The environment that each checkpoint records: what numbers depend on besides config and data."""

from __future__ import annotations

import os
import platform

import torch

from rnnlm_tui.engine.device import cuda_versions, instructions, processor
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.store.locks import host_name
from rnnlm_tui.worker.versions import versions

NOT_COMPARED = ("host", "tokenizers", "safetensors", "transformers")
"""Recorded but never compared. A machine is its processor and versions, not its name; the output of
these packages is on disk, under hashes."""
SAME_ARITHMETIC = frozenset({"0.1.0"})
"""Earlier versions of rnnlm-tui that compute the same bits as this one."""
KERNEL_VARIABLES = ("ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "OPENBLAS_CORETYPE")
"""Variables that select kernels; kernels round differently."""
GPU_VARIABLES = ("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE")


def environment(trainer: Trainer, *, deterministic: bool) -> dict[str, str | int | bool]:
    """Names and values; for a bit-for-bit resume all but `NOT_COMPARED` must be equal."""
    device = trainer.device
    variables = KERNEL_VARIABLES + (GPU_VARIABLES if device.type == "cuda" else ())
    return {
        "device": str(device),
        "processor": processor(device),
        "instructions": instructions(),
        "threads": torch.get_num_threads(),
        "deterministic": deterministic,
        "matmul": trainer.matmul.mode,
        **versions(),
        "cuda": cuda_versions(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "variables": " ".join(f"{name}={os.environ[name]}" for name in variables if name in os.environ),
        "host": host_name(),
    }
