"""The lock that a worker holds on its run, short locks on folders, and hidden folders for
unfinished files, which are held while their process lives; all are flock(2)."""

import fcntl
import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from rnnlm_tui.errors import RunStateError, StorageError
from rnnlm_tui.schema.formatting import LATEST
from rnnlm_tui.system.files import (
    PRIVATE_DIRECTORY,
    TEMPORARY_PREFIX,
    fsync_directory,
    make_private_directory,
    open_private,
    remove,
    storage_errors,
    text_of,
)

PATIENCE_SECONDS = 2.0
"""How long a worker retries: `read_lock` holds it for microseconds, a killed worker's child for a
moment."""
MAX_REASON = 300
"""Longest reason in the lock file, in characters."""
_FILE_BYTES = 4096
"""Fixed size of the lock file, one block: rewriting it needs no space on a full disk."""
STAGING_NAME = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}[0-9a-f]{{16}}")
"""The names of `staging` folders."""
REPLACED = "replaced"
"""A folder in a `staging` folder: what is moved there returns, unless something took its name."""
_STAGING_LOCK = "rnnlm-tui.lock"
_RETRY_SECONDS = 0.02
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_name() -> str:
    """This machine's name."""
    return socket.gethostname()


def boot_id() -> str:
    """Identify this boot of the machine. Only recorded with each attempt: a reboot frees every
    lock."""
    if found := text_of(_BOOT_ID).strip():
        return found
    import psutil  # imported late: only macOS and others without a boot id need it

    return f"booted-{psutil.boot_time():.0f}"


class LockPage(NamedTuple):
    """What the holder of a lock does at the moment, for readers; it isn't kept."""

    degraded: str = ""
    """Why it can't store its rows; empty if it can."""
    activity: str = ""
    """Why no step completes for a while: `evaluating`; empty during training."""
    progress: tuple[str, int, int] | None = None
    """Before the first step: the phase, and the bytes that are done and all bytes, 0 if unknown."""
    requests: tuple[dict[str, str | float], ...] = ()
    """The commands that it has received and not yet carried out."""


class LockState(NamedTuple):
    """The content of a lock file; all but `held` are None if it was never taken or is damaged."""

    held: bool
    pid: int | None = None
    started: float | None = None
    """Unix seconds."""
    host: str | None = None
    page: LockPage = LockPage()
    """What the holder does; empty if the lock is free."""
    touched: float | None = None
    """Unix seconds of the file's last change: the holder's heartbeat."""


class RunLock:
    """A run's lock. The kernel releases it when the process ends, however it ends; the file
    stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._started = 0.0
        self._page = LockPage()
        self._turn = Lock()

    def acquire(self, *, patience: float = PATIENCE_SECONDS) -> None:
        """Take the lock, and write into the file who holds it since when.

        Raises:
            RunStateError: another worker holds it; names its pid and start.
            StorageError: the file can't be opened or locked, or the run was just renamed or
                deleted.
        """
        self._started, self._page = time.time(), LockPage()
        with storage_errors("lock", self.path):
            descriptor = open_private(self.path, os.O_RDWR)
            try:
                if not _lock_exclusively(descriptor, patience):
                    raise RunStateError(
                        held_message(
                            self.path, _parse(os.pread(descriptor, _FILE_BYTES, 0), held=True)
                        ),
                        hint="only one worker at a time can train a run",
                    )
                _check_still_there(descriptor, self.path, self.path.parent.name)
                self._write(descriptor, self._page)
            except BaseException:
                os.close(descriptor)
                raise
        self._descriptor = descriptor

    def show(self, page: LockPage) -> None:
        """Write into the lock file what the holder does; threads may call it.

        Works on a full disk, since the file keeps its length. Requests that don't fit are left
        out. Each call also counts as a heartbeat.

        Raises:
            StorageError: the file can't be written.
        """
        page = page._replace(degraded=page.degraded[:MAX_REASON])
        with self._turn:
            if self._descriptor is None:
                return
            with storage_errors("write", self.path):
                if page == self._page:
                    os.utime(self._descriptor)
                else:
                    self._write(self._descriptor, page)
                    self._page = page

    def release(self) -> None:
        """Free the lock; a second call does nothing."""
        with self._turn:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _write(self, descriptor: int, page: LockPage) -> None:
        """Write one line of JSON, padded with spaces, in one call: a reader sees the old or the new
        one."""
        shown = page._asdict()
        holder = {"pid": os.getpid(), "started": self._started, "host": host_name(), "page": shown}
        while len(text := json.dumps(holder).encode()) >= _FILE_BYTES:
            shown["requests"] = shown["requests"][:-1]
        os.pwrite(descriptor, text.ljust(_FILE_BYTES - 1) + b"\n", 0)

    def __enter__(self) -> "RunLock":
        if self._descriptor is None:
            self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def read_lock(path: Path) -> LockState:
    """Look at a lock without keeping it. Takes it shared for a moment, so readers don't block each
    other.

    Raises:
        StorageError: the file exists and can't be opened or locked.
    """
    with storage_errors("look at", path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return LockState(held=False)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                held = False
            except BlockingIOError:
                held = True
            return _parse(os.pread(descriptor, _FILE_BYTES, 0), held=held)._replace(
                touched=os.fstat(descriptor).st_mtime
            )
        finally:
            os.close(descriptor)


@contextmanager
def flocked(path: Path, how: int, access: int = os.O_RDONLY) -> Iterator[int]:
    """Hold a lock on a file or folder, and yield its descriptor.

    Args:
        how: as in flock(2).
        access: O_RDWR for an exclusive lock on a file, which NFS gives only to writers.

    Raises:
        BlockingIOError: `how` has LOCK_NB, and another process holds it.
        OSError: it can't be opened or locked.
    """
    descriptor = os.open(path, access | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def folder_lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Lock a folder while one of its files is read and rewritten. Locks the folder itself, without
    a lock file.

    Raises:
        RunStateError: another process holds it, and this one doesn't wait.
        StorageError: the folder can't be opened or locked, or was just renamed or deleted.
    """
    with ExitStack() as held:
        with storage_errors("lock", folder):
            try:
                how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
                descriptor = held.enter_context(flocked(folder, how))
            except BlockingIOError:
                raise RunStateError(
                    f"another process is writing to {folder}", hint="wait for it, or end it first"
                ) from None
            _check_still_there(descriptor, folder, folder.name)
        yield


