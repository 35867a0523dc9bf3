"""Read text files in constant memory, with precise errors for files that aren't UTF-8 text."""

from __future__ import annotations

import bz2
import codecs
import errno
import glob
import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.formatting import counted, user_path

MAX_LINE = 65_536
"""Longer lines are split at the last space before this many characters, to limit memory."""

MAX_UNIT = 1_024
"""Longest piece of raw text in characters, so that texts without line breaks can be split too."""

UNCUT = 4
"""Pieces may be this many times as long, rather than be cut inside a token."""

RECORD_SUFFIXES: tuple[str, ...] = (".jsonl", ".ndjson", ".csv", ".tsv", ".json")
"""Files with records, whose text is in one field."""

TABLE_SUFFIXES: tuple[str, ...] = (".csv", ".tsv", ".json")
"""Only read from a folder without other text, because they are usually data next to a text."""

DOCUMENT_SUFFIXES: tuple[str, ...] = (".txt", ".text", ".md", ".rst", ".jsonl", ".ndjson")

CODE_SUFFIXES: tuple[str, ...] = tuple(
    (  # noqa: SIM905 (a tuple would take a line for each suffix)
        ".py .pyi .pyx .c .h .cc .cpp .cxx .hh .hpp .cu .cuh .cs .java .kt .kts .scala .clj .cljs "
        ".groovy .js .jsx .mjs .cjs .ts .tsx .vue .svelte .go .rs .zig .nim .d .swift .m .mm .rb "
        ".pl .pm .php .lua .r .jl .hs .lhs .ml .mli .fs .fsx .erl .ex .exs .elm .lisp .el .scm "
        ".rkt .pas .f .f90 .f95 .ada .adb .ads .asm .s .v .sv .vhd .vhdl .sh .bash .zsh .fish "
        ".ps1 .bat .cmd .awk .sed .sql .html .htm .xml .svg .css .scss .less .tex .sty .cls .bib "
        ".yaml .yml .toml .ini .cfg .cmake .mk .gradle .proto .graphql .dart .sol .tcl .vim .abc "
        ".ly"
    ).split()
)
"""Suffixes of code, markup and other text whose line breaks and indentation matter."""

_GROUPS = (
    dict.fromkeys(DOCUMENT_SUFFIXES, "documents")
    | dict.fromkeys(CODE_SUFFIXES, "code")
    | dict.fromkeys(TABLE_SUFFIXES, "tables")
)
"""What a suffix says about a file of a folder."""

PACKINGS: dict[str, str] = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2"}
"""Suffixes of supported compressed files, and the program for each."""

_OPENERS: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}

_CUT = re.compile(r"(?<=\S)(?= )|(?<=[^\W\d_])(?=[!?;(){}\[\]\"“”…、。，！？；（）「」『』])")
_LAST_CUT = re.compile(rf"(?s:.*)(?:{_CUT.pattern})")
"""Where a tokenizer starts a token whatever is around: at the first space after other text, and
after a letter at a mark that no word contains."""

