"""What lies nearest to a step of a run: its checkpoint, its evaluations, the samples that were drawn until then."""

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
    """The checkpoint that is fewest steps away, of two the earlier one; None where there is none."""
    return min(snapshot.checkpoints, key=lambda row: (abs(row.step - step), row.step), default=None)


def adjacent_evaluation(snapshot: RunSnapshot, step: float, by: int) -> EvaluationRow | None:
    """The next evaluation after a step (`by` 1) or the last one before it (-1); None where there is none."""
    rows = held_out(snapshot)
    steps = [row.step for row in rows]
    index = bisect_right(steps, step) if by > 0 else bisect_left(steps, step) - 1
    return rows[index] if 0 <= index < len(rows) else None


def latest_evaluation(evaluations: Sequence[EvaluationRow], step: float) -> EvaluationRow | None:
    """The newest of evaluations in the order of steps that was done until then; None where the first came later."""
    index = bisect_right([row.step for row in evaluations], step) - 1
    return evaluations[index] if index >= 0 else None


def snapshot_until(snapshot: RunSnapshot, step: float, older: Sequence[SampleRow] = ()) -> RunSnapshot:
    """The snapshot with the samples that had been drawn until that step, `older` ones that it no longer holds among them."""
    oldest = min((row.step for row in snapshot.samples), default=0)
    rows = (*snapshot.samples, *(row for row in older if row.step < oldest))
    return replace(snapshot, samples=tuple(row for row in rows if row.step <= step))
