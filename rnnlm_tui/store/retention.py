"""Which checkpoints to keep: the newest, the best, every n-th step, the pinned, and at least two valid ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence

from rnnlm_tui.contract.metrics import CheckpointRow

VALID_AT_LEAST = 2
"""At least this many verified checkpoints are kept: if the newest is lost, another can be resumed from."""


def best_step(losses: Iterable[tuple[int, float | None]]) -> int | None:
    """The step with the lowest finite loss, the earliest of equals; None if there is none."""
    known = [(loss, step) for step, loss in losses if loss is not None and math.isfinite(loss)]
    return min(known)[1] if known else None


def removable_steps(rows: Sequence[CheckpointRow], keep_last: int, *, keep_every: int = 0, pinned: Collection[int] = ()) -> list[int]:
    """Steps of the checkpoints to remove, oldest first.

    Kept are the newest `keep_last`, the best by validation loss, multiples of `keep_every` (0: none)
    and the pinned.
    """
    steps = sorted(row.step for row in rows)
    kept = {*steps[max(0, len(steps) - keep_last) :], best_step((row.step, row.validation_loss) for row in rows), *pinned}
    return [step for step in steps if step not in kept and not (keep_every and step % keep_every == 0)]


def spare_valid(doomed: Sequence[int], kept: Sequence[int], is_valid: Callable[[int], bool]) -> list[int]:
    """Those of the `doomed` steps that can be removed while `VALID_AT_LEAST` valid checkpoints are left.

    Args:
        kept: steps that are kept anyway.
        is_valid: verifies a checkpoint; called for the newest first, and only as often as needed.
    """
    whole = 0
    for step in sorted(kept, reverse=True):
        whole += is_valid(step)
        if whole >= VALID_AT_LEAST:
            return list(doomed)
    spared: set[int] = set()
    for step in sorted(doomed, reverse=True):
        if whole < VALID_AT_LEAST and is_valid(step):
            spared.add(step)
            whole += 1
    return [step for step in doomed if step not in spared]
