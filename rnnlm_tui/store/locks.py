"""RunLock: the flock that a worker holds for its whole life, and how others look at it; folder_lock: one writer at a time, for moments."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType

from rnnlm_tui.errors import RunStateError, StorageError
from rnnlm_tui.store.atomic import open_private, storage_errors

PATIENCE_SECONDS = 2.0
"""How long a worker asks again: probes share the lock for some microseconds, and a killed worker's child may hold it a moment longer."""
MAX_REASON = 300
"""Characters of a reason that the lock's file tells."""
_FILE_BYTES = 4096
"""The file is always as long, one block: writing it again needs no space on a full disk."""
_RETRY_SECONDS = 0.02
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_name() -> str:
    """This machine's name."""
    return socket.gethostname()


def boot_id() -> str:
    """Changes with every start of the machine; recorded with each attempt. Nothing has to compare it: a restart frees every lock."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        import psutil  # only where the kernel has no boot id, macOS for one

        return f"booted-{psutil.boot_time():.0f}"


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Who holds a lock, as the holder wrote it into the file."""

    pid: int
    started: float
    """Unix seconds."""
    boot_id: str
    host: str
    degraded: str = ""
    """Why the holder can't store what it measures; empty while it can."""

    @classmethod
    def of_this_process(cls) -> LockInfo:
        """This process, started now."""
        return cls(pid=os.getpid(), started=time.time(), boot_id=boot_id(), host=host_name())


@dataclass(frozen=True, slots=True)
class LockState:
    """What a look at a lock file told; all but `held` are None for a lock that was never taken, or whose text is damaged."""

    held: bool
    pid: int | None = None
    started: float | None = None
    boot_id: str | None = None
    host: str | None = None
    degraded: str = ""
    """Why the holder keeps what it measures in memory, as `RunLock.report_degraded` was told; empty while it stores it."""
    touched: float | None = None
    """Unix seconds of the file's last change: a holder that can't write elsewhere shows by it that it lives."""


class RunLock:
    """A run's lock, free until `acquire`. The kernel frees it with the process, however that ends; the file stays."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._info: LockInfo | None = None

    def acquire(self, info: LockInfo | None = None, *, patience: float = PATIENCE_SECONDS) -> None:
        """Take the lock and write `info` (this process when left out) into the file.

        Raises:
            RunStateError: another worker holds it, with its pid and since when.
            StorageError: the file can't be opened or locked, or the run was moved meanwhile.
        """
        info = info or LockInfo.of_this_process()
        self._info = info
        with storage_errors("lock", self.path):
            descriptor = open_private(self.path, os.O_RDWR)
            try:
                if not _lock_exclusively(descriptor, patience):
                    raise RunStateError(
                        held_message(self.path, _parse(os.pread(descriptor, _FILE_BYTES, 0), held=True)), hint="one worker at a time may train a run"
                    )
                _check_still_there(descriptor, self.path, self.path.parent.name)
                _write_info(descriptor, info)
            except BaseException:
                os.close(descriptor)
                raise
        self._descriptor = descriptor

    def report_degraded(self, degraded: str) -> None:
        """Say in the lock's file that this holder can't store what it measures, and why; empty: it can again.

        The file keeps its length, so this works on a full disk as well; that it is written at all shows that the holder lives.

        Raises:
            StorageError: the file can't be written.
        """
        if self._descriptor is None or self._info is None:
            return
        self._info = replace(self._info, degraded=degraded[:MAX_REASON])
        with storage_errors("write", self.path):
            _write_info(self._descriptor, self._info)

    def release(self) -> None:
        """Free the lock; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        if self._descriptor is None:
            self.acquire()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


def read_lock(path: Path) -> LockState:
    """Look at a lock without keeping it: shared for a moment, so that probes never meet each other.

    Raises:
        StorageError: the file is there and can't be opened or locked.
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
            return replace(_parse(os.pread(descriptor, _FILE_BYTES, 0), held=held), touched=os.fstat(descriptor).st_mtime)
        finally:
            os.close(descriptor)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Wait for one's turn to read a file of this folder and write it anew. The lock is the folder's own: no file has to stay for it.

    Raises:
        StorageError: the folder can't be opened or locked, or was moved meanwhile.
    """
    with storage_errors("lock", folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _check_still_there(descriptor, folder, folder.name)
        except BaseException:
            os.close(descriptor)
            raise
    try:
        yield
    finally:
        os.close(descriptor)


def _write_info(descriptor: int, info: LockInfo) -> None:
    """One line of JSON, filled up with spaces: whoever reads sees the old line or the new one."""
    text = json.dumps(asdict(info)).encode()
    os.pwrite(descriptor, text.ljust(_FILE_BYTES - 1) + b"\n", 0)


def _check_still_there(descriptor: int, path: Path, name: str) -> None:
    """Refuse a file or folder that does not lie at its path any more: whoever held its lock until now renamed or deleted the run."""
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return
    raise StorageError(f"{name} was renamed or deleted just now", hint="`rnnlm-tui runs` shows what is left")


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
        known = int(values["pid"]), float(values["started"]), str(values["boot_id"]), str(values["host"])
        return LockState(held, *known, degraded=str(values.get("degraded", "")) if held else "")
    except (ValueError, KeyError, TypeError):
        return LockState(held)


def held_message(path: Path, state: LockState) -> str:
    """`plain-otter is running as pid 4242 since 2026-11-25 13:56:11`, for a lock that is held."""
    name = path.parent.name
    if state.pid is None or state.started is None:
        return f"{name} is running: another process holds {path}"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state.started))
    where = "" if state.host in (None, host_name()) else f" on {state.host}"
    return f"{name} is running as pid {state.pid}{where} since {since}"
