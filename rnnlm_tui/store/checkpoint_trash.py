"""A run's deleted checkpoints: delete, restore, prune and purge them.

They wait in the folder `trash` of their run. A deleted checkpoint is purged by a deletion after
KEPT_DAYS, or when the run's disk has no space for the next checkpoint.
"""

from __future__ import annotations

import math
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.errors import (
    CheckpointError,
    InputError,
    NewerCheckpointError,
    RunStateError,
    StorageError,
    UnknownCheckpointError,
)
from rnnlm_tui.store.checkpoints import CheckpointEntry, checkpoint_folders, list_checkpoints
from rnnlm_tui.store.labels import note_path
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.retention import (
    VALID_AT_LEAST,
    best_step,
    pinned_steps,
    removable_steps,
)
from rnnlm_tui.store.verify import indexed_losses
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    fsync_directory,
    make_private_directory,
    storage_errors,
)
from rnnlm_tui.system.locks import folder_lock, read_lock

KEPT_DAYS = 7
"""Days that a deleted checkpoint is kept at least."""
_NAME = re.compile(r"step-(\d{9,12})\.(\d{10,12})\.([0-9a-f]{8})")
"""Step, Unix seconds of the deletion, and a number that checkpoints deleted together share."""
_NOTE_SUFFIX = ".note"


@dataclass(frozen=True, slots=True)
class TrashedCheckpoint:
    """A deleted checkpoint."""

    step: int
    path: Path
    """Its folder in the run's trash."""
    group: str
    """The same for all that were deleted together."""
    deleted: float
    """When it was deleted, in whole Unix seconds."""
    bytes: int
    """What a purge frees."""


def trash_path(run: RunDirectory) -> Path:
    """The folder of a run's deleted checkpoints."""
    return run.path / "trash"


def why_kept(run: RunDirectory, steps: Iterable[int]) -> dict[int, str]:
    """Why these checkpoints can't be deleted, in words; empty for those that can.

    Kept are the pinned, the best and the newest two valid ones. Damaged ones can be deleted unless
    they are pinned. The newest and the best are verified, which reads all their bytes. Runs that
    start from a checkpoint have their own copy of its weights.

    Raises:
        UnknownCheckpointError: there is no such checkpoint.
        StorageError: the folder can't be read.
    """
    wanted = set(steps)
    folders = dict(checkpoint_folders(run))
    for step in sorted(wanted - folders.keys()):
        raise UnknownCheckpointError(
            f"{run.name} has no checkpoint of step {step:,}",
            hint=f"`rnnlm-tui checkpoints {run.name}` lists them",
        )
    kept = dict.fromkeys(wanted & pinned_steps(run), "it is pinned: unpin it first")
    known: dict[int, bool] = {}

    def is_valid(step: int) -> bool:
        if step not in known:
            known[step] = _is_valid(folders[step])
        return known[step]

    newest = [step for step in _newest_valid(folders, is_valid) if step in wanted]
    living = read_lock(run.lock_path).held
    for step in newest:
        kept.setdefault(
            step,
            "the running worker needs it to resume: the newest two valid ones are kept"
            if living
            else "a resume needs it: the newest two valid ones are kept",
        )
    best = _best(run, is_valid)
    if best in wanted:
        kept[best] = "it is the best: no other has a lower validation loss"
    return kept


def delete_checkpoints(run: RunDirectory, steps: Collection[int]) -> list[TrashedCheckpoint]:
    """Move checkpoints to the run's trash, all of them or none. Safe while a worker trains.

    Raises:
        UnknownCheckpointError: there is no such checkpoint.
        RunStateError: one must be kept; says which and why.
        StorageError: one can't be moved, or the run's folder has a link, which could lead out of
            the home.
    """
    if not steps:
        return []
    run.check_own_files()
    make_private_directory(trash_path(run), parents=False)
    with storage_errors("look into", run.checkpoints_path), folder_lock(run.checkpoints_path):
        for step, why in why_kept(run, steps).items():
            raise RunStateError(f"{run.name}@{step} can't be deleted: {why}")
        now, earlier = int(time.time()), [one.deleted for one in list_trashed(run)]
        # whatever the clock says, the last deleted comes last
        stamp = max([now, *(int(deleted) + 1 for deleted in earlier)])
        suffix = f"{stamp:010d}.{secrets.token_hex(4)}"
        done: list[TrashedCheckpoint] = []
        try:
            for step in sorted(steps):
                done.append(_delete(run, step, suffix))  # noqa: PERF401 (undone if one fails)
        except BaseException:
            for trashed in done:
                with suppress(OSError):
                    _put_back(run, trashed)
            raise
    # One wrong clock must not purge anything: what counts is the time between two deletions, of
    # which neither is this one or in the future.
    seen = max((deleted for deleted in earlier if deleted <= now), default=0.0)
    purge_deleted(run, until=seen - KEPT_DAYS * 86_400)
    return done


