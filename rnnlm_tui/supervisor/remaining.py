"""The time that is left of a run, and how far off that may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import StepRow
    from rnnlm_tui.supervisor.facts import RunFacts

RATE_PARTS = 5
"""The recent steps are cut into so many parts; their spread is the margin of the ETA."""
FOLLOW_SECONDS = 8.0
"""A time left that has proved wrong comes two thirds of the way in so long; near the end in a quarter of what is left."""


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds to the end and how far off that may be."""

    seconds: float
    margin: float


MARGIN_SHARE = 0.25
"""A shown margin stays until the true one is off it by more than this share."""


class SteadyEta:
    """The time left as it is shown: it counts down with the clock while new estimates agree within their margin, and follows them slowly where they don't."""

    def __init__(self) -> None:
        self._end: float | None = None
        self._margin = self._shown = 0.0
        self._seen = 0.0

    def forget(self) -> None:
        """The next estimate is a new beginning: the run paused, or another one shows."""
        self._end = None

    def take(self, estimate: Eta, now: float) -> Eta:
        """What to show of a new estimate; `now` in seconds of a clock that only goes forward."""
        end = now + estimate.seconds
        passed, self._seen = max(0.0, now - self._seen), now
        if self._end is None or abs(end - self._end) > max(1.0, estimate.seconds / 2):
            self._end, self._margin = end, estimate.margin  # something happened: a pause, other settings
        else:
            share = 1 - math.exp(-passed / max(1.0, min(FOLLOW_SECONDS, estimate.seconds / 4)))
            off = end - self._end
            self._end += share * math.copysign(max(0.0, abs(off) - estimate.margin), off)
            self._margin += share * (estimate.margin - self._margin)
        if abs(self._margin - self._shown) > MARGIN_SHARE * self._shown:
            self._shown = self._margin
        return Eta(max(0.0, self._end - now), self._shown)


def estimate_remaining(facts: RunFacts) -> Eta | None:
    """Time that is left: steps at the rate of the recent ones by their training clock, and the evaluations to come at their usual cost.

    None where it can't be told: nothing trains, no maximum, too few steps.
    """
    steps = [row for row in facts.recent if math.isfinite(row.active_seconds)]
    max_steps = facts.number("max_steps")
    if facts.status not in ("running", "paused") or max_steps is None or len(steps) < 3:
        return None
    done = steps[-1].step
    left = max(0, int(max_steps) - done)
    rate = (steps[-1].active_seconds - steps[0].active_seconds) / max(1, done - steps[0].step)
    evaluations = _evaluation_seconds(facts, left, done)
    return Eta(left * rate + evaluations, left * _rate_spread(steps))


def _rate_spread(steps: Sequence[StepRow]) -> float:
    """Standard error of the seconds a step, from the parts of the recent steps."""
    size = max(2, len(steps) // RATE_PARTS)
    parts = [steps[start : start + size] for start in range(0, len(steps) - 1, size)]
    rates = [(part[-1].active_seconds - part[0].active_seconds) / (part[-1].step - part[0].step) for part in parts if len(part) > 1]
    if len(rates) < 2:
        return 0.0
    mean = fmean(rates)
    return math.sqrt(sum((rate - mean) ** 2 for rate in rates) / (len(rates) - 1) / len(rates))


def _evaluation_seconds(facts: RunFacts, left: int, done: int) -> float:
    """What the evaluations still to come take together, as the ones so far did; the test at the end by its number of sentences' share is unknown and left out."""
    every = facts.config.evaluation.every
    coming = (done + left) // every - done // every if every else 0
    return facts.evaluations.seconds * (coming + (1 if left else 0))
