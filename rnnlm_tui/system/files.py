"""Write private files and folders atomically and durably: old or new content, never a part."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from rnnlm_tui.errors import StorageError

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600
TEMPORARY_PREFIX = ".tmp-"
"""Prefix of unfinished files and folders; no run, checkpoint or corpus may have such a name."""

ResultT = TypeVar("ResultT")

_HINTS = {
    errno.ENOSPC: "free some space on this disk and try again",
    errno.EDQUOT: "your disk quota is used up: free some space and try again",
    errno.EACCES: "set RNNLM_TUI_HOME to a folder that you may write to",
    errno.EROFS: "set RNNLM_TUI_HOME to a folder that you may write to",
    errno.ENOLCK: (
        "this filesystem doesn't support file locks: set RNNLM_TUI_HOME to a folder on another disk"
    ),
    errno.ELOOP: (
        "it is a symbolic link, and the data home is never written through one: put the file or"
        " folder itself there"
    ),
    errno.ENOTDIR: (
        "a file is where a folder is needed: move it, or set RNNLM_TUI_HOME to another folder"
    ),
}


@contextmanager
def storage_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a StorageError: `can't <doing> <path>: <why>`, with the
    path of the file inside it that failed."""
    try:
        yield
    except OSError as error:
        failed = error.filename if f"{error.filename}".startswith(f"{path}/") else path
        raise StorageError(
            f"can't {doing} {failed}: {error.strerror or error}",
            hint=_advice(error.errno or 0, path),
        ) from error


def _advice(code: int, path: Path) -> str:
    """A hint for an OSError. Inside a run's folder, changing RNNLM_TUI_HOME would not help."""
    run = next(
        (folder for folder in list(path.parents)[:3] if os.path.isfile(folder / "config.toml")),  # noqa: PTH113
        None,
    )
    return (
        folder_advice(run)
        if run is not None and code in (errno.EACCES, errno.EPERM, errno.EROFS)
        else _HINTS.get(code, "")
    )


def folder_advice(run: Path) -> str:
    """A hint for a run's folder that can't be written."""
    try:
        read_only = bool(os.statvfs(run).f_flag & os.ST_RDONLY)
    except OSError:
        read_only = False
    if read_only:
        return (
            "its disk is read-only: `show`, `sample` and `verify` work here; to write, copy"
            f" {run.name} into the folder `runs` of a home on another disk"
        )
    return f"look at the owner and the permissions of {run}"


def make_private_directory(path: Path, *, parents: bool = True) -> None:
    """Create a folder and its missing parents with mode 0700, whatever the umask.

    An existing folder keeps its mode.

    Args:
        parents: False if a missing parent must not be created again.

    Raises:
        StorageError: the folder can't be created.
    """
    with storage_errors("create the folder", path):
        for folder in (*(reversed(path.parents) if parents else ()), path):
            if folder.is_dir():
                continue
            try:
                folder.mkdir(mode=PRIVATE_DIRECTORY)
            except FileExistsError:
                if not folder.is_dir():
                    raise
            else:
                folder.chmod(PRIVATE_DIRECTORY)


def make_own_directory(path: Path) -> None:
    """Like `make_private_directory`, where other users can create folders too, such as /tmp.

    Raises:
        StorageError: the folder can't be created, or another user owns it or can enter it.
    """
    make_private_directory(path)
    with storage_errors("look at", path):
        found = path.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.getuid()
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        raise StorageError(
            f"{path} must be a folder that only you can access",
            hint="remove it, or change its owner and permissions",
        )


def keep_private() -> None:
    """Set the umask so that all files of this process, also those of libraries, are private."""
    os.umask(0o777 & ~PRIVATE_DIRECTORY)


def open_private(path: Path, flags: int) -> int:
    """`os.open` with O_CREAT. A new file gets mode 0600, whatever the umask.

    A symbolic link is refused: it could point outside the data home.
    """
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    except FileExistsError:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
    os.fchmod(descriptor, PRIVATE_FILE)
    return descriptor


