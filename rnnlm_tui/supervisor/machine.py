"""This machine's hardware and free memory, for the first screen, estimates and `doctor`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from rnnlm_tui.store.cores import usable_cores
from rnnlm_tui.store.free_memory import memory_available
from rnnlm_tui.store.free_space import free_bytes, total_bytes
from rnnlm_tui.store.locks import host_name
from rnnlm_tui.supervisor.gpu import GpuProbe, gpu_count

Device = Literal["cpu", "cuda", "mps"]
"""Kinds of device."""

DRIVER_BYTES = 500 * 2**20
"""GPU memory of a CUDA process besides its tensors: the driver's context and kernels."""


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """This machine at one moment. Sizes in bytes; None without a GPU or if its driver doesn't report them."""

    host: str
    cpu_count: int
    """Cores that this process may use."""
    memory_total: int
    memory_free: int
    """Available to a new process without swapping."""
    disk_free: int
    """On the disk of the described directory."""
    gpu_name: str | None = None
    gpu_memory_total: int | None = None
    gpu_memory_used: int | None = None
    disk_total: int | None = None
    """Size of that disk."""


def describe_machine(directory: Path) -> MachineFacts:
    """Describe this machine, with the disk of `directory`. Takes milliseconds; waking an NVIDIA driver some hundred."""
    memory = psutil.virtual_memory()
    probe = GpuProbe()
    gpu = probe.sample()
    probe.close()
    return MachineFacts(
        host=host_name(),
        cpu_count=usable_cores(),
        memory_total=int(memory.total),
        memory_free=memory_available(),
        disk_free=free_bytes(directory),
        gpu_name=gpu.name,
        gpu_memory_total=gpu.memory_total,
        gpu_memory_used=gpu.memory_used,
        disk_total=total_bytes(directory),
    )


def planned_device(name: str) -> Device:
    """The kind of device that `training.device` selects here; `auto` takes a GPU that CUDA can use."""
    if name == "auto":
        return "cuda" if gpu_count() else "mps" if sys.platform == "darwin" else "cpu"
    return "cuda" if name.startswith("cuda") else "mps" if name == "mps" else "cpu"


def free_training_memory(name: str) -> int | None:
    """Bytes available to a new training on the device `name`; None if unknown."""
    if planned_device(name) != "cuda":
        return memory_available()
    probe = GpuProbe(index=int(name.partition(":")[2] or 0))
    gpu = probe.sample()
    probe.close()
    return None if gpu.memory_total is None or gpu.memory_used is None else max(0, gpu.memory_total - gpu.memory_used - DRIVER_BYTES)
