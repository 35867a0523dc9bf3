"""Devices by name, threads, seeds and exact mode."""

from __future__ import annotations

import os
import platform
import random

import numpy as np
import torch

from rnnlm_tui.contract.computing import unsupported_precision
from rnnlm_tui.contract.figures import counted
from rnnlm_tui.errors import DeviceError
from rnnlm_tui.store.cores import usable_cores

CUBLAS_WORKSPACE = ":4096:8"
"""CUBLAS_WORKSPACE_CONFIG for exact mode; cuBLAS reads it when CUDA starts."""


def available_devices() -> tuple[str, ...]:
    """Names of this machine's devices, preferred first: cuda:0 ..., mps, cpu."""
    gpus = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) if torch.cuda.is_available() else ()
    return gpus + (("mps",) if torch.backends.mps.is_available() else ()) + ("cpu",)


def resolve_device(name: str) -> torch.device:
    """The device of a name: `auto` (CUDA, else MPS, else CPU), `cpu`, `mps`, `cuda` (the first GPU) or `cuda:N`.

    Raises:
        DeviceError: no such device on this machine; lists the available ones.
    """
    available = available_devices()
    wanted = {"auto": available[0], "cuda": "cuda:0"}.get(name, name)
    if wanted not in available:
        raise DeviceError(
            f'no device "{name}" on this machine, available: {", ".join(reversed(available))}', hint="set training.device to one of them, or to auto"
        )
    return torch.device(wanted)


def describe(device: torch.device) -> str:
    """`cuda:0 NVIDIA H100`, `cpu, 2 threads`."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu, {counted(threads, 'thread')}"
    return str(device)


def processor(device: torch.device) -> str:
    """Model of the device's processor; two models round differently."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(torch.cpu.get_capabilities().get("cpu_name", platform.processor())) if device.type == "cpu" else platform.machine()


def instructions() -> str:
    """The widest instructions that torch's CPU kernels use, such as `AVX512`; each width sums in another order."""
    return str(torch.backends.cpu.get_cpu_capability())


def cuda_versions() -> str:
    """`12.8, cuDNN 91002`; empty if torch was built without CUDA."""
    return f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}" if torch.version.cuda else ""  # type: ignore[no-untyped-call]


def set_threads(threads: int) -> int:
    """Use this many CPU threads, 0: one per usable core; returns the number."""
    count = threads or usable_cores()
    torch.set_num_threads(count)
    return count


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, on all GPUs, too."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def set_exactness(deterministic: bool) -> None:
    """Turn exact mode on (deterministic operations only) or off (the fastest ones)."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS_WORKSPACE)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False


def wait(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse `training.precision` = bf16 where it isn't faster than float32.

    Raises:
        DeviceError: on anything but a CUDA GPU that computes in bf16.
    """
    if precision == "float32" or (device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)):
        return
    raise unsupported_precision(precision, describe(device))
