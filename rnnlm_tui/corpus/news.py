"""The source `news`: the book's news sentences, downloaded once to `<corpora>/news`.

The archive isn't trusted: its paths, links and sizes are checked before anything is written.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import tarfile
import time
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from rnnlm_tui.corpus.build import publish, sweep
from rnnlm_tui.corpus.download import (
    Archive,
    Meter,
    ProgressCallback,
    discard_part,
    fetch,
    read_note,
)
from rnnlm_tui.corpus.text_files import hash_files
from rnnlm_tui.errors import CorpusError, StorageError
from rnnlm_tui.schema.formatting import disk
from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.system.disk import free_bytes
from rnnlm_tui.system.locks import staging

MAX_EXPANSION = 60
"""Limit on unpacked size relative to the archive's size; text compresses to a third or a fourth."""

ALWAYS_ALLOWED_BYTES = 64 * 2**20
"""Unpacked size that is always allowed, because small samples with repeated lines compress well."""

HEADER_BYTES = 1 << 20
"""Limit on the size of all headers (about 2,000 files), which tarfile keeps in memory."""

_BLOCK = 1 << 18

FreeBytes = Callable[[Path], int]
"""Returns the bytes that can still be written in a folder."""


def check_python() -> None:
    """Raise CorpusError if this Python can't unpack untrusted archives safely."""
    if not hasattr(tarfile, "data_filter"):
        raise CorpusError(
            "this Python can't unpack archives safely",
            hint="use Python 3.11.4 or newer, or unpack the archive yourself into a folder",
        )


def unpack(
    archive: Path,
    wanted: Collection[str],
    folder: Path,
    progress: ProgressCallback,
    free: FreeBytes = free_bytes,
) -> None:
    """Extract the files named `wanted`, from the top level or a folder of the archive.

    The archive is read to its end to verify its checksum, in constant memory.

    Args:
        progress: called with the phase `unpacking` and bytes of the archive; an exception stops it.

    Raises:
        CorpusError: the archive is damaged or not a tar, lacks a file or contains it twice, or
            contains something suspicious: absolute paths, `..`, links, devices, too many headers,
            or far more data than its size.
        StorageError: the disk is too small.
    """
    check_python()
    try:
        with archive.open("rb", buffering=0) as packed, gzip.GzipFile(fileobj=packed) as unpacked:
            meter = Meter("unpacking", archive.stat().st_size, progress)
            stream = _Bounded(
                unpacked,
                packed.tell,
                meter,
                MAX_EXPANSION * archive.stat().st_size + ALWAYS_ALLOWED_BYTES,
            )
            found = _take_out(stream, set(wanted), folder, free)
            while stream.read(_BLOCK):  # up to the checksum after the last file
                pass
            meter.done()
    except tarfile.FilterError as error:
        raise _unsafe(str(error)) from error
    except RecursionError as error:  # tarfile reads chained headers recursively
        raise _unsafe("it has hundreds of headers for one file") from error
    except (
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        tarfile.TarError,
        ValueError,
    ) as error:  # tarfile doesn't check all numbers
        raise CorpusError(
            f"the archive is damaged or not a tar archive: {error}",
            hint="download it again, or set another corpus.url",
        ) from error
    except OSError as error:
        raise StorageError(
            f"can't write to {folder}: {error.strerror or error}",
            hint=f"{disk(free(folder))} are free",
        ) from error
    if missing := set(wanted) - set(found):
        held = ", ".join(sorted(found)) or "neither"
        raise CorpusError(
            f"{' and '.join(sorted(missing))} not found in the archive, it contains {held}",
            hint="corpus.url must be an archive with train.txt and test.txt",
        )
    if empty := [name for name in wanted if not (folder / name).stat().st_size]:
        raise CorpusError(f"{empty[0]} in the archive is empty")


def _take_out(stream: _Bounded, wanted: set[str], folder: Path, free: FreeBytes) -> list[str]:
    found: list[str] = []
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as archive:  # type: ignore[call-overload]
        for member in archive:
            _check(member)
            stream.pass_content(member.size if member.isreg() else 0)
            path = PurePosixPath(member.name)
            if not member.isreg() or path.name not in wanted or len(path.parts) > 2:
                continue
            if path.name in found:
                raise CorpusError(f"the archive contains {path.name} twice")
            have = free(folder)
            if member.size > have:
                raise StorageError(
                    f"not enough disk space in {folder.parent} for {path.name}: needs"
                    f" {disk(member.size)}, {disk(have)} free",
                    hint="free some space, or set RNNLM_TUI_HOME to a folder on a larger disk",
                )
            archive.extract(
                member.replace(name=path.name, deep=False), folder, set_attrs=False, filter="data"
            )
            found.append(path.name)
    stream.end_headers()
    return found