def list_trashed(run: RunDirectory) -> list[TrashedCheckpoint]:
    """The deleted checkpoints of a run, the last deleted first, then by step; none if the trash is
    a link.

    Raises:
        StorageError: the trash can't be read.
    """
    folder = trash_path(run)
    if folder.is_symlink():
        return []
    with storage_errors("look into", folder):
        try:
            paths = [path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()]
        except FileNotFoundError:
            return []
    found = [
        TrashedCheckpoint(
            int(match[1]), path, f"{match[2]}.{match[3]}", float(match[2]), _bytes(path)
        )
        for path in paths
        if (match := _NAME.fullmatch(path.name))
    ]
    return sorted(found, key=lambda trashed: (-trashed.deleted, trashed.group, trashed.step))


def last_deleted(run: RunDirectory) -> list[TrashedCheckpoint]:
    """The checkpoints that were deleted together last; what an undo restores."""
    found = list_trashed(run)
    return [trashed for trashed in found if trashed.group == found[0].group]


def find_trashed(run: RunDirectory, which: str) -> TrashedCheckpoint:
    """The last deleted checkpoint of this step.

    Raises:
        UnknownCheckpointError: there is none in the trash.
    """
    found = list_trashed(run)
    digits = which.replace(",", "")
    if match := next((trashed for trashed in found if str(trashed.step) == digits), None):
        return match
    shown = which[:40] if which.isprintable() else repr(which[:40])
    raise UnknownCheckpointError(
        f"no checkpoint {shown} in the trash of {run.name}",
        hint=f"`rnnlm-tui trash {run.name}` lists them" if found else "its trash is empty",
    )


def restore_checkpoints(run: RunDirectory, trashed: Sequence[TrashedCheckpoint]) -> None:
    """Put deleted checkpoints back, with their notes.

    Raises:
        StorageError: one is no longer in the trash, or the run has saved the step again. Those
            before it are restored. Or the run's folder has a link.
    """
    run.check_own_files()
    make_private_directory(run.checkpoints_path, parents=False)
    with storage_errors("restore", trash_path(run)), folder_lock(run.checkpoints_path):
        for one in trashed:
            _check_there(run, one)
            if (run.checkpoints_path / f"step-{one.step:09d}").exists():
                raise StorageError(
                    f"step {one.step:,} can't be restored: {run.name} has saved that step again",
                    hint=f"delete {run.name}@{one.step} first",
                )
            _put_back(run, one)


def purge_checkpoints(run: RunDirectory, trashed: Iterable[TrashedCheckpoint]) -> int:
    """Remove deleted checkpoints permanently; returns the bytes freed.

    Raises:
        StorageError: one is no longer in the trash, or can't be removed completely.
    """
    freed = 0
    for one in trashed:
        _check_there(run, one)
        freed += _purge(one)
    return freed


