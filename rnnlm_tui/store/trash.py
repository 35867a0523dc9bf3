"""The trash: delete, restore and purge runs, and checkpoints of a run.

Deleted runs wait in the folder `trash` of the data home until they are purged. Deleted checkpoints
wait in the folder `trash` of their run: a deletion purges them after KEPT_DAYS, and the worker when
the run's disk has no space for the next checkpoint.
"""

from __future__ import annotations

import math
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.errors import (
    RunNameError,
    StorageError,
    UnknownCheckpointError,
    UnknownRunError,
    did_you_mean,
)
from rnnlm_tui.store.manifest import CHECKPOINT_FOLDER
from rnnlm_tui.store.paths import RunDirectory, runs_dir, trash_dir
from rnnlm_tui.store.retention import why_kept
from rnnlm_tui.store.runs import DELETION, lock_run, move_in_place, shown_name, trashed_paths
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    folder_bytes,
    folders_named,
    fsync_directory,
    make_private_directory,
    storage_errors,
)
from rnnlm_tui.system.locks import folder_lock

KEPT_DAYS = 7
"""Days that a deleted checkpoint is kept at least."""
_CHECKPOINT = re.compile(CHECKPOINT_FOLDER.pattern + DELETION)


@dataclass(frozen=True, slots=True)
class Trashed:
    """A deleted run or checkpoint."""

    path: Path
    """Its folder in the trash: its former name, Unix seconds, and a number of the deletion."""
    bytes: int
    """What a purge frees."""
    run: RunDirectory | None = None
    """The run of a checkpoint; None: it is a run."""

    @property
    def name(self) -> str:
        """Its address before it was deleted: `plain-otter`, or `plain-otter@1500`."""
        return self._parts[0] if self.run is None else f"{self.run.name}@{self.step}"

    @property
    def step(self) -> int:
        """The step of a checkpoint."""
        return int(self._parts[0].rpartition("-")[2])

    @property
    def deleted(self) -> float:
        """When it was deleted, in whole Unix seconds."""
        return float(self._parts[1])

    @property
    def group(self) -> str:
        """The same for all checkpoints that were deleted together."""
        return ".".join(self._parts[1:])

    @property
    def _parts(self) -> list[str]:
        return self.path.name.rsplit(".", 2)


def trash_path(run: RunDirectory) -> Path:
    """The folder of a run's deleted checkpoints."""
    return run.path / "trash"


def list_trash(run: RunDirectory | None = None) -> list[Trashed]:
    """The deleted runs, or with a run its deleted checkpoints; the last deleted first, then by
    step. A run's trash that is a link counts as empty.

    Raises:
        StorageError: the trash can't be read.
    """
    if run is None:
        folders = trashed_paths()
    else:
        place = trash_path(run)
        folders = [] if place.is_symlink() else folders_named(place, _CHECKPOINT)
    found = [Trashed(path, folder_bytes(path), run) for path in folders]
    return sorted(found, key=lambda one: (-one.deleted, one.group, one.path.name))


def last_deleted(run: RunDirectory) -> list[Trashed]:
    """The checkpoints that were deleted together last; what an undo restores."""
    found = list_trash(run)
    return [one for one in found if one.group == found[0].group]


def find_trashed(name: str, run: RunDirectory | None = None) -> Trashed:
    """The last deleted run with this name, or the deleted run with this folder name; with a run,
    its last deleted checkpoint of this step.

    Raises:
        UnknownRunError, UnknownCheckpointError: there is none; suggests similar names.
    """
    found = list_trash(run)
    if run is not None:
        step = name.replace(",", "")
        if match := next((one for one in found if str(one.step) == step), None):
            return match
        raise UnknownCheckpointError(
            f"no checkpoint {shown_name(name)} in the trash of {run.name}",
            hint=f"`rnnlm-tui trash {run.name}` lists them" if found else "its trash is empty",
        )
    if match := next((one for one in found if name in (one.name, one.path.name)), None):
        return match
    raise UnknownRunError(
        f"no run {shown_name(name)} in the trash",
        hint=did_you_mean(name[:64], dict.fromkeys(one.name for one in found))
        or ("`rnnlm-tui trash` lists deleted runs" if found else "the trash is empty"),
    )


def delete_run(run: RunDirectory) -> Trashed:
    """Move a run that isn't running to the trash.

    Raises:
        RunStateError: a worker holds the run.
        StorageError: the folder can't be moved.
    """
    make_private_directory(trash_dir())
    with lock_run(run, "deleted"):
        target = trash_dir() / f"{run.name}.{_deletion(list_trash())}"
        with folder_lock(run.path), storage_errors("delete", run.path):
            run.path.rename(target)
            fsync_directory(runs_dir())
            fsync_directory(trash_dir())
        return Trashed(target, folder_bytes(target))