@contextmanager
def reading(*folders: Path) -> Iterator[None]:
    """Hold folders as one of their readers, so that nobody has their `folder_lock`.

    Nothing is held of a folder that is gone, or where the file system has no such locks.
    """
    with ExitStack() as held:
        for folder in folders:
            with suppress(OSError):
                held.enter_context(flocked(folder, fcntl.LOCK_SH))
        yield


@contextmanager
def staging(place: Path) -> Iterator[Path]:
    """Make a private, hidden folder in `place` for unfinished files; at the end it is removed, with
    all that wasn't moved out of it.

    A locked file in it shows that this process lives, also to other hosts of a network filesystem,
    where a lock on a folder wouldn't. Folders of processes that were killed are removed first.

    Raises:
        StorageError: `place` can't be written.
    """
    sweep_staging(place)
    with storage_errors("write into", place):
        folder, descriptor = _staging_folder(place)
    try:
        yield folder
    finally:
        _empty(folder)
        os.close(descriptor)
        with suppress(OSError):
            folder.rmdir()  # NFS keeps an unlinked file until it is closed


def _staging_folder(place: Path) -> tuple[Path, int]:
    """Make a staging folder and hold its lock; make another if a sweep has just removed it."""
    while True:
        folder = place / f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}"
        folder.mkdir(PRIVATE_DIRECTORY)
        lock = folder / _STAGING_LOCK
        with suppress(FileNotFoundError):
            folder.chmod(PRIVATE_DIRECTORY)  # whatever the umask
            descriptor = open_private(lock, os.O_RDWR)
            with suppress(OSError):  # a filesystem without locks: no sweep gets one either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if lock.exists():
                return folder, descriptor
            os.close(descriptor)


def put_staged(staged: Path, target: Path) -> None:
    """Rename what is complete in a `staging` folder to its place, durably. What is there goes, but
    returns if the process dies before.

    Raises:
        OSError: it can't be renamed; the end of `staging` brings back what was there.
    """
    if os.path.lexists(target):
        replaced = staged.parent / REPLACED
        make_private_directory(replaced)
        target.rename(replaced / target.name)
    staged.rename(target)
    fsync_directory(target.parent)


def sweep_staging(place: Path) -> None:
    """Remove the `staging` folders in `place` whose processes have ended."""
    with suppress(OSError):
        for folder in list(place.iterdir()):
            if STAGING_NAME.fullmatch(folder.name):
                _sweep(folder)


def _sweep(folder: Path) -> None:
    exclusively = fcntl.LOCK_EX | fcntl.LOCK_NB
    with suppress(OSError), flocked(folder / _STAGING_LOCK, exclusively, os.O_RDWR):
        _empty(folder)
    with suppress(OSError):
        folder.rmdir()  # fails unless it is empty


def _empty(folder: Path) -> None:
    """Empty a locked staging folder; what can't be removed is left for a later sweep."""
    with suppress(OSError):
        for path in (folder / REPLACED).glob("*"):
            if not os.path.lexists(folder.parent / path.name):
                path.rename(folder.parent / path.name)
        for path in folder.iterdir():
            if path.name != _STAGING_LOCK:
                remove(path)
        (folder / _STAGING_LOCK).unlink()  # last: without it, a sweep leaves the folder alone


def _check_still_there(descriptor: int, path: Path, name: str) -> None:
    """Refuse a file or folder that the previous holder of the lock renamed or deleted."""
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return
    raise StorageError(
        f"{name} was renamed or deleted just now", hint="`rnnlm-tui runs` shows what is left"
    )


def _lock_exclusively(descriptor: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_RETRY_SECONDS)
        else:
            return True


def _parse(text: bytes, *, held: bool) -> LockState:
    try:
        values = json.loads(text.partition(b"\n")[0])
        pid, started, host = int(values["pid"]), float(values["started"]), str(values["host"])
        if not 0 <= started <= LATEST:
            return LockState(held)
        page = _parse_page(values["page"]) if held else LockPage()
        return LockState(held, pid, started, host, page)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return LockState(held)


def _parse_page(values: dict[str, Any]) -> LockPage:
    progress, requests = values.get("progress"), values.get("requests", ())
    return LockPage(
        str(values.get("degraded", "")),
        str(values.get("activity", "")),
        None if progress is None else (str(progress[0]), int(progress[1]), int(progress[2])),
        tuple(request for request in requests if isinstance(request, dict)),
    )


def held_message(path: Path, state: LockState) -> str:
    """The message for a held lock: `plain-otter is running as pid 4242 since 2026-11-25
    13:56:11`."""
    name = path.parent.name
    if state.pid is None or state.started is None:
        return f"{name} is running: another process holds {path}"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.started))
    where = "" if state.host in (None, host_name()) else f" on {state.host}"
    return f"{name} is running as pid {state.pid}{where} since {since}"
