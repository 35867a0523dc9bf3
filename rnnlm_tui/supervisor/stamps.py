"""When a file changed last, and how old a stamp of the wall clock is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Age:
    """Seconds since a stamp of the wall clock: by the monotonic clock from the moment it was first seen, so that clock jumps don't count."""

    stamp: float | None = None
    age_when_seen: float = 0.0
    seen: float = 0.0

    def of(self, stamp: float | None) -> float | None:
        """The age of this stamp; None where there is none."""
        if stamp is None:
            return None
        if stamp != self.stamp:
            self.stamp, self.age_when_seen, self.seen = stamp, max(0.0, time.time() - stamp), time.monotonic()
        return self.age_when_seen + time.monotonic() - self.seen


def stamp(path: Path) -> tuple[int, int]:
    """Changes with the content of a file, or with the entries of a folder."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_size, found.st_mtime_ns)


def settled(path: Path) -> object:
    """The stamp of a file or folder for whoever keeps what he read of it: never the same in the second after a change, when the next may get the same time."""
    found = stamp(path)
    return found if time.time() - found[1] / 1e9 > 1.0 else object()
