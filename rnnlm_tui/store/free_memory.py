"""Memory available to a new process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil


def memory_available() -> int:
    """Bytes available to a new process without swapping, within the container's limit if there is one."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # no such file, or "max": no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        cached = next(
            (int(line.split()[1]) for line in (group / "memory.stat").read_text(encoding="ascii").splitlines() if line.startswith("inactive_file ")), 0
        )
        free = min(free, max(0, limit - used + cached))
    return free
