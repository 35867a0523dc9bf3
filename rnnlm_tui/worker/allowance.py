"""Allowance: the processor time that a thread beside the training may use, so that a flood of requests costs no steps."""

from __future__ import annotations

import time
from collections.abc import Callable

LONGEST_REST = 0.5
"""Seconds. Work that costs more than a rest of this length pays for is not the flood's: Python cleans up all of the process's objects in whichever
thread comes upon it, which takes a tenth of a second, and would silence the thread for half a minute."""


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
        """Seconds to do nothing before the next piece of work, `LONGEST_REST` at most; 0 while something is left."""
        used, now = self._used(), self._now()
        left = min(self._most, self._left + self._share * (now - self._last_now)) - (used - self._last_used)
        self._left = max(left, -self._share * LONGEST_REST)
        self._last_used, self._last_now = used, now
        return max(0.0, -self._left / self._share)
