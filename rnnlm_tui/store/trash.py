"""The trash: delete, restore and purge runs."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.errors import RunNameError, StorageError, UnknownRunError, did_you_mean
from rnnlm_tui.store.paths import (
    DatabaseLocation,
    RunDirectory,
    database_location,
    remove_local_database,
    runs_dir,
    trash_dir,
)
from rnnlm_tui.store.runs import TRASHED, lock_run, move_in_place, trashed_paths
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    fsync_directory,
    make_private_directory,
    storage_errors,
)
from rnnlm_tui.system.locks import folder_lock

_STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, slots=True)
class TrashedRun:
    """A deleted run."""

    name: str
    """The run's name before it was deleted."""
    path: Path
    """Its folder in the trash."""
    deleted: float
    """When it was deleted, in whole Unix seconds."""
    bytes: int
    """Total size, including a database outside its folder: what a purge frees."""


def delete_run(run: RunDirectory) -> TrashedRun:
    """Move a run that isn't running to the trash.

    Raises:
        RunStateError: a worker holds the run.
        StorageError: the folder can't be moved.
    """
    make_private_directory(trash_dir())
    with lock_run(run, "deleted"):
        target = trash_dir() / f"{run.name}.{time.strftime(_STAMP)}.{secrets.token_hex(2)}"
        with folder_lock(run.path), storage_errors("delete", run.path):
            run.path.rename(target)
            fsync_directory(runs_dir())
            fsync_directory(trash_dir())
        return _trashed(target)


def list_trash() -> list[TrashedRun]:
    """The deleted runs, the last deleted first.

    Raises:
        StorageError: the trash can't be read.
    """
    return sorted(
        map(_trashed, trashed_paths()), key=lambda run: (run.deleted, run.path.name), reverse=True
    )


def find_trashed(name: str) -> TrashedRun:
    """The last deleted run with this name, or the deleted run with this folder name.

    Raises:
        UnknownRunError: there is none; suggests similar names.
    """
    found = list_trash()
    match = next((run for run in found if name in (run.name, run.path.name)), None)
    if match is not None:
        return match
    known = dict.fromkeys(run.name for run in found)
    hint = did_you_mean(name[:64], known) or (
        "`rnnlm-tui trash` lists deleted runs" if found else "the trash is empty"
    )
    raise UnknownRunError(
        f'no run "{name[:64]}" in the trash'
        if name[:64].isprintable()
        else f"no run {name[:64]!r} in the trash",
        hint=hint,
    )


def restore_run(trashed: TrashedRun, name: str | None = None) -> RunDirectory:
    """Restore a deleted run.

    Args:
        name: a new name for it.

    Raises:
        RunNameError: the name is invalid or taken.
        StorageError: the run is no longer in the trash, or can't be moved.
    """
    chosen = trashed.name if name is None else name
    _check_there(trashed)
    make_private_directory(runs_dir())
    try:
        return move_in_place(RunDirectory(trashed.path), trashed.name, chosen)
    except RunNameError as error:
        if name is not None:
            raise
        raise RunNameError(
            error.message,
            hint=f"`rnnlm-tui restore {trashed.name} --as NAME` restores it under another name",
        ) from error
    except StorageError:
        _check_there(trashed)
        raise


def purge(trashed: TrashedRun) -> int:
    """Remove a deleted run permanently, including a database outside its folder; returns the bytes
    freed.

    Raises:
        StorageError: the run is no longer in the trash, or can't be removed completely.
    """
    _check_there(trashed)
    place, size = _elsewhere(trashed.path), _bytes(trashed.path)
    being_purged = trash_dir() / f"{TEMPORARY_PREFIX}{trashed.path.name}"
    with folder_lock(trash_dir()), storage_errors("purge", trashed.path):
        trashed.path.rename(being_purged)
        if place is not None:
            remove_local_database(place)
        shutil.rmtree(being_purged)
        for left in trash_dir().glob(f"{TEMPORARY_PREFIX}*"):  # by a purge that was killed
            shutil.rmtree(left, ignore_errors=True)
        fsync_directory(trash_dir())
    return size


def _trashed(path: Path) -> TrashedRun:
    match = TRASHED.fullmatch(path.name)
    assert match is not None  # callers only pass matching names
    return TrashedRun(match[1], path, _unix_seconds(match[2]), _bytes(path))


def _unix_seconds(stamp: str) -> float:
    try:
        return time.mktime(time.strptime(stamp, _STAMP))
    except (ValueError, OverflowError):
        return 0.0


def _check_there(trashed: TrashedRun) -> None:
    if (
        trashed.path.parent != trash_dir()
        or not TRASHED.fullmatch(trashed.path.name)
        or trashed.path.is_symlink()
        or not trashed.path.is_dir()
    ):
        raise StorageError(
            f"{trashed.name} is no longer in the trash: {trashed.path}",
            hint="`rnnlm-tui trash` lists deleted runs",
        )


def _elsewhere(path: Path) -> DatabaseLocation | None:
    """The location of a database outside the run's folder; None if there is none or it is
    unknown."""
    try:
        return database_location(path)
    except StorageError:
        return None


def _bytes(path: Path) -> int:
    place = _elsewhere(path)
    folders = [path] if place is None else [path, place.path.parent]
    return sum(size for folder in folders for size in _sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    """Size of each file in a folder tree; unreadable ones are skipped."""
    for parent, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                yield os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 (thousands of files: a Path for each would cost more than lstat)
