"""How many cores a process may use, as its affinity and its container say, and how busy they are."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container where there is one."""
    with suppress(AttributeError):  # macOS has no affinity
        return min(len(os.sched_getaffinity(0)), _quota() or 1 << 20)
    return os.cpu_count() or 1


def core_loads() -> list[float]:
    """The load of each core that this process may run on since the call before, 0 to 1; of all cores where the kernel doesn't tell which it may."""
    import psutil  # not for whoever only counts cores

    percents = psutil.cpu_percent(percpu=True)
    try:
        return [percents[core] / 100 for core in os.sched_getaffinity(0)]
    except (AttributeError, IndexError):  # macOS has no affinity; a container may list fewer cores than it numbers
        return [percent / 100 for percent in percents]


def _quota() -> int | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return None  # no such file, or "max": no quota
