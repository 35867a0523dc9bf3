"""Which checkpoints to keep: the newest, the best, every n-th step, the pinned and two valid."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from rnnlm_tui.errors import CheckpointError, InputError, NewerCheckpointError
from rnnlm_tui.schema.metrics import CheckpointRow
from rnnlm_tui.store.checkpoints import best_step, checkpoint_folders, read_checkpoints
from rnnlm_tui.store.labels import sound_labels
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory

VALID_AT_LEAST = 2
"""At least this many verified checkpoints are kept: if the newest is lost, another can be resumed
from."""


def kept_steps(
    rows: Sequence[CheckpointRow],
    keep_last: int,
    *,
    keep_every: int = 0,
    pinned: Collection[int] = (),
) -> dict[int, str]:
    """The checkpoints to keep, with the reasons in words: the newest `keep_last`, the best by
    validation loss, multiples of `keep_every` (0: none) and the pinned."""
    steps = sorted(row.step for row in rows)
    best = best_step((row.step, row.validation_loss) for row in rows)
    newest = set(steps[max(0, len(steps) - keep_last) :])
    kept = {}
    for step in steps:
        reasons = (
            ("best", step == best),
            ("pinned", step in pinned),
            ("newest", step in newest),
            (f"every {keep_every:,}", bool(keep_every) and step % keep_every == 0),
        )
        if words := [word for word, applies in reasons if applies]:
            kept[step] = ", ".join(words)
    return kept


def spare_valid(
    doomed: Sequence[int], kept: Iterable[int], is_valid: Callable[[int], bool]
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


def why_kept(run: RunDirectory, steps: Iterable[int]) -> dict[int, str]:
    """Why these checkpoints can't be deleted, in words; empty for those that can.

    Kept are the pinned, the best and the newest two valid ones. Damaged ones can be deleted unless
    they are pinned. The newest and the best are verified, which reads all their bytes. Runs that
    start from a checkpoint have their own copy of its weights.

    Raises:
        UnknownCheckpointError: there is no such checkpoint.
        StorageError: the folder can't be read.
    """
    wanted, folders = set(steps), dict(checkpoint_folders(run))
    for step in sorted(wanted - folders.keys()):
        raise run.no_checkpoint(step)

    @cache
    def is_valid(step: int) -> bool:
        """One of a newer version counts as valid."""
        try:
            verify_checkpoint(run.checkpoints_path / f"step-{step:09d}")
        except NewerCheckpointError:
            return True
        except CheckpointError:
            return False
        return True

    kept = dict.fromkeys(wanted & sound_labels(run).pins, "it is pinned: unpin it first")
    for step in wanted.difference(spare_valid([*wanted], folders, is_valid)):
        kept.setdefault(step, "a resume needs it: the newest two valid ones are kept")
    losses = {row.step: row.validation_loss for row in read_checkpoints(run)}
    while (best := best_step(losses.items())) is not None and not is_valid(best):
        del losses[best]
    if best in wanted:
        kept[best] = "it is the best: no other has a lower validation loss"
    return kept


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What a prune would delete, before it does."""

    goes: tuple[CheckpointRow, ...]
    """By step."""
    kept: Mapping[int, str]
    """Every other checkpoint by step, with the reason in words."""

    @property
    def bytes(self) -> int:
        """What it frees, once it is purged."""
        return sum(row.bytes for row in self.goes)


def plan_prune(run: RunDirectory, keep_last: int, keep_every: int = 0) -> PrunePlan:
    """Which checkpoints a prune deletes: all but the newest `keep_last`, multiples of `keep_every`
    (0: none), the best, the pinned, and what else can't be deleted.

    Raises:
        InputError: fewer than two, or a negative number.
        StorageError: a folder can't be read.
    """
    if keep_last < VALID_AT_LEAST:
        raise InputError(
            f"keep the newest {keep_last}: at least {VALID_AT_LEAST} are always kept",
            hint=f"use {VALID_AT_LEAST} or more",
        )
    if keep_every < 0:
        raise InputError(
            f"keep every {keep_every} steps: the number must be 0 or more", hint="0 keeps none"
        )
    rows = read_checkpoints(run)
    kept = kept_steps(rows, keep_last, keep_every=keep_every, pinned=sound_labels(run).pins)
    kept |= why_kept(run, [row.step for row in rows if row.step not in kept])
    return PrunePlan(tuple(row for row in rows if row.step not in kept), kept)
