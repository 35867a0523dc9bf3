"""Disks: free space and filesystem types."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.formatting import disk
from rnnlm_tui.system.files import storage_errors

NETWORK_FILESYSTEMS = (
    "nfs", "cifs", "smb", "sshfs", "lustre", "gpfs", "beegfs", "ceph", "gluster", "afs", "panfs",
    "weka", "9p", "davfs", "s3fs", "gcsfuse", "rclone",
)  # fmt: skip
"""Parts of the names of filesystems on which SQLite is not reliable."""

SPACE_FACTOR = 2
"""A checkpoint needs this many times its size free: other programs write to the disk too."""
ROOM_FOR_ROWS = 2**20
"""Bytes to leave free for metrics, events and the log."""


def filesystem_here(path: Path) -> str:
    """The filesystem type of `path` or its nearest existing parent: `ext4`, `nfs4`; empty if
    unknown."""
    import psutil

    try:
        mounts = {
            partition.mountpoint: partition.fstype for partition in psutil.disk_partitions(all=True)
        }
    except OSError:
        return ""
    return filesystem_of(nearest_existing(path), mounts)


def nearest_existing(path: Path) -> Path:
    """The path itself or its nearest existing parent."""
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def filesystem_of(path: Path, mounts: Mapping[str, str]) -> str:
    """The filesystem type of `path`, from `mounts` (mount point to type)."""
    resolved = path.resolve()
    above = [point for point in mounts if resolved.is_relative_to(point)]
    return mounts[max(above, key=len)] if above else ""


def is_network(kind: str) -> bool:
    """Whether a filesystem type is one that several machines can mount at once."""
    return any(part in kind.lower() for part in NETWORK_FILESYSTEMS)


def disk_space(path: Path) -> tuple[int, int]:
    """(total, free) bytes of the disk of `path`, which need not exist yet; free is what this user
    can still write.

    Raises:
        StorageError: the disk can't be read.
    """
    with storage_errors("look at the disk of", path):
        found = shutil.disk_usage(nearest_existing(path))
    return found.total, found.free


def free_bytes(path: Path) -> int:
    """The free part of `disk_space`."""
    return disk_space(path)[1]


def require_space(path: Path, need: int, what: str) -> None:
    """Check that `need` bytes are free on the disk of `path`; `what` starts the message: `a
    checkpoint`.

    Raises:
        StorageError: less is free.
    """
    have = free_bytes(path)
    if have < need:
        raise StorageError(
            f"{what} needs {disk(need)} free on the disk of {path}, only {disk(have)} are",
            hint="free some space on this disk",
        )
