"""Which checkpoints stay: the newest few and the best one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rnnlm_tui.contract.metrics import CheckpointRow


def best_step(losses: Iterable[tuple[int, float | None]]) -> int | None:
    """Step of the lowest validation loss among (step, loss), the earliest of equals; None where no finite loss is known."""
    known = [(loss, step) for step, loss in losses if loss is not None and math.isfinite(loss)]
    return min(known)[1] if known else None


def to_remove(rows: Sequence[CheckpointRow], keep_last: int) -> list[int]:
    """Steps of the checkpoints to remove, oldest first: all but the newest `keep_last` and the best by validation loss."""
    steps = sorted(row.step for row in rows)
    kept = {*steps[max(0, len(steps) - keep_last) :], best_step((row.step, row.validation_loss) for row in rows)}
    return [step for step in steps if step not in kept]