def _check(member: tarfile.TarInfo) -> None:
    """Reject the archive if a member has an unsafe path, size or type."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise _unsafe(f"{member.name[:80]!r} is outside its folder")
    if member.size < 0:
        raise _unsafe(f"{member.name[:80]!r} has a negative size")
    if not (member.isreg() or member.isdir()) or member.issparse():
        kind = (
            "a link"
            if member.issym() or member.islnk()
            else "a sparse file"
            if member.issparse()
            else "a device or another special file"
        )
        raise _unsafe(f"{member.name[:80]!r} is {kind}")


def _unsafe(what: str) -> CorpusError:
    return CorpusError(
        f"the archive is unsafe: {what}",
        hint="check corpus.url; the archive must contain only regular files",
    )


class _Bounded:
    """An unpacked stream that reports progress and limits the size of its data and headers."""

    def __init__(
        self, unpacked: gzip.GzipFile, position: Callable[[], int], meter: Meter, limit: int
    ) -> None:
        self._unpacked, self._position, self._meter, self._limit = unpacked, position, meter, limit
        self._read = self._reported = 0
        self._headers_until: int | None = HEADER_BYTES + _BLOCK
        """Position before which the last header must end (tarfile reads a block ahead)."""

    def read(self, size: int) -> bytes:
        """Read up to `size` unpacked bytes."""
        data = self._unpacked.read(size)
        self._read += len(data)
        self._allow(0)
        if self._headers_until is not None and self._read > self._headers_until:
            raise _unsafe(f"its headers have more than {disk(HEADER_BYTES)}")
        position = self._position()
        self._meter.advance(position - self._reported)
        self._reported = position
        return data

    def pass_content(self, size: int) -> None:
        """Allow a file before the next header; raise CorpusError if it exceeds the limit."""
        self._allow(size)
        if self._headers_until is not None:
            self._headers_until += -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

    def end_headers(self) -> None:
        """Allow any data from here on, because the last header was read."""
        self._headers_until = None

    def _allow(self, more: int) -> None:
        if self._read + more > self._limit:
            raise _unsafe(f"it would unpack to more than {disk(self._limit)}")


NEWS = "news"
"""The value of `corpus.source`, and the folder's name."""

FILES: tuple[str, ...] = ("test.txt", "train.txt")
"""The files used from the archive, sorted by name."""

RECORD_NAME = "source.json"

TEXT_PER_ARCHIVE = 3.5
"""Largest ratio of text to its gzip archive; English compresses to about a third."""

DISK_PER_TEXT = 2.6
"""Disk space needed per byte of text.

The text, a cleaned copy (removed at the end), and about 0.5 bytes of token ids and offsets.
"""

_WAIT_SECONDS = 0.2


class _FileFacts(BaseModel):
    model_config = ConfigDict(frozen=True)

    bytes: int
    modified_ns: int


class NewsRecord(BaseModel):
    """The file `source.json`: where the texts next to it were downloaded from."""

    model_config = ConfigDict(frozen=True)

    url: str
    bytes: int
    """Size of the archive."""
    sha256: str
    """Hash of the archive."""
    fetched: str
    """ISO 8601, UTC."""
    text_sha256: str
    """`hash_files` of both texts, valid while their sizes and modification times are the same."""
    files: dict[str, _FileFacts]


def news_files(root: Path) -> list[Path] | None:
    """The paths of both texts below the corpora folder; None if they are missing."""
    paths = [root / NEWS / name for name in FILES]
    return paths if all(path.is_file() for path in paths) else None


def news_record(root: Path) -> NewsRecord | None:
    """The record of downloaded texts; None if the user put the texts there or changed them."""
    paths = news_files(root)
    try:
        record = NewsRecord.model_validate_json((root / NEWS / RECORD_NAME).read_bytes())
        return record if paths and record.files == _facts(paths) else None
    except (OSError, ValidationError):
        return None


def news_fingerprint(root: Path, paths: list[Path], advance: Callable[[int], None]) -> str:
    """SHA-256 of the texts, from the record if possible: reading gigabytes takes long."""
    record = news_record(root)
    return hash_files(paths, advance) if record is None else record.text_sha256


