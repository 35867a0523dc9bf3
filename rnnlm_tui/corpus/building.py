"""Folders that appear whole or not at all: built as `.tmp-…` under a lock, renamed when done, swept when their builder died."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rnnlm_tui.errors import StorageError

TEMPORARY_PREFIX = ".tmp-"


@contextmanager
def building_folder(root: Path, name: str) -> Iterator[Path]:
    """A new folder below `root` to build in; whatever is left of it at the end is removed.

    The builder holds a lock on the folder, so that others can tell one that is being built from what a dead process left.

    Raises:
        StorageError: `root` can't be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _root_lock(root):
            folder = root / f"{TEMPORARY_PREFIX}{name}-{secrets.token_hex(4)}"
            folder.mkdir(mode=0o700)
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        raise StorageError(f"{root} can't be written: {error.strerror or error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def publish(folder: Path, target: Path) -> bool:
    """Give a finished folder its name; False when another process was first and its folder stands."""
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)
    try:
        folder.rename(target)
    except OSError as error:
        if target.is_dir():
            return False
        raise StorageError(f"{target} can't be written: {error.strerror or error}") from error
    _sync(target.parent)
    return True


def discard(folder: Path) -> None:
    """Remove a damaged folder: out of the way first, then its files."""
    aside = folder.parent / f"{TEMPORARY_PREFIX}{folder.name}-{secrets.token_hex(4)}"
    with suppress(FileNotFoundError):
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def sweep(root: Path) -> None:
    """Remove what dead processes left half-built below `root`.

    Raises:
        StorageError: `root` can't be read or locked.
    """
    if not root.is_dir():
        return
    try:
        with _root_lock(root):
            for folder in root.glob(f"{TEMPORARY_PREFIX}*"):
                if folder.is_dir() and not _is_held(folder):
                    shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"{root} can't be read or locked: {error.strerror or error}") from error


def write_text_atomically(path: Path, text: str) -> None:
    """Replace a file in one step."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    temporary.write_text(text, encoding="utf-8")
    _sync(temporary)
    temporary.replace(path)


@contextmanager
def _root_lock(root: Path) -> Iterator[None]:
    """Held for moments: between making a folder and locking it, nobody may sweep."""
    descriptor = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_held(folder: Path) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
