"""Takes named files out of a gzip tar and trusts nothing in it: no path, no link, no size."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

from rnnlm_tui.contract.figures import disk
from rnnlm_tui.corpus.meter import Meter, ProgressCallback
from rnnlm_tui.errors import CorpusError, StorageError

MAX_EXPANSION = 60
"""An archive that unpacks to more than so many times its size is refused; text packs to a third or a fourth."""

ALWAYS_ALLOWED_BYTES = 64 * 2**20
"""Below this an archive may expand as it likes: a small sample of one repeated line is no bomb."""

HEADER_BYTES = 1 << 20
"""All headers of an archive together, as those of some 2,000 files are; tarfile holds them in memory, long names and comments whole."""

_BLOCK = 1 << 18

FreeBytes = Callable[[Path], int]
"""Bytes that may still be written below a folder."""


def free_bytes(folder: Path) -> int:
    """Free disk space for this user below an existing folder."""
    return shutil.disk_usage(folder).free


def check_python() -> None:
    """Raise CorpusError where this Python is too old to unpack what nobody has looked at."""
    if not hasattr(tarfile, "data_filter"):
        raise CorpusError("this Python is too old to unpack an archive safely", hint="Python 3.11.4 or newer can; or unpack it yourself into a folder")


def unpack(archive: Path, wanted: Collection[str], folder: Path, progress: ProgressCallback, free: FreeBytes = free_bytes) -> None:
    """Write the files called `wanted`, at the archive's top or in one folder of it, into `folder`; all else in it is left out.

    The archive is read once, to its end, so that its checksum is checked; memory stays constant.

    Args:
        progress: told `unpacking` in bytes of the archive; what it raises ends the unpacking.

    Raises:
        CorpusError: damaged, no tar, lacks a file or holds one twice, or holds what no text archive does: absolute names, `..`,
            links, devices, endless headers, or far more bytes than it has itself.
        StorageError: a disk too small for what it holds, with need and have.
    """
    check_python()
    try:
        with archive.open("rb", buffering=0) as packed, gzip.GzipFile(fileobj=packed) as unpacked:
            meter = Meter("unpacking", archive.stat().st_size, progress)
            stream = _Bounded(unpacked, packed.tell, meter, MAX_EXPANSION * archive.stat().st_size + ALWAYS_ALLOWED_BYTES)
            found = _take_out(stream, set(wanted), folder, free)
            while stream.read(_BLOCK):  # to the checksum behind the last file
                pass
            meter.done()
    except tarfile.FilterError as error:
        raise _unsafe(str(error)) from error
    except RecursionError as error:  # tarfile reads a header of a header by a call within the call
        raise _unsafe("hundreds of its headers belong to one file") from error
    except (gzip.BadGzipFile, zlib.error, EOFError, tarfile.TarError, ValueError) as error:  # tarfile leaves some numbers unchecked
        raise CorpusError(f"the archive is damaged or no tar: {error}", hint="fetch it again, or give another corpus.url") from error
    except OSError as error:
        raise StorageError(f"{folder} can't be written: {error.strerror or error}", hint=f"there are {disk(free(folder))} free") from error
    if missing := set(wanted) - set(found):
        held = ", ".join(sorted(found)) or "none of them"
        raise CorpusError(f"the archive lacks {' and '.join(sorted(missing))}, it holds {held}", hint="corpus.url names an archive with train.txt and test.txt")
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
                raise CorpusError(f"the archive holds {path.name} twice")
            have = free(folder)
            if member.size > have:
                raise StorageError(
                    f"{path.name} needs {disk(member.size)} in {folder.parent}, {disk(have)} are free",
                    hint="free some space, or set RNNLM_TUI_HOME to a larger disk",
                )
            archive.extract(member.replace(name=path.name, deep=False), folder, set_attrs=False, filter="data")
            found.append(path.name)
    stream.end_headers()
    return found


def _check(member: tarfile.TarInfo) -> None:
    """Refuse the whole archive for one name or kind that no archive of texts has."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise _unsafe(f"it names {member.name[:80]!r}, which leads out of its folder")
    if member.size < 0:
        raise _unsafe(f"{member.name[:80]!r} has a size below 0")
    if not (member.isreg() or member.isdir()) or member.issparse():
        kind = "a link" if member.issym() or member.islnk() else "a sparse file" if member.issparse() else "a device or another special file"
        raise _unsafe(f"{member.name[:80]!r} is {kind}")


def _unsafe(what: str) -> CorpusError:
    return CorpusError(f"the archive is refused: {what}", hint="an archive of texts holds plain files alone; is corpus.url the right one?")


class _Bounded:
    """An unpacked stream that tells how far its packed file is, and ends at a limit: one for all of it, one for its headers."""

    def __init__(self, unpacked: gzip.GzipFile, position: Callable[[], int], meter: Meter, limit: int) -> None:
        self._unpacked, self._position, self._meter, self._limit = unpacked, position, meter, limit
        self._read = self._told = 0
        self._headers_until: int | None = HEADER_BYTES + _BLOCK
        """Unpacked bytes by which the last header must have ended; tarfile reads a block ahead. None behind the last."""

    def read(self, size: int) -> bytes:
        """Up to `size` unpacked bytes."""
        data = self._unpacked.read(size)
        self._read += len(data)
        self._allow(0)
        if self._headers_until is not None and self._read > self._headers_until:
            raise _unsafe(f"its headers take more than {disk(HEADER_BYTES)}")
        position = self._position()
        self._meter.advance(position - self._told)
        self._told = position
        return data

    def pass_content(self, size: int) -> None:
        """So many bytes of a file come before the next header; raise CorpusError where they would pass the limit."""
        self._allow(size)
        if self._headers_until is not None:
            self._headers_until += -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE

    def end_headers(self) -> None:
        """Whatever still comes is no header."""
        self._headers_until = None

    def _allow(self, more: int) -> None:
        if self._read + more > self._limit:
            raise _unsafe(f"it would unpack to more than {disk(self._limit)}")
