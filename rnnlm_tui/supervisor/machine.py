"""What this machine is and has free: for the first screen, the identity line and `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

from rnnlm_tui.store.cores import usable_cores
from rnnlm_tui.store.locations import home
from rnnlm_tui.store.locks import host_name
from rnnlm_tui.supervisor.gpu import GpuProbe


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """This machine at one moment; sizes in bytes, None where there is no card or its driver doesn't tell."""

    host: str
    cpu_count: int
    """Cores that this process may use."""
    memory_total: int
    memory_free: int
    """What a new process could take without swapping."""
    disk_free: int
    """On the disk of the data home."""
    gpu_name: str | None = None
    gpu_memory_total: int | None = None
    gpu_memory_used: int | None = None


def describe_machine() -> MachineFacts:
    """Look at this machine: a few milliseconds, some hundred where an NVIDIA driver has to wake up."""
    memory = psutil.virtual_memory()
    probe = GpuProbe()
    gpu = probe.sample()
    probe.close()
    return MachineFacts(
        host=host_name(),
        cpu_count=usable_cores(),
        memory_total=int(memory.total),
        memory_free=int(memory.available),
        disk_free=int(psutil.disk_usage(str(_existing(home()))).free),
        gpu_name=gpu.name,
        gpu_memory_total=gpu.memory_total,
        gpu_memory_used=gpu.memory_used,
    )


def _existing(path: Path) -> Path:
    """The path itself or the nearest folder above it that is there: the home may not exist yet."""
    return next((folder for folder in (path, *path.parents) if folder.exists()), Path("/"))