def text_of(path: Path) -> str:
    """What the system says in a file, such as one of /proc; empty if it can't be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_at_most(path: Path, most: int, *, links: bool = True) -> bytes:
    """Read a small file; never blocks on a pipe.

    Args:
        links: whether a symbolic link is followed.

    Raises:
        OSError: the file can't be read, or has more than `most` bytes.
    """
    no_links = 0 if links else os.O_NOFOLLOW
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | no_links)
    try:
        data = b""
        while part := os.read(descriptor, most + 1 - len(data)):
            data += part
            if len(data) > most:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return data
    finally:
        os.close(descriptor)


Stamp = tuple[int, int, int]
"""Size, modification time and inode of a file or folder; zeros if it is missing."""


def stamp(path: Path | str) -> Stamp:
    """A value that changes with a file's content or a folder's entries."""
    try:
        found = os.stat(path)  # noqa: PTH116 (thousands for a list: a Path doubles the cost)
    except OSError:
        return (0, 0, 0)
    return (found.st_size, found.st_mtime_ns, found.st_ino)


def free_aside_path(path: Path) -> Path:
    """A free path next to a file for its invalid content: `NAME.unusable`, or with a number
    appended."""
    names = (
        path.with_name(f"{path.name}.unusable{f'-{number}' if number else ''}")
        for number in (0, *range(2, 10_000))
    )
    return next(name for name in names if not os.path.lexists(name))


def move_aside(path: Path) -> Path:
    """Rename an invalid file, so that the user can still get its content, and return its new path.

    Raises:
        StorageError: the file can't be renamed.
    """
    aside = free_aside_path(path)
    with storage_errors("move aside", path):
        path.rename(aside)
        fsync_directory(path.parent)
    return aside


def folders_named(place: Path, name: re.Pattern[str]) -> list[Path]:
    """The folders in a place whose whole name matches, without links, in no order; none if the
    place is missing.

    Raises:
        StorageError: the place can't be read.
    """
    return [
        Path(entry.path)
        for entry in entries_named(place, name)
        if entry.is_dir(follow_symlinks=False)
    ]


def entries_named(place: Path, name: re.Pattern[str]) -> list[os.DirEntry[str]]:
    """As `folders_named`, but everything that has such a name."""
    with storage_errors("look into", place):
        try:
            with os.scandir(place) as entries:
                return [entry for entry in entries if name.fullmatch(entry.name)]
        except FileNotFoundError:
            return []


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder tree; unreadable ones are skipped."""
    size = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                size += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 (thousands of files: a Path for each would cost more than lstat)
    return size


def remove(path: Path) -> None:
    """Remove a file or link, or a folder with all its files; nothing happens if it is gone.

    Raises:
        OSError: it can't be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_whole(descriptor: int, data: bytes | memoryview) -> None:
    """Write all bytes, in as many calls as it takes.

    Raises:
        OSError: some couldn't be written.
    """
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def write_text_atomically(path: Path, text: str, *, modified: float | None = None) -> None:
    """Replace a file's text atomically, as `write_bytes_atomically` does.

    Raises:
        StorageError: the file can't be written; the old one is unchanged.
    """
    write_bytes_atomically(path, text.encode("utf-8"), modified=modified)


def write_bytes_atomically(path: Path, data: bytes, *, modified: float | None = None) -> None:
    """Replace a file's content atomically, also across a crash; mode 0600, fsynced.

    Args:
        modified: the file's time in Unix seconds; None: now.

    Raises:
        StorageError: the file can't be written; the old one is unchanged.
    """
    with storage_errors("write", path):
        descriptor, temporary = tempfile.mkstemp(
            prefix=TEMPORARY_PREFIX, suffix=f"-{path.name}", dir=path.parent
        )
        try:
            with suppress(OSError):  # a filesystem without locks
                # a worker that tidies the folder leaves it; nobody waits for it
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.fchmod(descriptor, PRIVATE_FILE)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                if modified is not None:
                    os.utime(file.fileno(), (modified, modified))
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
        fsync_directory(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Link a file that is never changed in place, or copy it where that isn't possible; a symbolic
    link isn't followed."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS):
            raise
        shutil.copyfile(source, target, follow_symlinks=False)
        target.chmod(PRIVATE_FILE)
        fsync_file(target)


def fsync_file(path: Path) -> None:
    """Wait until the file's content is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_directory(path: Path) -> None:
    """Wait until the folder's entries are on the disk, so that renames survive a power failure."""
    fsync_file(path)
