"""Reads a user's text files as lines, in constant memory, and refuses what is no text: by kind, with the place."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from rnnlm_tui.errors import CorpusError

MAX_LINE_BYTES = 65_536
"""A longer line is cut into sentences at the last space before this many bytes, so that no line is ever held whole."""

MAX_RECORD_BYTES = 64 * 2**20
"""A longer line of a JSONL file is refused: a record can't be cut."""

TEXT_SUFFIXES: tuple[str, ...] = (".txt", ".text", ".md", ".rst", ".jsonl", ".txt.gz", ".text.gz", ".md.gz", ".rst.gz", ".jsonl.gz")
"""Files of a folder that are read; others are left out."""

_BLOCK = 1 << 20
_BOM = b"\xef\xbb\xbf"
_KINDS = (
    (b"\xff\xfe", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"),
    (b"\x1f\x8b", "gzip", "give it a name that ends in .gz"),
    (b"PK\x03\x04", "a zip archive (or a torch checkpoint)", "unpack it first"),
    (b"\x80\x02", "a pickle", "a corpus is plain text; pickles are never opened"),
    (b"\x80\x03", "a pickle", "a corpus is plain text; pickles are never opened"),
    (b"\x80\x04", "a pickle", "a corpus is plain text; pickles are never opened"),
    (b"\x80\x05", "a pickle", "a corpus is plain text; pickles are never opened"),
    (b"%PDF", "a PDF", "extract its text first: pdftotext"),
    (b"\x7fELF", "a program", "a corpus is plain text"),
)


def check_source_path(path: Path) -> None:
    """Refuse what is neither a regular file that can be read nor a folder.

    Raises:
        CorpusError: missing, a FIFO, socket or device, or not readable.
    """
    if "\0" in str(path):
        raise CorpusError("a path can't hold a NUL character")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(path, error) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kinds = ((stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a character device"), (stat.S_ISBLK, "a block device"))
        kind = next((name for test, name in kinds if test(mode)), "no regular file")
        raise CorpusError(f"{path} is {kind}; a corpus is a text file or a folder of text files", hint="write the text to a file first")
    if not os.access(path, os.R_OK):
        raise CorpusError(f"{path} can't be read: permission denied")


def text_files(folder: Path) -> tuple[list[Path], int]:
    """The text files below a folder in order of name, and how many other files were left out; hidden ones don't count.

    Raises:
        CorpusError: the folder holds no text file.
    """
    found: list[Path] = []
    others = 0
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if name.startswith("."):
                continue
            if name.lower().endswith(TEXT_SUFFIXES):
                found.append(Path(where, name))
            else:
                others += 1
    if not found:
        there = f"it holds {others:,} other file{'s' if others != 1 else ''}" if others else "it is empty"
        raise CorpusError(f"the folder {folder} holds no text file, {there}", hint=f"text files end in {', '.join(TEXT_SUFFIXES[:5])}, each also with .gz")
    for path in found:
        check_source_path(path)
    return sorted(found), others


def hash_files(paths: list[Path], advance: Callable[[int], None]) -> str:
    """sha256 over the files' bytes as they lie, each after its size.

    Raises:
        CorpusError: a file can't be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                digest.update(f"{os.fstat(file.fileno()).st_size}\n".encode())
                while block := file.read(_BLOCK):
                    digest.update(block)
                    advance(len(block))
        except OSError as error:
            raise _unreadable(path, error) from error
    return digest.hexdigest()


def is_jsonl(path: Path) -> bool:
    return path.name.lower().endswith((".jsonl", ".jsonl.gz"))


class LineReader:
    """Lines of one UTF-8 text file, packed or not, without their ends; a long line comes in pieces."""

    def __init__(self, path: Path, advance: Callable[[int], None]) -> None:
        self.path = path
        self.cut_lines = 0
        """Lines longer than MAX_LINE_BYTES, so far."""
        self._advance = advance

    def lines(self) -> Iterator[str]:
        """Each line, stripped, empty ones left out.

        Raises:
            CorpusError: not UTF-8 (with the byte offset and the line), NULs or a known binary kind, damaged gzip.
        """
        rest, line, offset, inside = b"", 1, 0, False
        for block in self._blocks():
            data = rest + block
            end = data.rfind(b"\n") + 1 or data.rfind(b"\r", 0, -1) + 1
            whole = end > 0
            if not whole and len(data) > MAX_LINE_BYTES:
                end = _cut_position(data, len(data) - 1)
            if end:
                yield from self._pieces(self._decode(data[:end], line, offset), inside=inside)
                inside = not whole
            line += data.count(b"\n", 0, end)
            offset += end
            rest = data[end:]
        yield from self._pieces(self._decode(rest, line, offset), inside=inside)

    def records(self, field: str) -> Iterator[str]:
        """The text of each JSONL record.

        Raises:
            CorpusError: a line that is no JSON object or lacks the field, and all that `lines` raises.
        """
        number = 0
        rest, offset = b"", 0
        for block in self._blocks(final_newline=True):
            data = rest + block
            *lines, rest = data.split(b"\n")
            if len(rest) > MAX_RECORD_BYTES:
                raise CorpusError(f"{self.path}, line {number + len(lines) + 1:,}: longer than {MAX_RECORD_BYTES:,} bytes, a record can't be cut")
            for raw in lines:
                number += 1
                text = self._decode(raw, number, offset).strip()
                offset += len(raw) + 1
                if text:
                    yield self._record(text, field, number)

    def split_lines(self, text: str) -> Iterator[str]:
        """The lines of a record's text, as `lines` gives those of a file."""
        return self._pieces(text, inside=False)

    def _pieces(self, text: str, *, inside: bool) -> Iterator[str]:
        """The lines of a text, long ones in pieces; `inside`: it begins inside a line that was counted as cut."""
        for raw in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
            piece = raw.strip()
            if len(piece) * 4 > MAX_LINE_BYTES and len(encoded := piece.encode()) > MAX_LINE_BYTES:
                self.cut_lines += not inside
                while len(encoded) > MAX_LINE_BYTES:
                    end = _cut_position(encoded, MAX_LINE_BYTES)
                    yield encoded[:end].decode().strip()
                    encoded = encoded[end:].lstrip()
                piece = encoded.decode().strip()
            inside = False
            if piece:
                yield piece

    def _record(self, text: str, field: str, number: int) -> str:
        where = f"{self.path}, line {number:,}"
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: not JSON ({error})", hint="a .jsonl file holds one JSON object a line") from error
        if not isinstance(record, dict):
            raise CorpusError(f"{where}: a JSON {type(record).__name__}, not an object", hint="a .jsonl file holds one JSON object a line")
        value = record.get(field)
        if not isinstance(value, str):
            known = ", ".join(str(key) for key, held in record.items() if isinstance(held, str)) or "none"
            raise CorpusError(f'{where}: no text in the field "{field}"', hint=f"fields with text there: {known}; name one with corpus.text_field")
        return value.encode("utf-8", "replace").decode()

    def _decode(self, data: bytes, line: int, offset: int) -> str:
        nul = data.find(b"\0")
        if nul >= 0:
            raise CorpusError(f"{self.path} is binary: a NUL at {_place(data, nul, line, offset)}", hint="a corpus is UTF-8 text")
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{self.path} is not UTF-8: 0x{data[error.start]:02x} at {_place(data, error.start, line, offset)}",
                hint="convert it, for example: iconv -f LATIN1 -t UTF-8",
            ) from error

    def _blocks(self, *, final_newline: bool = False) -> Iterator[bytes]:
        """Blocks of the unpacked file; a byte order mark is blanked, so that offsets stay true."""
        first = True
        with self._open() as (file, packed):
            seen = 0
            while block := self._read(file):
                position = packed.tell()
                self._advance(position - seen)
                seen = position
                if first:
                    for magic, kind, hint in _KINDS:
                        if block.startswith(magic):
                            raise CorpusError(f"{self.path} is {kind}, not UTF-8 text", hint=hint)
                    if block.startswith(_BOM):
                        block = b"   " + block[len(_BOM) :]
                first = False
                yield block
        if final_newline and not first:
            yield b"\n"

    def _read(self, file: IO[bytes]) -> bytes:
        try:
            return file.read(_BLOCK)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise CorpusError(f"{self.path} is a damaged gzip file: {error}", hint="gzip --test says where") from error
        except OSError as error:
            raise _unreadable(self.path, error) from error

    @contextmanager
    def _open(self) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """The file to read and the file as it lies, whose position is the progress."""
        try:
            packed = self.path.open("rb", buffering=0)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        with packed:
            if self.path.name.lower().endswith(".gz"):
                with gzip.GzipFile(fileobj=io.BufferedReader(packed, _BLOCK)) as file:
                    yield cast(IO[bytes], file), packed
            else:
                yield packed, packed


def _place(data: bytes, position: int, line: int, offset: int) -> str:
    newlines = data.count(b"\n", 0, position)
    return f"byte {offset + position:,} (line {line + newlines:,})"


def _cut_position(data: bytes, max_bytes: int) -> int:
    """Where to cut: behind the last space before `max_bytes`, else between two characters."""
    space = data.rfind(b" ", 1, max_bytes)
    if space > 0:
        return space + 1
    end = max_bytes
    while end > max_bytes - 4 and data[end] & 0xC0 == 0x80:
        end -= 1
    return end


def _unreadable(path: Path, error: OSError) -> CorpusError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return CorpusError(f"{path} does not exist", hint="give the path of a text file or folder, or one of presidents, python-docs, elman, news")
    return CorpusError(f"{path} can't be read: {(error.strerror or str(error)).lower()}")
