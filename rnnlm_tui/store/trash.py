"""The trash: runs that were deleted lie in it whole, to be restored, until somebody purges them."""

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
from rnnlm_tui.store.atomic import TEMPORARY_PREFIX, fsync_directory, make_private_directory, storage_errors
from rnnlm_tui.store.database_place import DatabaseLocation, database_location, remove_local_database
from rnnlm_tui.store.locations import runs_dir, trash_dir
from rnnlm_tui.store.locks import folder_lock
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.runs import TRASHED, lock_run, move_in_place, sweep_abandoned, trashed_paths

_STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, slots=True)
class TrashedRun:
    """One deleted run."""

    name: str
    """That it had."""
    path: Path
    """Where it lies now."""
    deleted: float
    """Unix seconds, whole ones."""
    bytes: int
    """Of all its files, those of a database that lies elsewhere as well: what a purge frees."""


def delete_run(run: RunDirectory) -> TrashedRun:
    """Move a run that nobody trains to the trash, whole.

    Raises:
        RunStateError: a worker holds it.
        StorageError: it can't be moved.
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
    """Every deleted run, the one that was deleted last first.

    Raises:
        StorageError: the trash can't be read.
    """
    return sorted(map(_trashed, trashed_paths()), key=lambda run: (run.deleted, run.path.name), reverse=True)


def find_trashed(name: str) -> TrashedRun:
    """The run in the trash that had this name, the one deleted last where there are several; or the one whose folder is called so.

    Raises:
        UnknownRunError: there is none, with near names.
    """
    found = list_trash()
    match = next((run for run in found if name in (run.name, run.path.name)), None)
    if match is not None:
        return match
    known = dict.fromkeys(run.name for run in found)
    hint = did_you_mean(name[:64], known) or ("`rnnlm-tui trash` lists what is in it" if found else "the trash is empty")
    raise UnknownRunError(f'no run "{name[:64]}" in the trash' if name[:64].isprintable() else f"no run {name[:64]!r} in the trash", hint=hint)


def restore_run(trashed: TrashedRun, name: str | None = None) -> RunDirectory:
    """Put a deleted run back among the runs.

    Args:
        name: another one than it had.

    Raises:
        RunNameError: the name is impossible, or a run has it by now.
        StorageError: it is not in the trash any more, or can't be moved.
    """
    chosen = trashed.name if name is None else name
    _check_there(trashed)
    make_private_directory(runs_dir())
    try:
        return move_in_place(RunDirectory(trashed.path), trashed.name, chosen)
    except RunNameError as error:
        if name is not None:
            raise
        raise RunNameError(error.message, hint=f"`rnnlm-tui restore {trashed.name} --as NAME` gives it another name") from error
    except StorageError:
        _check_there(trashed)
        raise


def purge(trashed: TrashedRun) -> int:
    """Remove a deleted run for good, its database elsewhere as well; returns the bytes that this freed.

    Raises:
        StorageError: it is not in the trash any more, or not all of it can be removed.
    """
    _check_there(trashed)
    place, size = _elsewhere(trashed.path), _bytes(trashed.path)
    half_gone = trash_dir() / f"{TEMPORARY_PREFIX}{trashed.path.name}"
    with storage_errors("purge", trashed.path):
        os.utime(trashed.path)  # half gone from now on: another purge must not sweep it as an hour old meanwhile
        trashed.path.rename(half_gone)
        if place is not None:
            remove_local_database(place)
        shutil.rmtree(half_gone)
        fsync_directory(trash_dir())
    sweep_abandoned(trash_dir())
    return size


def _trashed(path: Path) -> TrashedRun:
    match = TRASHED.fullmatch(path.name)
    assert match is not None  # the caller looked for such names
    return TrashedRun(match[1], path, _unix_seconds(match[2]), _bytes(path))


def _unix_seconds(stamp: str) -> float:
    try:
        return time.mktime(time.strptime(stamp, _STAMP))
    except (ValueError, OverflowError):
        return 0.0


def _check_there(trashed: TrashedRun) -> None:
    if trashed.path.parent != trash_dir() or not TRASHED.fullmatch(trashed.path.name) or trashed.path.is_symlink() or not trashed.path.is_dir():
        raise StorageError(f"{trashed.name} is not in the trash any more: {trashed.path}", hint="`rnnlm-tui trash` lists what is in it")


def _elsewhere(path: Path) -> DatabaseLocation | None:
    """Where the run's database lies when not in its folder; None too where that can't be told."""
    try:
        return database_location(path)
    except StorageError:
        return None


def _bytes(path: Path) -> int:
    place = _elsewhere(path)
    folders = [path] if place is None else [path, place.path.parent]
    return sum(size for folder in folders for size in _sizes(folder))


def _sizes(folder: Path) -> Iterator[int]:
    """Of each file below, in bytes; what can't be looked at counts nothing."""
    for parent, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                yield os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 (thousands of files: a Path each costs more than the look)
