"""RunFacts: what one look at a run's database and lock gave, and the figures that several others draw from it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from rnnlm_tui.contract.status import REHEARSED_KEY, RunStatus
from rnnlm_tui.store.labels import NO_LABELS, RunLabels

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.contract.metrics import CheckpointRow, EventRow, HardwareRow, Progress, StepRow
    from rnnlm_tui.supervisor.evaluations import Evaluations

RECENT_STEPS = 400
"""Rates and the ETA come from the newest steps, this many at most."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What one look at a run's database and lock gave."""

    name: str
    config: RunConfig
    status: RunStatus
    meta: Mapping[str, str]
    attempt: int
    started: float | None
    """Unix seconds of the first attempt."""
    pid: int | None
    """Of the living worker."""
    recent: Sequence[StepRow]
    """The newest steps, the oldest of them first."""
    evaluations: Evaluations
    checkpoints: Sequence[CheckpointRow]
    last_state: EventRow | None
    progress: Progress | None
    pinned: Collection[int] = ()
    """Steps of the checkpoints that a person keeps for good."""
    hardware: Sequence[HardwareRow] = ()
    """The newest readings, the oldest of them first."""
    labels: RunLabels = NO_LABELS
    """What a person says of it."""
    config_path: str = ""
    """The run's config, as a file that a new run can start from."""
    newest_on_disk: int | None = None
    """Step of the newest checkpoint's folder, where the worker ended before it could tell the database of it."""
    last_words: str = ""
    """Why the newest attempt failed, as the run's log has it; read where the worker ended and the database does not say so."""
    degraded: str = ""
    """Why the living worker can't store what it measures; empty while it can."""

    def number(self, key: str) -> float | None:
        """A finite number among the meta values; None where there is none."""
        return number(self.meta.get(key))


def last_activity_time(facts: RunFacts) -> float | None:
    """Wall clock of the newest sign that the loop moves: a step, an evaluation, a checkpoint, a change of state."""
    times = [rows[-1].time for rows in (facts.recent, facts.evaluations.rows, facts.checkpoints) if rows]
    times += [facts.last_state.time] if facts.last_state is not None else []
    return max(times, default=None)


def median_step_seconds(facts: RunFacts) -> float | None:
    """Median seconds of the recent steps; before there are two, of the one that was rehearsed."""
    ends = [row.active_seconds for row in facts.recent if math.isfinite(row.active_seconds)]
    taken = [after - before for before, after in pairwise(ends)]
    return median(taken) if taken else facts.number(REHEARSED_KEY)


def number(text: str | None) -> float | None:
    """A finite number of the run's facts; None where there is none, or something else stands there."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
