"""Current and peak memory of this process or its GPU."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import psutil
import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> None:
    """Restart the peak from the current value, where the system allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _CLEAR.write_text("5", encoding="ascii")  # proc(5): the peak resident set size becomes the current one
    except OSError:
        return


def peak_bytes(device: torch.device) -> int:
    """Peak memory: of tensors on a GPU, without the driver's; else of this process, libraries included."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _of_process("VmHWM") or int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def held_bytes(device: torch.device) -> int:
    """The same for the current memory."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return _of_process("VmRSS") or int(psutil.Process().memory_info().rss)


def limit_left() -> int | None:
    """Bytes left under this process's limit (`ulimit -v`); None: no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else max(0, limit - int(psutil.Process().memory_info().vms))


def _of_process(name: str) -> int | None:
    """A size from /proc/self/status in bytes; None: not available."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
