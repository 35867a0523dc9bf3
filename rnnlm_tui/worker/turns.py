"""Turns: which process was served how often lately, so that one that asks without end holds up itself and nobody else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

MEMORY_SECONDS = 5.0
"""Turns are counted for so long, then anew."""


class Turns:
    """Counts turns by process.

    Args:
        now: seconds, of any clock that only goes forward.
    """

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._counts: Counter[int] = Counter()
        self._since = now()

    def count(self, peer: int) -> None:
        """One more for this process."""
        if self._now() - self._since >= MEMORY_SECONDS:
            self._counts.clear()
            self._since = self._now()
        self._counts[peer] += 1

    def of(self, peer: int) -> int:
        """How many this process had lately."""
        return self._counts[peer]
