"""How many cores a process may use, as its affinity and its container say."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container where there is one."""
    with suppress(AttributeError):  # macOS has no affinity
        return min(len(os.sched_getaffinity(0)), _quota() or 1 << 20)
    return os.cpu_count() or 1


def _quota() -> int | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return None  # no such file, or "max": no quota
