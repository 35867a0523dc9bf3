"""Estimate a run's remaining time and its margin of error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import StepRow
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.summary import RunState

RATE_PARTS = 5
"""The recent steps are split into this many parts, whose spread gives the margin of the ETA."""
FOLLOW_SECONDS = 8.0
"""Time constant for following a changed estimate; near the end a quarter of the remaining time."""


class Eta(NamedTuple):
    """Remaining seconds and their margin of error."""

    seconds: float
    margin: float


MARGIN_SHARE = 0.25
"""The shown margin changes only if the new one differs by more than this share."""


class SteadyEta:
    """Smooths the shown remaining time: it counts down while new estimates agree within their
    margin, and follows them slowly otherwise.
    """

    def __init__(self) -> None:
        self._end: float | None = None
        self._margin = self._shown = 0.0
        self._seen = 0.0
        self._run: RunSummary | None = None

    def of(self, run: RunSummary, margin: float | None) -> Eta | None:
        """The ETA to show of a run now; None if unknown.

        Args:
            margin: of its `eta_seconds`.
        """
        before, self._run, now = self._run, run, monotonic()
        if run.eta_seconds is None or run.status != "running":
            self.forget()
        elif run is not before:
            if before is None or (before.run, before.attempt) != (run.run, run.attempt):
                self.forget()
            self.take(Eta(run.eta_seconds, margin or 0.0), now)
        return None if self._end is None else Eta(max(0.0, self._end - now), self._shown)

    def forget(self) -> None:
        """Start over with the next estimate, for example after a pause or for another run."""
        self._end = None

    def take(self, estimate: Eta, now: float) -> Eta:
        """The ETA to show after a new estimate; `now` in seconds of a monotonic clock."""
        end = now + estimate.seconds
        passed, self._seen = max(0.0, now - self._seen), now
        if self._end is None or abs(end - self._end) > max(1.0, estimate.seconds / 2):
            self._end, self._margin = end, estimate.margin  # a jump: a pause, other settings
        else:
            share = 1 - math.exp(-passed / max(1.0, min(FOLLOW_SECONDS, estimate.seconds / 4)))
            off = end - self._end
            self._end += share * math.copysign(max(0.0, abs(off) - estimate.margin), off)
            self._margin += share * (estimate.margin - self._margin)
        if abs(self._margin - self._shown) > MARGIN_SHARE * self._shown:
            self._shown = self._margin
        return Eta(max(0.0, self._end - now), self._shown)


def estimate_remaining(state: RunState) -> Eta | None:
    """Estimate the remaining time from the recent steps' training time and the mean cost of
    evaluations.

    None if unknown: the run isn't training, has no maximum, or too few steps.
    """
    steps, max_steps = state.recent, state.facts.max_steps
    if state.status not in ("running", "paused") or max_steps is None or len(steps) < 3:
        return None
    done = steps[-1].step
    left = max(0, max_steps - done)
    rate = (steps[-1].active_seconds - steps[0].active_seconds) / max(1, done - steps[0].step)
    evaluations = _evaluation_seconds(state, left, done)
    return Eta(left * rate + evaluations, left * _rate_spread(steps))


def _rate_spread(steps: Sequence[StepRow]) -> float:
    """Standard error of the seconds per step, from parts of the recent steps."""
    size = max(2, len(steps) // RATE_PARTS)
    parts = [steps[start : start + size] for start in range(0, len(steps) - 1, size)]
    rates = [
        (part[-1].active_seconds - part[0].active_seconds) / (part[-1].step - part[0].step)
        for part in parts
        if len(part) > 1
    ]
    if len(rates) < 2:
        return 0.0
    mean = fmean(rates)
    return math.sqrt(sum((rate - mean) ** 2 for rate in rates) / (len(rates) - 1) / len(rates))


def _evaluation_seconds(state: RunState, left: int, done: int) -> float:
    """Total time of the remaining evaluations, at the mean cost so far. The final test's own cost
    is unknown."""
    every = state.config.evaluation.every
    coming = (done + left) // every - done // every if every else 0
    return state.evaluations.seconds * (coming + (1 if left else 0))
