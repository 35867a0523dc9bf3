"""Which checkpoints stay: the newest few, the best one, every so many steps one, the pinned, and never fewer than two that are whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence

from rnnlm_tui.contract.metrics import CheckpointRow

VALID_AT_LEAST = 2
"""So many checkpoints whose every byte is right stay, whatever else is kept: should the newest be lost, there is one to go on from."""


def best_step(losses: Iterable[tuple[int, float | None]]) -> int | None:
    """Step of the lowest validation loss among (step, loss), the earliest of equals; None where no finite loss is known."""
    known = [(loss, step) for step, loss in losses if loss is not None and math.isfinite(loss)]
    return min(known)[1] if known else None


def removable_steps(rows: Sequence[CheckpointRow], keep_last: int, *, keep_every: int = 0, pinned: Collection[int] = ()) -> list[int]:
    """Steps of the checkpoints that nothing keeps, oldest first.

    Kept are the newest `keep_last`, the best by validation loss, those at multiples of `keep_every` (0: none of them for that), and the pinned.
    """
    steps = sorted(row.step for row in rows)
    kept = {*steps[max(0, len(steps) - keep_last) :], best_step((row.step, row.validation_loss) for row in rows), *pinned}
    return [step for step in steps if step not in kept and not (keep_every and step % keep_every == 0)]


def spare_valid(doomed: Sequence[int], kept: Sequence[int], is_valid: Callable[[int], bool]) -> list[int]:
    """Of the `doomed` steps those that may go, so that `VALID_AT_LEAST` whole checkpoints are left.

    Args:
        kept: steps that stay anyway.
        is_valid: reads every byte of a checkpoint; asked of the newest first, and no oftener than needed.
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