_BLOCK = 1 << 20
_LOOKED_AT = 4_096
_KINDS: tuple[tuple[int, tuple[bytes, ...], str, str], ...] = (
    (0, (b"\xff\xfe", b"\xfe\xff"), "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8"),
    (0, (b"\x1f\x8b",), "gzip-compressed", "rename it to end in .gz"),
    (0, (b"\xfd7zXZ\0",), "xz-compressed", "rename it to end in .xz"),
    (0, (b"BZh",), "bzip2-compressed", "rename it to end in .bz2"),
    (0, (b"\x28\xb5\x2f\xfd",), "Zstandard-compressed", "unpack it first: zstd -d"),
    (0, (b"\x04\x22\x4d\x18",), "LZ4-compressed", "unpack it first: lz4 -d"),
    (0, (b"\x1f\x9d", b"\x5d\0\0", b"LZIP"), "compressed", "unpack it first"),
    (0, (b"7z\xbc\xaf\x27\x1c",), "a 7z archive", "unpack it first: 7z x"),
    (0, (b"Rar!\x1a\x07",), "a RAR archive", "unpack it first: unrar x"),
    (257, (b"ustar",), "a tar archive", "unpack it first (tar -xf) and use its folder"),
    (0, (b"PK\x03\x04",), "a zip archive (or a torch checkpoint)", "unpack it first"),
    (
        0,
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        "a pickle",
        "use plain text; pickles are never opened",
    ),
    (0, (b"%PDF",), "a PDF", "extract its text first: pdftotext"),
    (0, (b"\xd0\xcf\x11\xe0",), "an old Word or Excel file", "save it as plain text first"),
    (
        0,
        (b"PAR1", b"ARROW1", b"SQLite format 3\0"),
        "a Parquet, Arrow or SQLite file",
        "write its text column to a .jsonl or .csv file first",
    ),
    (0, (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), "a picture", "use plain text"),
    (0, (b"\x93NUMPY", b"\x89HDF", b"GGUF"), "an array or a model", "use plain text"),
    (0, (b"\x7fELF",), "a program", "use plain text"),
)
"""Files of other kinds: where and how they begin, what they are, and what to do instead."""

_SPECIAL = {"p": "a FIFO", "s": "a socket", "c": "a character device", "b": "a block device"}
"""Names of files that aren't regular, by their letter in `ls -l`."""


def check_source_path(path: Path) -> None:
    """Check that a path is a readable file or folder.

    Raises:
        CorpusError: the path doesn't exist, can't be read, or is a FIFO, socket or device.
    """
    if "\0" in str(path):
        raise CorpusError(f"invalid path {str(path)!r}: it contains a NUL character")
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise _unreadable(path, error) from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise CorpusError(
            f"{path} is {_SPECIAL[stat.filemode(mode)[0]]}, must be a text file or a folder",
            hint="write the text to a file first",
        )
    if not os.access(path, os.R_OK):
        raise CorpusError(f"can't read {path}: permission denied")


def text_suffix(path: Path) -> str:
    """The lower-case suffix, ignoring compression: `.py` for `a.py`, `a.PY` and `a.py.gz`."""
    name = path.name.lower()
    packing = next((suffix for suffix in PACKINGS if name.endswith(suffix)), "")
    return Path(name.removesuffix(packing)).suffix


def holds_records(path: Path) -> bool:
    """Whether the file has records with a text field."""
    return text_suffix(path) in RECORD_SUFFIXES


def text_files(folder: Path) -> tuple[list[Path], int]:
    """The sorted text files below a folder, and the number of ignored files, without hidden ones.

    Text files are recognized by suffix. Tables (CSV, TSV, JSON) are only used if there is no other
    text. If there are no tables either, all files that start with text are used.

    Raises:
        CorpusError: the folder contains no text file.
    """
    groups: dict[str, list[Path]] = {"documents": [], "code": [], "tables": [], "others": []}
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(where, name) for name in names if not name.startswith(".")):
            groups[_GROUPS.get(text_suffix(path), "others")].append(path)
    documents, code, tables, others = groups.values()
    found = [*documents, *code] or tables or [path for path in others if _is_text(path)]
    left_out = sum(map(len, groups.values())) - len(found)
    if not found:
        found_there = f"only {counted(left_out, 'other file')}" if left_out else "it is empty"
        raise CorpusError(
            f"no text file in the folder {folder}: {found_there}",
            hint=(
                f"use UTF-8 text, plain or compressed ({', '.join(PACKINGS)}); set corpus.source to"
                " one file to see what is wrong with it"
            ),
        )
    for path in found:
        check_source_path(path)
    return sorted(found), left_out


