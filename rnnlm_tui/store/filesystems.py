"""Which kind of filesystem holds a path, and whether databases and locks can be trusted on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

NETWORK_FILESYSTEMS: tuple[str, ...] = (
    "nfs", "cifs", "smb", "sshfs", "lustre", "gpfs", "beegfs", "ceph", "gluster", "afs", "panfs", "weka", "9p", "davfs", "s3fs", "gcsfuse", "rclone",
)  # fmt: skip
"""Parts of names of filesystems on which SQLite can't be trusted."""


def filesystem_here(path: Path) -> str:
    """The kind of the filesystem that holds `path`, or would: `ext4`, `nfs4`; empty where it can't be told."""
    import psutil

    try:
        mounts = {partition.mountpoint: partition.fstype for partition in psutil.disk_partitions(all=True)}
    except OSError:
        return ""
    return filesystem_of(nearest_existing(path), mounts)


def nearest_existing(path: Path) -> Path:
    """The path itself or the nearest folder above it that is there."""
    return next(candidate for candidate in (path, *path.parents) if candidate.exists())


def filesystem_of(path: Path, mounts: Mapping[str, str]) -> str:
    """The kind of the filesystem that holds `path`: of the longest of `mounts` (mount point to kind) above it."""
    resolved = path.resolve()
    above = [point for point in mounts if resolved.is_relative_to(point)]
    return mounts[max(above, key=len)] if above else ""


def is_network(kind: str) -> bool:
    """Whether a filesystem's kind is one that several machines may hold at once."""
    return any(part in kind.lower() for part in NETWORK_FILESYSTEMS)
