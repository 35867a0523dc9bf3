"""The cores that other processes used during a measurement."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import psutil

NOTICEABLE_CORES = 0.3
"""Cores of other processes from which the report warns."""


class OtherProcesses:
    """Counts from its construction on. Children that have been waited for count as ours."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy_seconds(), _own_seconds()

    def cores(self) -> float:
        """Mean number of cores that other processes have used since."""
        spent = max(1e-3, time.monotonic() - self._began)
        return max(0.0, (_busy_seconds() - self._busy) - (_own_seconds() - self._own)) / spent


def _busy_seconds() -> float:
    """Of the cores that this process may use."""
    times = psutil.cpu_times(percpu=True)
    with suppress(AttributeError, IndexError):  # macOS has no affinity; a container may list fewer cores than their highest number
        times = [times[core] for core in sorted(os.sched_getaffinity(0))]
    return sum(sum(core) - core.idle - getattr(core, "iowait", 0.0) - getattr(core, "guest", 0.0) - getattr(core, "guest_nice", 0.0) for core in times)


def _own_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