def purge_deleted(run: RunDirectory, *, until: float = math.inf) -> int:
    """Purge what was deleted at `until` or before, and what an interrupted purge left; returns the
    bytes freed. A folder that can't be removed is left for the next time."""
    freed = 0
    with suppress(StorageError):
        freed = sum(_purge(one) for one in list_trashed(run) if one.deleted <= until)
    if not trash_path(run).is_symlink():
        for path in trash_path(run).glob(f"{TEMPORARY_PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)
    return freed


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """What a prune would delete, before it does."""

    goes: tuple[CheckpointEntry, ...]
    """By step."""
    kept: Mapping[int, str]
    """Every other checkpoint by step, with the reason in words."""

    @property
    def bytes(self) -> int:
        """What it frees, once it is purged."""
        return sum(entry.bytes for entry in self.goes)


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
    entries = {entry.step: entry for entry in list_checkpoints(run)}
    losses, pinned = indexed_losses(run), pinned_steps(run)
    rows = [entry.row(losses.get(step)) for step, entry in entries.items()]
    doomed = removable_steps(rows, keep_last, keep_every=keep_every, pinned=pinned)
    refused = why_kept(run, doomed)
    goes = [step for step in doomed if step not in refused]
    newest = sorted(entries)[-keep_last:]
    best = best_step((row.step, row.validation_loss) for row in rows)
    kept = {}
    for step in entries.keys() - set(goes):
        reasons = (
            ("best", step == best),
            ("pinned", step in pinned),
            ("newest", step in newest),
            (f"every {keep_every:,}", bool(keep_every) and step % keep_every == 0),
        )
        words = [word for word, applies in reasons if applies]
        kept[step] = ", ".join(words) or refused[step]
    return PrunePlan(tuple(entries[step] for step in goes), kept)


def _newest_valid(folders: Mapping[int, Path], is_valid: Callable[[int], bool]) -> list[int]:
    """The newest valid checkpoints that are always kept."""
    found: list[int] = []
    for step in sorted(folders, reverse=True):
        if is_valid(step):
            found.append(step)
        if len(found) >= VALID_AT_LEAST:
            break
    return found


def _is_valid(path: Path) -> bool:
    """Whether a checkpoint passes its verification; one of a newer version counts as valid."""
    try:
        verify_checkpoint(path)
    except NewerCheckpointError:
        return True
    except CheckpointError:
        return False
    return True


def _best(run: RunDirectory, is_valid: Callable[[int], bool]) -> int:
    """Step of the best valid checkpoint; -1: none was evaluated."""
    losses = indexed_losses(run)
    known = {
        entry.step: losses.get(entry.step, entry.validation_loss) for entry in list_checkpoints(run)
    }
    while (best := best_step(known.items())) is not None:
        if is_valid(best):
            return best
        del known[best]
    return -1


def _delete(run: RunDirectory, step: int, suffix: str) -> TrashedCheckpoint:
    source = run.checkpoints_path / f"step-{step:09d}"
    target = trash_path(run) / f"{source.name}.{suffix}"
    with storage_errors("delete", source):
        source.rename(target)
        if step in pinned_steps(run):
            # pin_checkpoint looks for the checkpoint after it wrote the pin: one of the two sees
            # the other
            target.rename(source)
            raise RunStateError(f"{run.name}@{step} can't be deleted: it was pinned just now")
        with suppress(FileNotFoundError):
            note_path(run, step).rename(_note_of(target))
        fsync_directory(source.parent)
        fsync_directory(target.parent)
    seconds, _, _ = suffix.partition(".")
    return TrashedCheckpoint(step, target, suffix, float(seconds), _bytes(target))


def _put_back(run: RunDirectory, trashed: TrashedCheckpoint) -> None:
    trashed.path.rename(run.checkpoints_path / f"step-{trashed.step:09d}")
    with suppress(FileNotFoundError):
        _note_of(trashed.path).rename(note_path(run, trashed.step))
    fsync_directory(trash_path(run))
    fsync_directory(run.checkpoints_path)


def _purge(trashed: TrashedCheckpoint) -> int:
    doomed = trashed.path.with_name(f"{TEMPORARY_PREFIX}{trashed.path.name}")
    with storage_errors("purge", trashed.path):
        try:
            trashed.path.rename(doomed)
        except FileNotFoundError:  # restored or purged just now
            return 0
        _note_of(trashed.path).unlink(missing_ok=True)
        shutil.rmtree(doomed)
    return trashed.bytes


def _check_there(run: RunDirectory, trashed: TrashedCheckpoint) -> None:
    path = trashed.path
    if (
        path.parent != trash_path(run)
        or not _NAME.fullmatch(path.name)
        or path.is_symlink()
        or not path.is_dir()
    ):
        raise StorageError(
            f"step {trashed.step:,} is no longer in the trash of {run.name}",
            hint=f"`rnnlm-tui trash {run.name}` lists what is",
        )


def _note_of(trashed: Path) -> Path:
    return trashed.with_name(f"{trashed.name}{_NOTE_SUFFIX}")


def _bytes(folder: Path) -> int:
    size = 0
    with suppress(OSError):
        for path in folder.iterdir():
            with suppress(OSError):
                size += path.lstat().st_size
    return size