def looks_tokenized(lines: Iterable[str]) -> bool:
    """Whether punctuation in the first 10,000 sentences is separated (as in PTB) or missing."""
    count = ended = commas = 0
    for line in islice(lines, 10_000):
        count += 1
        ended += re.search(r"\w[.!?;:\"')]+$", line) is not None
        commas += re.search(r"\w,(?:\s|$)", line) is not None
    return max(ended, commas) < 0.1 * count


def is_pattern(name: str) -> bool:
    """Whether a source is a file name pattern and not an existing path."""
    return "\0" not in name and glob.has_magic(name) and not os.path.lexists(user_path(name))


def matching_files(pattern: str) -> list[Path]:
    """The files that match a pattern such as `src/**/*.py`, sorted by name, without hidden ones.

    Raises:
        CorpusError: no file matches, or one can't be read.
    """
    whole = str(user_path(pattern).absolute())
    paths = map(Path, glob.glob(whole, recursive=True))  # noqa: PTH207 (Path.glob finds hidden ones)
    found = sorted(path for path in paths if not path.is_dir())
    if not found:
        raise CorpusError(
            f"no file matches {pattern}",
            hint="use * for part of a name and ** for any folders: src/**/*.py",
        )
    for path in found:
        check_source_path(path)
    return found


def hash_files(paths: list[Path], advance: Callable[[int], None]) -> str:
    """SHA-256 of the files' sizes and bytes.

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


def _is_text(path: Path) -> bool:
    """Whether a file's first bytes are UTF-8 text and not a known binary format."""
    try:
        beginning = LineReader(path, lambda _: None).text(_LOOKED_AT)
        return path.is_file() and bool(next(beginning, "").strip())
    except (CorpusError, OSError):  # also a link into a folder that can't be searched
        return False


