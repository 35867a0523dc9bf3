"""Files and folders that are there whole or not at all, private to their owner, and on the disk when a call returns."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rnnlm_tui.errors import StorageError

PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600
TEMPORARY_PREFIX = ".tmp-"
"""What is half-made begins so: no run, checkpoint or corpus may have such a name."""

_HINTS = {
    errno.ENOSPC: "free some space on this disk and try again",
    errno.EDQUOT: "your disk quota is used up: free some space and try again",
    errno.EACCES: "set RNNLM_TUI_HOME to a folder that you may write to",
    errno.EROFS: "set RNNLM_TUI_HOME to a folder that you may write to",
    errno.ENOLCK: "this filesystem has no file locks: set RNNLM_TUI_HOME to a folder on another disk",
    errno.ELOOP: "it is a link, and what lies in the home is never written through one: put the file or folder itself there",
    errno.ENOTDIR: "a file stands where a folder is needed: move it, or set RNNLM_TUI_HOME to another folder",
}


@contextmanager
def storage_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside the block into a StorageError: `can't <doing> <path>: <why>`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"can't {doing} {path}: {error.strerror or error}", hint=_advice(error.errno or 0, path)) from error


def _advice(code: int, path: Path) -> str:
    """What to do about an error of the system; a run that lies at a place for good is helped by no other home for new ones."""
    run = next((folder for folder in list(path.parents)[:3] if os.path.isfile(folder / "config.toml")), None)  # noqa: PTH113 (false where one may not look)
    return folder_advice(run) if run is not None and code in (errno.EACCES, errno.EPERM, errno.EROFS) else _HINTS.get(code, "")


def folder_advice(run: Path) -> str:
    """What to do where a run's folder, or a database's, can't be written."""
    try:
        read_only = bool(os.statvfs(run).f_flag & os.ST_RDONLY)
    except OSError:
        read_only = False
    if read_only:
        return f"its disk is read-only: `show`, `sample` and `verify` work here; to write, copy {run.name} into the folder `runs` of a home on another disk"
    return f"look at the owner and the permissions of {run}"


def make_private_directory(path: Path, *, parents: bool = True) -> None:
    """Create a folder and its missing parents with mode 0700, whatever the umask; one that exists is left as it is.

    Args:
        parents: False where a missing parent was removed by somebody, and must not be made again.

    Raises:
        StorageError: it can't be created.
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
    """As `make_private_directory`, for a place where others may make folders too: one that is there must be this user's alone.

    Raises:
        StorageError: it can't be created, or somebody else owns it or may enter it.
    """
    make_private_directory(path)
    with storage_errors("look at", path):
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise StorageError(f"{path} is not a folder that only you can enter", hint="remove it, or make it yours alone")


def keep_private() -> None:
    """From now on everything that this process makes is its owner's alone, what its libraries write as well."""
    os.umask(0o777 & ~PRIVATE_DIRECTORY)


def open_private(path: Path, flags: int) -> int:
    """`os.open` with `flags` and O_CREAT; a file that is new gets mode 0600, whatever the umask. A link is refused: it might lead out of the home."""
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    except FileExistsError:
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE_FILE)
    os.fchmod(descriptor, PRIVATE_FILE)
    return descriptor


def read_at_most(path: Path, most: int) -> bytes:
    """Read a small file, without waiting for a pipe. A longer file can't be one of ours.

    Raises:
        OSError: it can't be read, or has more than `most` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        data = b""
        while part := os.read(descriptor, most + 1 - len(data)):
            data += part
            if len(data) > most:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return data
    finally:
        os.close(descriptor)


def free_aside_path(path: Path) -> Path:
    """A free path next to a file for its invalid content: `NAME.unusable`, or with a number appended."""
    names = (path.with_name(f"{path.name}.unusable{f'-{number}' if number else ''}") for number in (0, *range(2, 10_000)))
    return next(name for name in names if not os.path.lexists(name))


def move_aside(path: Path) -> Path:
    """Move an invalid file aside, so that the user can still get its content, and return its new path.

    Raises:
        StorageError: it can't be moved.
    """
    aside = free_aside_path(path)
    with storage_errors("move aside", path):
        path.rename(aside)
        fsync_directory(path.parent)
    return aside


def write_text_atomically(path: Path, text: str) -> None:
    """Write a file so that readers and a crash see the old text or the new one, never a part; mode 0600, fsynced.

    Raises:
        StorageError: it can't be written; the old file is untouched.
    """
    with storage_errors("write", path):
        descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=f"-{path.name}", dir=path.parent)
        try:
            os.fchmod(descriptor, PRIVATE_FILE)
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
        fsync_directory(path.parent)


def fsync_file(path: Path) -> None:
    """Wait until the file's bytes are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_directory(path: Path) -> None:
    """Wait until the folder's entries are on the disk: new names and renames survive a power cut from then on."""
    fsync_file(path)
