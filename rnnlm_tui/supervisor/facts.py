"""RunFacts: what was read of a run at one moment, and values derived from it."""

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
"""Rates and the ETA are computed from at most this many newest steps."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Content of a run's database, lock and labels at one moment."""

    name: str
    config: RunConfig
    status: RunStatus
    meta: Mapping[str, str]
    attempt: int
    started: float | None
    """Unix seconds of the first attempt."""
    pid: int | None
    """The running worker's pid."""
    recent: Sequence[StepRow]
    """The newest steps in order."""
    evaluations: Evaluations
    checkpoints: Sequence[CheckpointRow]
    last_state: EventRow | None
    progress: Progress | None
    pinned: Collection[int] = ()
    """Steps of pinned checkpoints."""
    hardware: Sequence[HardwareRow] = ()
    """The newest machine readings in order."""
    labels: RunLabels = NO_LABELS
    config_path: str = ""
    """Path of the run's config, which a new run can start from."""
    newest_on_disk: int | None = None
    """Step of the newest checkpoint on disk; read if the worker crashed, maybe before it was indexed."""
    last_words: str = ""
    """Why the newest attempt failed, from the worker's log; read if the database has no reason."""
    degraded: str = ""
    """Why the running worker can't store its metrics; empty if it can."""

    def number(self, key: str) -> float | None:
        """A finite number among the meta values, or None."""
        return number(self.meta.get(key))


def last_activity_time(facts: RunFacts) -> float | None:
    """Unix seconds of the newest step, evaluation, checkpoint or state event."""
    times = [rows[-1].time for rows in (facts.recent, facts.evaluations.rows, facts.checkpoints) if rows]
    times += [facts.last_state.time] if facts.last_state is not None else []
    return max(times, default=None)


def median_step_seconds(facts: RunFacts) -> float | None:
    """Median duration of recent steps in seconds; before two steps, that of the trial step."""
    ends = [row.active_seconds for row in facts.recent if math.isfinite(row.active_seconds)]
    taken = [after - before for before, after in pairwise(ends)]
    return median(taken) if taken else facts.number(REHEARSED_KEY)


def number(text: str | None) -> float | None:
    """Parse a finite number; None for anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
