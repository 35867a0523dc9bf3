"""The type of a path's filesystem, and whether it is a network filesystem."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

NETWORK_FILESYSTEMS: tuple[str, ...] = (
    "nfs", "cifs", "smb", "sshfs", "lustre", "gpfs", "beegfs", "ceph", "gluster", "afs", "panfs", "weka", "9p", "davfs", "s3fs", "gcsfuse", "rclone",
)  # fmt: skip
"""Parts of the names of filesystems on which SQLite is not reliable."""


def filesystem_here(path: Path) -> str:
    """The filesystem type of `path` or its nearest existing parent: `ext4`, `nfs4`; empty if unknown."""
    import psutil

    try:
        mounts = {partition.mountpoint: partition.fstype for partition in psutil.disk_partitions(all=True)}
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