class LineReader:
    """Read a UTF-8 text file, which may be compressed, in lines or blocks."""

    def __init__(self, path: Path, advance: Callable[[int], None]) -> None:
        self.path = path
        self.cut_lines = 0
        """Lines longer than MAX_LINE, so far."""
        self._advance = advance

    def lines(self) -> Iterator[str]:
        """The stripped lines without empty ones; long lines are split.

        Raises:
            CorpusError: the file isn't UTF-8 (with byte offset and line), is binary, or is damaged.
        """
        rest, inside = "", False
        for number, block in enumerate(self.text()):
            text = rest + (block if number else block.removeprefix("\ufeff"))
            end = text.rfind("\n") + 1 or text.rfind("\r", 0, -1) + 1
            whole = end > 0
            if not whole and len(text) > MAX_LINE:
                end = text.rfind(" ", 1, -1) + 1 or len(text) - 1
            if end:
                yield from self.split_lines(text[:end], inside=inside)
                inside = not whole
            rest = text[end:]
        yield from self.split_lines(rest, inside=inside)

    def text(self, size: int | None = None) -> Iterator[str]:
        """The unchanged text in blocks, which may end inside a line or word.

        Args:
            size: bytes to read at once.

        Raises:
            CorpusError: as `lines`.
        """
        decode = codecs.getincrementaldecoder("utf-8")().decode  # a block may end in a character
        line, offset = 1, 0
        for block, packed in chain(self._blocks(size or _BLOCK), [(b"", 0)]):
            self._advance(packed)
            nul = block.find(b"\0")
            if nul >= 0:
                raise CorpusError(
                    f"{self.path} is binary: NUL at {_place(block, nul, line, offset)}",
                    hint="use UTF-8 text",
                )
            try:
                text = decode(block, final=not block)
            except UnicodeDecodeError as error:
                data, at = error.object, error.start
                place = _place(data, at, line, offset + len(block) - len(data))
                raise CorpusError(
                    f"{self.path} is not UTF-8: 0x{data[at]:02x} at {place}",
                    hint="convert it, for example with: iconv -f LATIN1 -t UTF-8",
                ) from error
            if text:
                yield text
            line += block.count(b"\n")
            offset += len(block)

    def kept_lines(self, blocks: Iterable[str]) -> Iterator[str]:
        """The unchanged lines of a text; those above MAX_LINE are split and counted."""
        pieces = 0
        for unit in raw_units(_plain_breaks(blocks), MAX_LINE):
            self.cut_lines += pieces == 1
            pieces = 0 if unit.endswith("\n") else pieces + 1
            yield unit.removesuffix("\n")

    def split_lines(self, text: str, *, inside: bool = False) -> Iterator[str]:
        """The stripped lines of a text, splitting long ones.

        Args:
            inside: whether the text starts inside a line that was already counted.
        """
        for raw in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
            piece = raw.strip()
            self.cut_lines += len(piece) > MAX_LINE and not inside
            while len(piece) > MAX_LINE:
                end = piece.rfind(" ", 1, MAX_LINE) + 1 or MAX_LINE
                yield piece[:end].strip()
                piece = piece[end:].lstrip()
            inside = False
            if piece:
                yield piece

    def _blocks(self, size: int) -> Iterator[tuple[bytes, int]]:
        """Blocks of the unpacked file, each with the bytes of the file on disk that it took."""
        suffix, seen = self.path.suffix.lower(), 0
        unpacked = _OPENERS.get(suffix, nullcontext)
        try:
            with self.path.open("rb", buffering=0) as packed, unpacked(packed) as file:
                while block := file.read(size):
                    if not seen:
                        self._check_kind(block)
                    before, seen = seen, packed.tell()
                    yield block, seen - before
        except (OSError, zlib.error, lzma.LZMAError, EOFError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise _unreadable(self.path, error) from error
            kind = PACKINGS[suffix]
            raise CorpusError(
                f"{self.path} is a damaged {kind} file: {error}",
                hint=f"check it with: {kind} --test",
            ) from error

    def _check_kind(self, start: bytes) -> None:
        for place, magics, kind, hint in _KINDS:
            if start.startswith(magics, place):
                raise CorpusError(f"{self.path} is {kind}, not UTF-8 text", hint=hint)


def raw_units(blocks: Iterable[str], longest: int = MAX_UNIT) -> Iterator[str]:
    """Split a text into lines with their line breaks, and lines of more than about `longest`
    characters into pieces. The pieces don't depend on where the blocks end.
    """
    rest = ""
    for block in blocks:
        *lines, rest = (rest + block).split("\n")
        for line in lines:
            if len(line) < longest:
                yield f"{line}\n"
            else:
                yield from _cut(f"{line}\n", longest)
        *pieces, rest = _cut(rest, longest, kept=UNCUT * longest)
        yield from pieces
    if rest:
        yield from _cut(rest, longest)


def _plain_breaks(blocks: Iterable[str]) -> Iterator[str]:
    """The blocks with every line break as a line feed."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for block in blocks:
        yield decoder.decode(block)
    yield decoder.decode("", final=True)


def _cut(line: str, longest: int, kept: int = 0) -> Iterator[str]:
    """Split a line into pieces of `longest` characters or less, between two tokens.

    A piece is longer if no cut is certain to be between tokens, but at most UNCUT times as long.
    The last piece is what is left once it has no more than `kept` characters.
    """
    start, most = 0, UNCUT * longest
    while len(line) - start > max(longest, kept):
        found = _LAST_CUT.match(line, start + 1, start + longest + 1)
        found = found or _CUT.search(line, start + longest, start + most + 1)
        if found is None and len(line) - start <= most:
            break
        end = start + longest if found is None else found.end()
        yield line[start:end]
        start = end
    yield line[start:]


def _place(data: bytes, position: int, line: int, offset: int) -> str:
    newlines = data.count(b"\n", 0, position)
    return f"byte {offset + position:,} (line {line + newlines:,})"


def _unreadable(path: Path, error: OSError) -> CorpusError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return CorpusError(
            f"{path} not found",
            hint="use the path of a text file or folder, or one of presidents, elman, news",
        )
    return CorpusError(f"can't read {path}: {(error.strerror or str(error)).lower()}")
