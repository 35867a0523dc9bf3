"""How much memory a new process could take, as the machine and its container say."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def memory_available() -> int:
    """Bytes that a new process could take without swapping, within the limit of this container where there is one."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no such file, or "max": no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        cached = next(
            (int(line.split()[1]) for line in (group / "memory.stat").read_text(encoding="ascii").splitlines() if line.startswith("inactive_file ")), 0
        )
        free = min(free, max(0, limit - used + cached))
    return free
