"""Build folders that several processes may want: one builds in a hidden folder under its lock, the
others wait and show its progress, and the complete folder is renamed."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from rnnlm_tui.schema.corpora import UNFINISHED_PREFIX
from rnnlm_tui.schema.metrics import Phase, Progress
from rnnlm_tui.system.files import (
    PRIVATE_DIRECTORY,
    fsync_file,
    make_private_directory,
    remove,
    storage_errors,
)
from rnnlm_tui.system.locks import flocked, put_staged, staging

ProgressCallback = Callable[[Progress], None]

INTERVAL_SECONDS = 0.1
SHARED_SECONDS = 0.5
"""How often the progress for waiting processes is written."""

_PROGRESS_NAME = "progress.json"
_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Progress)

_EXCLUSIVELY = fcntl.LOCK_EX | fcntl.LOCK_NB
_WAIT_SECONDS = 0.2


@contextmanager
def claimed(
    folder: Path, is_done: Callable[[], bool], progress: ProgressCallback, first: Phase
) -> Iterator[ProgressCallback | None]:
    """Have `folder` alone, or wait until another process is done.

    The folder is created if missing, and removed if it is empty at the end.

    Yields:
        A callback that also tells waiting processes the progress; None if another process is done.

    Args:
        is_done: whether the work is complete.
        progress: called about five times a second while another process works; an exception stops
            waiting.
        first: the phase that is reported until the other process stores its progress.

    Raises:
        StorageError: the folder can't be created or locked.
    """
    while not is_done():
        with ExitStack() as held:
            if _lock(folder, held):
                held.callback(_leave, folder)
                if not is_done():
                    yield _shared_progress(folder, progress)
                    return
            else:
                progress(_read_progress(folder, first))
                time.sleep(_WAIT_SECONDS)
    yield None


def _lock(folder: Path, held: ExitStack) -> bool:
    """Create and lock a folder; False if another process has it, or has just renamed it."""
    make_private_directory(folder.parent)
    with storage_errors("lock", folder), suppress(BlockingIOError, FileNotFoundError):
        folder.mkdir(PRIVATE_DIRECTORY, exist_ok=True)
        descriptor = held.enter_context(flocked(folder, _EXCLUSIVELY))
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    return False


def _leave(folder: Path) -> None:
    with suppress(OSError):
        _end_shared_progress(folder)
        folder.rmdir()  # fails unless it is empty


def publish(folder: Path, target: Path) -> None:
    """Rename a finished folder to `target`, durably, in place of whatever has this name.

    Raises:
        StorageError: it can't be renamed.
    """
    with storage_errors("write", target):
        for path in (*folder.iterdir(), folder):
            fsync_file(path)
        put_staged(folder, target)


def empty(folder: Path) -> None:
    """Remove all that is in a folder.

    Raises:
        StorageError: it can't be removed.
    """
    with storage_errors("remove all of", folder):
        for path in folder.iterdir():
            remove(path)


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
    with flocked(folder, _EXCLUSIVELY):
        folder.rename(place / folder.name)


def sweep(root: Path) -> None:
    """Remove what preparations that were killed left below `root`.

    Raises:
        StorageError: `root` can't be written.
    """
    if left := list(root.glob(f"{UNFINISHED_PREFIX}*")):
        with staging(root) as doomed:
            for folder in left:
                with suppress(OSError):
                    move_unheld(folder, doomed)


def is_held(folder: Path) -> bool:
    """Whether a process is building in the folder."""
    try:
        with flocked(folder, _EXCLUSIVELY):
            return False
    except (BlockingIOError, FileNotFoundError):
        return True


def _shared_progress(folder: Path, progress: ProgressCallback) -> ProgressCallback:
    """A callback that calls `progress` and stores it in a folder for waiting processes.

    It is stored at most every SHARED_SECONDS, and at each new phase.
    """
    next_time, phase = 0.0, ""

    def report(now: Progress) -> None:
        nonlocal next_time, phase
        if now.phase != phase or time.monotonic() >= next_time:
            next_time, phase = time.monotonic() + SHARED_SECONDS, now.phase
            temporary = folder / f"{_PROGRESS_NAME}.new"
            temporary.write_bytes(_PROGRESS.dump_json(now))
            temporary.replace(folder / _PROGRESS_NAME)
        progress(now)

    return report


def _end_shared_progress(folder: Path) -> None:
    """Remove the stored progress."""
    (folder / _PROGRESS_NAME).unlink(missing_ok=True)


def _read_progress(folder: Path, default: Phase) -> Progress:
    """The progress that another process stored in a folder; the start of a phase if there is
    none yet."""
    try:
        return _PROGRESS.validate_json((folder / _PROGRESS_NAME).read_bytes())
    except (OSError, ValidationError):
        return Progress(default)


class Meter:
    """Count the bytes of a phase and report them about every INTERVAL_SECONDS."""

    def __init__(
        self, phase: Phase, total: int, callback: ProgressCallback, start: int = 0
    ) -> None:
        """
        Args:
            start: bytes that are already done.
        """
        self._phase: Phase = phase
        self._total = total
        self._callback = callback
        self._count = start
        self._next = 0.0
        self.advance(0)

    def advance(self, count: int) -> None:
        """Add processed bytes."""
        self._count += count
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL_SECONDS
            self._callback(
                Progress(
                    self._phase,
                    min(self._count, self._total) if self._total else self._count,
                    self._total,
                )
            )

    def restart(self) -> None:
        """Start another pass over the same bytes."""
        self._count = 0

    def done(self) -> None:
        total = self._total or self._count
        self._callback(Progress(self._phase, total, total))
