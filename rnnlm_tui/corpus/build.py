"""Build folders atomically: under a lock, renamed when complete.

What a dead process left is resumed or removed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.corpora import UNFINISHED_PREFIX
from rnnlm_tui.system.files import fsync_file
from rnnlm_tui.system.locks import flocked, staging, sweep_staging

KEPT_SECONDS = 7 * 86_400.0
"""An unfinished folder that wasn't resumed for this long is removed."""

_WAIT_SECONDS = 0.2


@contextmanager
def claimed(folder: Path, is_done: Callable[[], bool], wait: Callable[[], None]) -> Iterator[bool]:
    """Yield True with exclusive access to `folder`, or False once another process is done.

    The folder is created if missing. Its files are kept, so that the next process can resume.

    Args:
        is_done: whether the work is complete.
        wait: called about five times a second while another process works; an exception stops
            waiting.

    Raises:
        StorageError: the folder can't be created or locked.
    """
    while not is_done():
        descriptor = _lock(folder)
        if descriptor is not None:
            try:
                if not is_done():
                    yield True
                    return
            finally:
                with suppress(OSError):
                    folder.rmdir()  # fails unless it is empty
                os.close(descriptor)
        else:
            wait()
            time.sleep(_WAIT_SECONDS)
    yield False


def _lock(folder: Path) -> int | None:
    """Create and lock a folder, and return its descriptor; None if another process has it."""
    with _lock_errors(folder):
        with root_lock(folder.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have finished and renamed the folder.
            if folder.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)
        return None


@contextmanager
def _lock_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"can't write or lock {folder}: {error.strerror or error}") from error


def publish(folder: Path, target: Path) -> bool:
    """Rename a finished folder to `target`; False if another process already created `target`."""
    for path in folder.iterdir():
        fsync_file(path)
    fsync_file(folder)
    try:
        folder.rename(target)
    except OSError as error:
        if target.is_dir():
            return False
        raise StorageError(f"can't write {target}: {error.strerror or error}") from error
    fsync_file(target.parent)
    return True


def empty(folder: Path) -> None:
    """Remove all files in a folder claimed by this process."""
    for path in folder.iterdir():
        path.unlink()


def discard(folder: Path) -> None:
    """Remove a damaged folder, renaming it first so that it isn't opened."""
    with suppress(FileNotFoundError), staging(folder.parent) as doomed:
        folder.rename(doomed / folder.name)


def move_unheld(folder: Path, place: Path) -> None:
    """Move a folder into another under its lock, so that no process builds in it.

    Raises:
        BlockingIOError: another process is building in it.
        OSError: the folder doesn't exist or can't be renamed.
    """
    with flocked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
        folder.rename(place / folder.name)


def sweep(root: Path) -> None:
    """Remove leftovers of dead processes below `root`, except for preparations that can be resumed.

    Raises:
        StorageError: `root` can't be read or locked.
    """
    if not root.is_dir():
        return
    sweep_staging(root)
    try:
        with root_lock(root):
            for folder in root.glob(f"{UNFINISHED_PREFIX}*"):
                if (
                    folder.is_dir()
                    and time.time() - folder.stat().st_mtime > KEPT_SECONDS
                    and not is_held(folder)
                ):
                    shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise StorageError(f"can't read or lock {root}: {error.strerror or error}") from error


@contextmanager
def root_lock(root: Path) -> Iterator[None]:
    """Lock `root` briefly, until a new folder is locked or a corpus is recorded as used.

    Raises:
        StorageError: `root` can't be created or locked.
    """
    with ExitStack() as held:
        with _lock_errors(root):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
            held.enter_context(flocked(root, fcntl.LOCK_EX))
        yield


def is_held(folder: Path) -> bool:
    """Whether a process is building in the folder."""
    try:
        with flocked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
    except (BlockingIOError, FileNotFoundError):
        return True