def ensure_news(
    root: Path, url: str, progress: ProgressCallback, free: FreeBytes = free_bytes
) -> None:
    """Download and unpack the archive to `root/news`, atomically, unless its texts exist.

    If several processes call this, one downloads, and the others wait and report its progress. An
    interrupted download is kept as a hidden file next to the folder and resumed later.

    Args:
        progress: called with the phases `downloading` and `unpacking`; an exception stops the work.

    Raises:
        CorpusError: the archive can't be downloaded, is unsafe, or can't be unpacked by this
            Python.
        StorageError: `root` can't be written, or the disk is too small.
    """
    if news_files(root) is not None:
        return
    folder, part = root / NEWS, root / f".{NEWS}.part"
    if os.path.lexists(folder):
        if news_files(root) is not None:  # another process has just finished
            return
        raise CorpusError(
            f"{' or '.join(FILES)} not found in {folder}",
            hint="put both files there, or remove the folder to download them again",
        )
    check_python()
    with _claimed(part, lambda: news_files(root) is not None, progress) as is_ours:
        if is_ours:
            archive = fetch(
                url, part, progress, lambda size, held: _check_disk(root, size, held, free)
            )
            try:
                _publish(archive, root, progress, free)
            except CorpusError:
                discard_part(part)  # the archive is unusable
                raise
            discard_part(part)


def _publish(archive: Archive, root: Path, progress: ProgressCallback, free: FreeBytes) -> None:
    sweep(root)
    with staging(root) as place:
        here = place / NEWS
        here.mkdir(mode=0o700)
        unpack(archive.path, FILES, here, progress, free)
        paths = [here / name for name in FILES]
        meter = Meter("checking", sum(path.stat().st_size for path in paths), progress)
        text_sha256 = hash_files(paths, meter.advance)
        meter.done()
        fetched = datetime.now(UTC).isoformat(timespec="seconds")
        record = NewsRecord(
            url=archive.url,
            bytes=archive.size,
            sha256=archive.sha256,
            fetched=fetched,
            text_sha256=text_sha256,
            files=_facts(paths),
        )
        (here / RECORD_NAME).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        if not publish(here, root / NEWS) and news_files(root) is None:
            raise StorageError(
                f"can't create {root / NEWS}: it already exists without the corpus",
                hint="remove it",
            )


def _facts(paths: list[Path]) -> dict[str, _FileFacts]:
    return {
        path.name: _FileFacts(bytes=path.stat().st_size, modified_ns=path.stat().st_mtime_ns)
        for path in paths
    }


def _check_disk(root: Path, size: int, held: int, free: FreeBytes) -> None:
    """Check the disk space for the rest of the download, the text and its tokens."""
    left = size - held
    need, have = left + round(size * TEXT_PER_ARCHIVE * DISK_PER_TEXT), free(root)
    if have < need:
        parts = (
            f"{disk(left)} to download, the rest for text and tokens"
            if left
            else f"for text and tokens of the {disk(held)} downloaded so far"
        )
        raise StorageError(
            f"not enough disk space in {root}: the news corpus needs about {disk(need)} ({parts}),"
            f" {disk(have)} are free",
            hint="free some space, or set RNNLM_TUI_HOME to a folder on a larger disk",
        )


@contextmanager
def _claimed(part: Path, is_done: Callable[[], bool], progress: ProgressCallback) -> Iterator[bool]:
    """Yield True with exclusive access to `part`, or False once another process has finished.

    The lock is on the part itself, so that no lock file is left; an empty part is removed.
    """
    try:
        part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StorageError(f"can't write to {part.parent}: {error.strerror or error}") from error
    while not is_done():
        try:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"can't write to {part.parent}: {error.strerror or error}"
            ) from error
        try:
            if _locked(descriptor, part) and _is_same(descriptor, part):
                try:
                    if not is_done():
                        yield True
                        return
                finally:
                    if _is_same(descriptor, part) and not part.stat().st_size:
                        discard_part(part)
            note = read_note(part)
            progress(
                Progress(
                    "downloading", os.fstat(descriptor).st_size, 0 if note is None else note.total
                )
            )
        finally:
            os.close(descriptor)
        time.sleep(_WAIT_SECONDS)
    yield False


def _locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageError(
            f"can't lock {path}: {error.strerror or error}",
            hint="set RNNLM_TUI_HOME to a folder on a local disk",
        ) from error
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether the open file still has this path; the lock's last holder may have removed it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)
