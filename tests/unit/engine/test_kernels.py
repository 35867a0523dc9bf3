"""The loss's Triton kernels, interpreted on the CPU and compiled for GPUs that aren't here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnnlm_tui.schema.memory import VOCAB_ALIGNMENT, aligned

from .head_cases import SWITCH

triton = pytest.importorskip("triton", reason="Triton isn't installed")
VERSION = tuple(int(part) for part in triton.__version__.split(".")[:2])


@pytest.mark.skipif(
    VERSION < (3, 7) and np.lib.NumpyVersion(np.__version__) >= "2.4.0",
    reason="Triton 3.6 can't interpret with NumPy 2.4 or newer",
)
def test_the_kernel_is_right_interpreted() -> None:
    folder = Path(__file__).parent
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"),
            *("-k", "triton", "test_loss.py"),
        ],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", SWITCH: "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


@dataclass(frozen=True, slots=True)
class OtherGpu:
    """Triton's driver for a GPU that isn't here."""

    kind: str
    """`cuda` or `hip`."""
    name: int | str
    """Compute capability times 10, or AMD's name."""

    def get_current_device(self) -> str:
        """Key of Triton's cache of compiled kernels."""
        return f"{self.kind} {self.name}"

    def get_current_stream(self, _device: str) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget(self.kind, self.name, 64 if self.name == "gfx942" else 32)


Compiled = Callable[[OtherGpu, Callable[[], object]], list[Any]]
"""Compiles the kernels that a call with tensors of the CPU launches; returns them in the order of
the launches. Nothing runs, and the call's results are garbage."""


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    from triton.runtime import driver, jit

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compile_or_launch = jit.JITFunction.run

    def compile_for(gpu: OtherGpu, call: Callable[[], object]) -> list[Any]:
        found = []

        def launch(kernel: Any, *given: Any, grid: Any, warmup: bool, **named: Any) -> None:
            found.append(compile_or_launch(kernel, *given, grid=grid, warmup=True, **named))

        with monkeypatch.context() as patch:
            patch.setattr(driver, "_active", gpu)
            patch.setattr(jit.JITFunction, "run", launch)
            call()
        return found

    return compile_for


T4, A100, H100 = (OtherGpu("cuda", number) for number in (75, 80, 90))
MI300, RX_7900 = OtherGpu("hip", "gfx942"), OtherGpu("hip", "gfx1100")


@pytest.mark.parametrize("vocab_size", [70, 32_011])
@pytest.mark.parametrize(
    ("gpu", "dtype"),
    [
        (T4, torch.float32),
        (A100, torch.bfloat16),
        (H100, torch.bfloat16),
        (H100, torch.float32),
        (MI300, torch.bfloat16),
        (RX_7900, torch.float32),
    ],
)
def test_the_losss_kernels_compile_for_gpus(
    compiled: Compiled,
    monkeypatch: pytest.MonkeyPatch,
    gpu: OtherGpu,
    dtype: torch.dtype,
    vocab_size: int,
) -> None:
    from rnnlm_tui.engine.loss_kernel import KERNEL

    monkeypatch.setattr(torch.version, "hip", "6.4" if gpu.kind == "hip" else None)
    logits = torch.zeros(3, aligned(vocab_size, VOCAB_ALIGNMENT), dtype=dtype)
    targets, count = torch.zeros(3, dtype=torch.int64), torch.tensor(3)

    def everything() -> None:
        KERNEL.gradient(logits, targets, count, vocab_size)
        KERNEL.losses(logits, targets, vocab_size)

    assert len(compiled(gpu, everything)) == 2
