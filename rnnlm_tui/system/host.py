"""CPU cores and memory that are available to this process or a new one."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import psutil


def usable_cores() -> int:
    """Cores that this process may use, by its affinity and its container's quota."""
    with suppress(AttributeError):  # macOS has no affinity
        return min(len(os.sched_getaffinity(0)), _quota() or 1 << 20)
    return os.cpu_count() or 1


def core_loads() -> list[float]:
    """Load of each core in this process's affinity since the previous call, 0 to 1.

    All cores if the system has no affinity.
    """
    import psutil  # imported late: usable_cores doesn't need it

    percents = psutil.cpu_percent(percpu=True)
    try:
        return [percents[core] / 100 for core in os.sched_getaffinity(0)]
    # macOS has no affinity; a container may list fewer cores than its highest number
    except (AttributeError, IndexError):
        return [percent / 100 for percent in percents]


def _quota() -> int | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return None  # no such file, or "max": no quota


def memory_available() -> int:
    """Bytes available to a new process without swapping, within the container's limit if there is
    one."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no such file, or "max": no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (
            int((group / name).read_text(encoding="ascii"))
            for name in ("memory.max", "memory.current")
        )
        cached = next(
            (
                int(line.split()[1])
                for line in (group / "memory.stat").read_text(encoding="ascii").splitlines()
                if line.startswith("inactive_file ")
            ),
            0,
        )
        free = min(free, max(0, limit - used + cached))
    return free
