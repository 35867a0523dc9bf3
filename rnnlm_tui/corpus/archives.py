"""Unpack files from an untrusted tar.gz archive, checking paths, links and sizes."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

from rnnlm_tui.corpus.download import Meter, ProgressCallback
from rnnlm_tui.errors import CorpusError, StorageError
from rnnlm_tui.schema.formatting import disk

MAX_EXPANSION = 60
"""Limit on unpacked size relative to the archive's size; text compresses to a third or a fourth."""

ALWAYS_ALLOWED_BYTES = 64 * 2**20
"""Unpacked size that is always allowed, because small samples with repeated lines compress well."""

HEADER_BYTES = 1 << 20
"""Limit on the total size of all headers (enough for about 2,000 files), which tarfile keeps in
memory."""

_BLOCK = 1 << 18

FreeBytes = Callable[[Path], int]
"""Returns the bytes that can still be written in a folder."""


def free_bytes(folder: Path) -> int:
    """Free disk space for this user at an existing folder."""
    return shutil.disk_usage(folder).free


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
    """Extract the files named `wanted`, from the archive's top level or a folder in it, into
    `folder`.

    The archive is read to its end to verify its checksum, in constant memory.

    Args:
        progress: called with the phase `unpacking` and bytes of the archive; an exception stops it.

    Raises:
        CorpusError: the archive is damaged or not a tar, lacks a file or contains it twice, or
            contains
            something suspicious: absolute paths, `..`, links, devices, too many headers, or far
                more
            data than its size.
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
        """Position before which the last header must end (tarfile reads a block ahead); None after
        it."""

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
        """Allow a file of `size` bytes before the next header; raise CorpusError if it exceeds the
        limit."""
        self._allow(size)
        if self._headers_until is not None:
            self._headers_until += -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

    def end_headers(self) -> None:
        """Allow any data from here on, because the last header was read."""
        self._headers_until = None

    def _allow(self, more: int) -> None:
        if self._read + more > self._limit:
            raise _unsafe(f"it would unpack to more than {disk(self._limit)}")
