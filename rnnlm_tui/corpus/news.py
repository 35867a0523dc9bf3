"""The source `news`: the book's news sentences, downloaded once to `<corpora>/news`.

Of the archive, which isn't trusted, only the two texts are written, under their own names.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from pydantic_core import ValidationError

from rnnlm_tui.corpus.build import Meter, ProgressCallback, claimed, empty, publish
from rnnlm_tui.corpus.download import fetch
from rnnlm_tui.corpus.text_files import hash_files
from rnnlm_tui.errors import CorpusError, StorageError
from rnnlm_tui.schema.formatting import disk
from rnnlm_tui.schema.record import Record
from rnnlm_tui.system.disk import free_bytes
from rnnlm_tui.system.files import remove, stamp

NEWS = "news"
"""The value of `corpus.source`, and the folder's name."""

FILES: tuple[str, ...] = ("test.txt", "train.txt")
"""The files used from the archive, sorted by name."""

RECORD_NAME = "source.json"

MAX_EXPANSION = 60
"""Limit on unpacked size relative to the archive's size; text compresses to a third or a fourth."""

ALWAYS_ALLOWED_BYTES = 64 * 2**20
"""Unpacked size that is always allowed, because small samples with repeated lines compress well."""

TEXT_PER_ARCHIVE = 3.5
"""Largest ratio of text to its gzip archive; English compresses to about a third."""

DISK_PER_TEXT = 2.6
"""Disk space needed per byte of text.

The text, a cleaned copy (removed at the end), and about 0.5 bytes of token ids and offsets.
"""

_BLOCK = 1 << 18


class NewsRecord(Record):
    """The file `source.json`: where the texts next to it were downloaded from."""

    url: str
    sha256: str
    """Hash of the archive."""
    fetched: str
    """ISO 8601, UTC."""
    text_sha256: str
    """`hash_files` of both texts, valid while their sizes and modification times are the same."""
    files: dict[str, tuple[int, int]]
    """Size and modification time in nanoseconds of each text."""


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


def ensure_news(root: Path, url: str, progress: ProgressCallback) -> None:
    """Download and unpack the archive to `root/news`, atomically, unless its texts exist.

    If several processes call this, one downloads, and the others wait and report its progress. An
    interrupted download is kept in a hidden folder and resumed later.

    Args:
        progress: called with the phases `downloading` and `unpacking`; an exception stops the work.

    Raises:
        CorpusError: the archive can't be downloaded, or is damaged.
        StorageError: `root` can't be written, or the disk is too small.
    """
    folder, work = root / NEWS, root / f".{NEWS}-download"
    existed = os.path.lexists(folder)  # asked first: another process may just finish it
    if news_files(root) is not None:
        return
    if existed:
        raise CorpusError(
            f"{' or '.join(FILES)} not found in {folder}",
            hint="put both files there, or remove the folder to download them again",
        )
    with claimed(work, lambda: news_files(root) is not None, progress, "downloading") as shared:
        if shared is not None:
            archive, here = work / "archive", work / NEWS
            sha256 = fetch(url, archive, shared, lambda size, held: _check_disk(root, size, held))
            try:
                remove(here)
                here.mkdir()
                unpack(archive, here, shared)
                _record(here, url, sha256, shared)
                publish(here, folder)
            except CorpusError:
                empty(work)  # the archive is unusable
                raise
            except BaseException:
                remove(here)  # the next run unpacks the archive again
                raise
            empty(work)


