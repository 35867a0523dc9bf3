"""Progress of one phase in bytes, told often enough to watch and seldom enough to cost nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

from rnnlm_tui.contract.metrics import Phase, Progress

ProgressCallback = Callable[[Progress], None]

INTERVAL_SECONDS = 0.1


class Meter:
    """Counts the bytes of a phase; the first word and the last one are always told."""

    def __init__(self, phase: Phase, total: int, callback: ProgressCallback, start: int = 0) -> None:
        """`start`: bytes that are done already."""
        self._phase: Phase = phase
        self._total = total
        self._callback = callback
        self._count = start
        self._next = 0.0
        self.advance(0)

    def advance(self, count: int) -> None:
        """So many bytes more."""
        self._count += count
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL_SECONDS
            self._callback(Progress(self._phase, min(self._count, self._total) if self._total else self._count, self._total))

    def restart(self) -> None:
        """A pass over the same bytes begins again."""
        self._count = 0

    def done(self) -> None:
        total = self._total or self._count
        self._callback(Progress(self._phase, total, total))
