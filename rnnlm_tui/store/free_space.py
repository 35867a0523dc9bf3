"""How large a disk is and how much of it is free, and the refusal, with need and have, of what would not fit."""

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
"""So many times its size must be free before a checkpoint is begun: others write to this disk as well."""
ROOM_FOR_ROWS = 2**20
"""Bytes that are left free beside what is planned: for rows of metrics, events and the log."""


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write to the disk on which `path` is, or would be.

    Raises:
        StorageError: the disk can't be asked.
    """
    with storage_errors("look at the disk of", path):
        found = os.statvfs(nearest_existing(path))
    return found.f_bavail * found.f_frsize


def total_bytes(path: Path) -> int:
    """Size of the disk on which `path` is, or would be.

    Raises:
        StorageError: the disk can't be asked.
    """
    with storage_errors("look at the disk of", path):
        found = os.statvfs(nearest_existing(path))
    return found.f_blocks * found.f_frsize


def require_space(path: Path, need: int, what: str) -> None:
    """Refuse what would need `need` bytes on the disk of `path`; `what` begins the sentence: `a checkpoint`.

    Raises:
        StorageError: there is less.
    """
    have = free_bytes(path)
    if have < need:
        raise StorageError(f"{what} needs {disk(need)} free on the disk of {path}, {disk(have)} are", hint="free some space on this disk")


def is_full(error: BaseException | None) -> bool:
    """A full disk or a used-up quota is behind this error."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(error, sqlite3.Error) and (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF == sqlite3.SQLITE_FULL:
            return True
        error = error.__cause__
    return False
