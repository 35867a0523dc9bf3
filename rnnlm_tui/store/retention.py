"""Which checkpoints to keep: the newest, the best, every n-th step, the pinned, and two valid ones.

A pin is an empty file beside the checkpoint, so pinning needs no worker.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

from rnnlm_tui.errors import NewerCheckpointError
from rnnlm_tui.schema.metrics import CheckpointRow
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.files import entries_named, fsync_directory, open_private, storage_errors

VALID_AT_LEAST = 2
"""At least this many verified checkpoints are kept: if the newest is lost, another can be resumed
from."""

_PIN = re.compile(r"pinned-\d{9,12}")


def best_step(losses: Iterable[tuple[int, float | None]]) -> int | None:
    """The step with the lowest finite loss, the earliest of equals; None if there is none."""
    known = [(loss, step) for step, loss in losses if loss is not None and math.isfinite(loss)]
    return min(known)[1] if known else None


def removable_steps(
    rows: Sequence[CheckpointRow],
    keep_last: int,
    *,
    keep_every: int = 0,
    pinned: Collection[int] = (),
) -> list[int]:
    """Steps of the checkpoints to remove, oldest first.

    Kept are the newest `keep_last`, the best by validation loss, multiples of `keep_every` (0:
    none) and the pinned.
    """
    steps = sorted(row.step for row in rows)
    kept = {
        *steps[max(0, len(steps) - keep_last) :],
        best_step((row.step, row.validation_loss) for row in rows),
        *pinned,
    }
    return [
        step for step in steps if step not in kept and not (keep_every and step % keep_every == 0)
    ]


def spare_valid(
    doomed: Sequence[int], kept: Sequence[int], is_valid: Callable[[int], bool]
) -> list[int]:
    """Those of the `doomed` steps that can be removed: all but the newest `VALID_AT_LEAST` valid
    checkpoints.

    Args:
        kept: steps that are kept anyway.
        is_valid: verifies a checkpoint; called for the newest first, and only as often as needed.
    """
    whole, spared = 0, set[int]()
    for step in sorted({*doomed, *kept}, reverse=True):
        if whole >= VALID_AT_LEAST:
            break
        if is_valid(step):
            whole += 1
            spared.add(step)
    return [step for step in doomed if step not in spared]


def pinned_steps(run: RunDirectory) -> frozenset[int]:
    """Steps with a pin; the checkpoints are not verified.

    Raises:
        StorageError: the folder can't be read.
    """
    pins = entries_named(run.checkpoints_path, _PIN)
    return frozenset(int(pin.name.rpartition("-")[2]) for pin in pins)


def pin_checkpoint(run: RunDirectory, step: int) -> bool:
    """Pin a checkpoint; returns False if it was pinned already. Safe while a worker removes old
    ones.

    Raises:
        UnknownCheckpointError: no such checkpoint, or it was just removed.
        CheckpointError: names or sizes of its files don't match the manifest.
        StorageError: the pin can't be written, or the run's folder has a link.
    """
    from rnnlm_tui.store.manifest import check_sizes

    run.check_own_files()
    path = run.checkpoints_path / f"pinned-{step:09d}"
    folder = run.checkpoints_path / f"step-{step:09d}"
    if folder.is_dir():
        with suppress(NewerCheckpointError):
            check_sizes(folder)
    with storage_errors("pin", path):
        known = path.exists()
        if not known and run.checkpoints_path.is_dir():
            os.close(open_private(path, os.O_WRONLY))
            fsync_directory(path.parent)
        if folder.is_dir():
            return not known
        path.unlink(missing_ok=True)
    raise run.no_checkpoint(step)


def unpin_checkpoint(run: RunDirectory, step: int) -> bool:
    """Unpin a checkpoint; returns False if it was not pinned.

    Raises:
        StorageError: the pin can't be removed, or the run's folder has a link.
    """
    run.check_own_files()
    path = run.checkpoints_path / f"pinned-{step:09d}"
    with storage_errors("unpin", path):
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        fsync_directory(path.parent)
    return True
