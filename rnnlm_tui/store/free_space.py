"""Size and free space of a disk, and a check before large writes."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from rnnlm_tui.contract.figures import disk
from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.atomic import storage_errors
from rnnlm_tui.store.filesystems import nearest_existing

SPACE_FACTOR = 2
"""A checkpoint needs this many times its size free: other programs write to the disk too."""
ROOM_FOR_ROWS = 2**20
"""Bytes to leave free for metrics, events and the log."""


def free_bytes(path: Path) -> int:
    """Bytes that this user can still write to the disk of `path`, which need not exist yet.

    Raises:
        StorageError: the disk can't be read.
    """
    with storage_errors("look at the disk of", path):
        found = os.statvfs(nearest_existing(path))
    return found.f_bavail * found.f_frsize


def total_bytes(path: Path) -> int:
    """Size of the disk of `path`, which need not exist yet.

    Raises:
        StorageError: the disk can't be read.
    """
    with storage_errors("look at the disk of", path):
        found = os.statvfs(nearest_existing(path))
    return found.f_blocks * found.f_frsize


def require_space(path: Path, need: int, what: str) -> None:
    """Check that `need` bytes are free on the disk of `path`; `what` starts the message: `a checkpoint`.

    Raises:
        StorageError: less is free.
    """
    have = free_bytes(path)
    if have < need:
        raise StorageError(f"{what} needs {disk(need)} free on the disk of {path}, only {disk(have)} are", hint="free some space on this disk")


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota caused this error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, sqlite3.Error) and (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_FULL:
            return True
        error = error.__cause__
    return False