def unpack(archive: Path, folder: Path, progress: ProgressCallback) -> None:
    """Extract the texts, from the top level or a folder of the archive.

    The archive is read to its end to verify its checksum, in constant memory.

    Args:
        progress: called with the phase `unpacking` and bytes of the archive; an exception stops it.

    Raises:
        CorpusError: the archive is damaged or not a tar, lacks a text or contains it twice, or
            unpacks to far more data than its size.
        StorageError: the disk is too small.
    """
    try:
        with archive.open("rb", buffering=0) as packed, gzip.GzipFile(fileobj=packed) as unpacked:
            meter = Meter("unpacking", archive.stat().st_size, progress)
            stream = _Bounded(unpacked, packed.tell, meter, archive.stat().st_size)
            found = _take_out(stream, folder)
            while stream.read(_BLOCK):  # up to the checksum after the last file
                pass
            meter.done()
    except (
        gzip.BadGzipFile,
        zlib.error,
        EOFError,
        tarfile.TarError,
        RecursionError,  # tarfile reads chained headers recursively
        ValueError,  # tarfile doesn't check all numbers
    ) as error:
        raise CorpusError(
            f"the archive is damaged or not a tar archive: {error}",
            hint="download it again, or set another corpus.url",
        ) from error
    except OSError as error:
        raise StorageError(
            f"can't write to {folder}: {error.strerror or error}",
            hint=f"{disk(free_bytes(folder))} are free",
        ) from error
    if missing := set(FILES) - set(found):
        held = ", ".join(found) or "neither"
        raise CorpusError(
            f"{' and '.join(sorted(missing))} not found in the archive, it contains {held}",
            hint="corpus.url must be an archive with train.txt and test.txt",
        )
    if empty_ones := [name for name in FILES if not (folder / name).stat().st_size]:
        raise CorpusError(f"{empty_ones[0]} in the archive is empty")


def _take_out(stream: _Bounded, folder: Path) -> list[str]:
    """Write the texts, and return their names."""
    found: list[str] = []
    with tarfile.open(fileobj=stream, mode="r|", bufsize=_BLOCK) as archive:  # type: ignore[call-overload]
        for member in archive:
            if member.size < 0:  # tarfile would read it again and again
                raise CorpusError(f"the archive is damaged: {member.name[:80]!r} has a wrong size")
            stream.allow(member.size)
            path = PurePosixPath(member.name)
            is_plain = member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
            if not is_plain or path.name not in FILES or len(path.parts) > 2:
                continue
            if path.name in found:
                raise CorpusError(f"the archive contains {path.name} twice")
            with archive.extractfile(member) as text, (folder / path.name).open("wb") as file:
                shutil.copyfileobj(text, file, _BLOCK)
            found.append(path.name)
    return found


class _Bounded:
    """An unpacked stream that reports progress and limits its size."""

    def __init__(
        self, unpacked: gzip.GzipFile, position: Callable[[], int], meter: Meter, packed_size: int
    ) -> None:
        self._unpacked, self._position, self._meter = unpacked, position, meter
        self._left = MAX_EXPANSION * packed_size + ALWAYS_ALLOWED_BYTES
        """Bytes that may still be read."""
        self._reported = 0

    def read(self, size: int) -> bytes:
        """Read up to `size` unpacked bytes."""
        data = self._unpacked.read(size)
        self._left -= len(data)
        self.allow(0)
        position = self._position()
        self._meter.advance(position - self._reported)
        self._reported = position
        return data

    def allow(self, size: int) -> None:
        """Raise CorpusError if so many bytes more would exceed the limit."""
        if size > self._left:
            raise CorpusError(
                f"the archive unpacks to more than {MAX_EXPANSION} times its size",
                hint="check corpus.url",
            )


def _record(folder: Path, url: str, sha256: str, progress: ProgressCallback) -> None:
    """Write down where the texts in a folder come from, and their hash."""
    paths = [folder / name for name in FILES]
    meter = Meter("checking", sum(path.stat().st_size for path in paths), progress)
    text_sha256 = hash_files(paths, meter.advance)
    meter.done()
    record = NewsRecord(
        url=url,
        sha256=sha256,
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        text_sha256=text_sha256,
        files=_facts(paths),
    )
    (folder / RECORD_NAME).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _facts(paths: list[Path]) -> dict[str, tuple[int, int]]:
    return {path.name: stamp(path)[:2] for path in paths}


def _check_disk(root: Path, size: int, held: int) -> None:
    """Check the disk space for the rest of the download, the text and its tokens."""
    left = size - held
    need, have = left + round(size * TEXT_PER_ARCHIVE * DISK_PER_TEXT), free_bytes(root)
    if have < need:
        raise StorageError(
            f"not enough disk space in {root}: the news corpus needs about {disk(need)}"
            f" ({disk(left)} to download, the rest for text and tokens), {disk(have)} are free",
            hint="free some space, or set RNNLM_TUI_HOME to a folder on a larger disk",
        )