def delete_checkpoints(
    run: RunDirectory, steps: Collection[int]
) -> tuple[list[Trashed], dict[int, str]]:
    """Move those checkpoints to the run's trash that need not be kept. Safe while a worker trains.

    Returns:
        What was deleted, and by step why others were not.

    Raises:
        UnknownCheckpointError: there is no such checkpoint.
        StorageError: one can't be moved; those before it are in the trash. Or the run's folder has
            a link, which could lead out of the home.
    """
    if not steps:
        return [], {}
    run.check_own_files()
    make_private_directory(trash_path(run), parents=False)
    with folder_lock(run.path):
        kept = why_kept(run, steps)
        earlier, now = list_trash(run), time.time()
        deletion = _deletion(earlier)
        done = [_delete(run, step, deletion) for step in sorted(set(steps) - kept.keys())]
    # One wrong clock must not purge anything: what counts is the time between two deletions, of
    # which neither is this one or in the future.
    seen = max((one.deleted for one in earlier if one.deleted <= now), default=0)
    purge_deleted(run, until=seen - KEPT_DAYS * 86_400)
    return done, kept


def restore_run(trashed: Trashed, name: str | None = None) -> RunDirectory:
    """Restore a deleted run.

    Args:
        name: a new name for it.

    Raises:
        RunNameError: the name is invalid or taken.
        StorageError: the run is no longer in the trash, or can't be moved.
    """
    _check_there(trashed)
    make_private_directory(runs_dir())
    try:
        return move_in_place(RunDirectory(trashed.path), trashed.name if name is None else name)
    except RunNameError as error:
        if name is not None:
            raise
        raise RunNameError(
            error.message,
            hint=f"`rnnlm-tui restore {trashed.name} --as NAME` restores it under another name",
        ) from error


def restore_checkpoints(run: RunDirectory, trashed: Sequence[Trashed]) -> None:
    """Put deleted checkpoints back, with their notes.

    Raises:
        StorageError: one is no longer in the trash, or the run has saved the step again. Those
            before it are restored. Or the run's folder has a link.
    """
    run.check_own_files()
    make_private_directory(run.checkpoints_path, parents=False)
    with storage_errors("restore", trash_path(run)), folder_lock(run.path):
        for one in trashed:
            _check_there(one)
            target = run.checkpoints_path / f"step-{one.step:09d}"
            if target.exists():
                raise StorageError(
                    f"step {one.step:,} can't be restored: {run.name} has saved that step again",
                    hint=f"delete {one.name} first",
                )
            one.path.rename(target)
            fsync_directory(trash_path(run))
            fsync_directory(run.checkpoints_path)


def purge(trashed: Iterable[Trashed]) -> int:
    """Remove deleted runs or checkpoints permanently; returns the bytes freed.

    Raises:
        StorageError: one is no longer in the trash, or can't be removed completely. Those before it
            are removed.
    """
    freed = 0
    for one in trashed:
        _check_there(one)
        freed += _purge(one)
    return freed


def purge_deleted(run: RunDirectory, *, until: float = math.inf) -> int:
    """Purge the checkpoints deleted at `until` or before, and what an interrupted purge left;
    returns the bytes freed. A folder that can't be removed is left for the next time."""
    freed = 0
    with suppress(StorageError):
        for one in list_trash(run):
            if one.deleted <= until:
                freed += _purge(one)
    if not trash_path(run).is_symlink():
        _sweep(trash_path(run))
    return freed


def _deletion(earlier: Iterable[Trashed]) -> str:
    """What the names in the trash end with of what is deleted now. Whatever the clock says, the
    last deleted comes last."""
    seconds = max([time.time(), *(one.deleted + 1 for one in earlier)])
    return f"{int(seconds):010d}.{secrets.token_hex(4)}"


def _delete(run: RunDirectory, step: int, deletion: str) -> Trashed:
    source = run.checkpoints_path / f"step-{step:09d}"
    target = trash_path(run) / f"{source.name}.{deletion}"
    with storage_errors("delete", source):
        source.rename(target)
        fsync_directory(source.parent)
        fsync_directory(target.parent)
    return Trashed(target, folder_bytes(target), run)


def _purge(trashed: Trashed) -> int:
    doomed = trashed.path.with_name(f"{TEMPORARY_PREFIX}{trashed.path.name}")
    with folder_lock(doomed.parent), storage_errors("purge", trashed.path):
        try:
            trashed.path.rename(doomed)
        except FileNotFoundError:  # restored or purged just now
            return 0
        shutil.rmtree(doomed)
        _sweep(doomed.parent)
        fsync_directory(doomed.parent)
    return trashed.bytes


def _sweep(place: Path) -> None:
    """Remove what a killed purge left."""
    for path in place.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True)


def _check_there(trashed: Trashed) -> None:
    run, path = trashed.run, trashed.path
    place = trash_dir() if run is None else trash_path(run)
    if path.parent != place or path.is_symlink() or not path.is_dir():
        words = "trash" if run is None else f"trash {run.name}"
        raise StorageError(
            f"{trashed.name} is no longer in the trash: {path}",
            hint=f"`rnnlm-tui {words}` lists what is",
        )
