"""Change stamps of files, and the age of timestamps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Age:
    """Age of a timestamp in seconds, by the monotonic clock since it was first seen: clock jumps don't count."""

    stamp: float | None = None
    age_when_seen: float = 0.0
    seen: float = 0.0

    def of(self, stamp: float | None) -> float | None:
        """The age of this timestamp; None if there is none."""
        if stamp is None:
            return None
        if stamp != self.stamp:
            self.stamp, self.age_when_seen, self.seen = stamp, max(0.0, time.time() - stamp), time.monotonic()
        return self.age_when_seen + time.monotonic() - self.seen


def stamp(path: Path) -> tuple[int, int]:
    """A value that changes with a file's content or a folder's entries."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_size, found.st_mtime_ns)


def settled(path: Path) -> object:
    """A stamp to use as a cache key. Unique within a second of a change: another may get the same time."""
    found = stamp(path)
    return found if time.time() - found[1] / 1e9 > 1.0 else object()
