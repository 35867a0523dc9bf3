"""Allowance: the processor time that a thread beside the training may use, so that a flood of requests costs no steps."""

from __future__ import annotations

import time
from collections.abc import Callable


class Allowance:
    """A share of the time that passes, saved up while it isn't used.

    Made and asked in the thread that it is for: what counts is that thread's own processor time.

    Args:
        share: of one core, 0 to 1.
        most: seconds of processor time that can be saved up; a person's command never needs as much.
        used: seconds that this thread has computed.
        now: seconds, of any clock that only goes forward.
    """

    def __init__(self, share: float, most: float, *, used: Callable[[], float] = time.thread_time, now: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._most = self._left = most
        self._used, self._now = used, now
        self._last_used, self._last_now = used(), now()

    def rest(self) -> float:
        """Seconds to do nothing before the next piece of work; 0 while something is left."""
        used, now = self._used(), self._now()
        self._left = min(self._most, self._left + self._share * (now - self._last_now)) - (used - self._last_used)
        self._last_used, self._last_now = used, now
        return max(0.0, -self._left / self._share)
