"""What is nearest to a step of a run: checkpoint, evaluations and samples."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rnnlm_tui.tui.widgets.train_data import held_out

if TYPE_CHECKING:
    from rnnlm_tui.contract.metrics import CheckpointRow, EvaluationRow, SampleRow
    from rnnlm_tui.supervisor.monitor import RunSnapshot


def nearest_checkpoint(snapshot: RunSnapshot, step: float) -> CheckpointRow | None:
    """Return the checkpoint with the fewest steps between, the earlier of two; None without any."""
    return min(snapshot.checkpoints, key=lambda row: (abs(row.step - step), row.step), default=None)


def adjacent_evaluation(snapshot: RunSnapshot, step: float, by: int) -> EvaluationRow | None:
    """Return the next evaluation after a step (`by` 1) or the last before it (-1), if any."""
    rows = held_out(snapshot)
    steps = [row.step for row in rows]
    index = bisect_right(steps, step) if by > 0 else bisect_left(steps, step) - 1
    return rows[index] if 0 <= index < len(rows) else None


def latest_evaluation(evaluations: Sequence[EvaluationRow], step: float) -> EvaluationRow | None:
    """Return the last of the evaluations, sorted by step, up to this step; None before the first."""
    index = bisect_right([row.step for row in evaluations], step) - 1
    return evaluations[index] if index >= 0 else None


def snapshot_until(snapshot: RunSnapshot, step: float, older: Sequence[SampleRow] = ()) -> RunSnapshot:
    """Return the snapshot with only the samples up to a step, including `older` ones."""
    oldest = min((row.step for row in snapshot.samples), default=0)
    rows = (*snapshot.samples, *(row for row in older if row.step < oldest))
    return replace(snapshot, samples=tuple(row for row in rows if row.step <= step))
