"""Decode records from single pages of a damaged SQLite file (https://www.sqlite.org/fileformat2.html).

SQLite's own recovery (`.recover`, the sqlite3_recover API) is only in its command-line shell and in
builds with that extension; Python's sqlite3 module offers neither, and an installation has no shell.
Without this module, a lost inner page would lose all rows below it, and a lost first page the whole
database: the promise that every row on a readable page survives needs a page-by-page scan.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = 4_096
"""SQLite's default page size, which our databases use."""
_HEADER_BYTES = 100
"""Size of the database header at the start of the first page."""
_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR = 13, 10, 2
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
"""By serial type."""
_MOST_PAYLOAD = 1 << 24

Value = int | float | str | None


@dataclass(frozen=True, slots=True)
class Record:
    """One row as stored in a page."""

    rowid: int | None
    """None in an index and in a WITHOUT ROWID table, which is stored like one."""
    values: tuple[Value, ...]
    """In stored order: a WITHOUT ROWID table has its key first; an INTEGER PRIMARY KEY is in `rowid`, None here."""


def scan_records(path: Path) -> Iterator[Record]:
    """All records that can be decoded, page by page; the others are skipped."""
    with path.open("rb") as file:
        number = 0
        while page := file.read(PAGE_BYTES):
            number += 1
            found = list(_records(page, _HEADER_BYTES if number == 1 else 0, _Overflow(path)))
            yield from found


class _Overflow:
    """Reads the overflow pages of a long record."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, page: int, size: int) -> bytes:
        found = bytearray()
        with self._path.open("rb") as file:
            while page and len(found) < size:
                file.seek((page - 1) * PAGE_BYTES)
                content = file.read(PAGE_BYTES)
                if len(content) < 5:
                    break
                found += content[4:]
                page = int.from_bytes(content[:4], "big")
        return bytes(found[:size])


def _records(page: bytes, start: int, overflow: _Overflow) -> Iterator[Record]:
    if len(page) < start + 12:
        return
    kind = page[start]
    if kind not in (_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR):
        return
    cells = int.from_bytes(page[start + 3 : start + 5], "big")
    first = start + (12 if kind == _INDEX_INTERIOR else 8)
    for index in range(min(cells, (PAGE_BYTES - first) // 2)):
        place = int.from_bytes(page[first + 2 * index : first + 2 * index + 2], "big")
        try:
            yield _record(page, place, kind, overflow)
        except (IndexError, ValueError, struct.error):
            continue


def _record(page: bytes, place: int, kind: int, overflow: _Overflow) -> Record:
    if kind == _INDEX_INTERIOR:
        place += 4
    size, place = _varint(page, place)
    rowid = None
    if kind == _TABLE_LEAF:
        rowid, place = _varint(page, place)
    if not 0 < size <= _MOST_PAYLOAD:
        raise ValueError("record too long")
    here = _local_bytes(size, kind)
    payload = page[place : place + here]
    if here < size:
        payload += overflow.read(int.from_bytes(page[place + here : place + here + 4], "big"), size - here)
    if len(payload) != size:
        raise ValueError("record extends beyond its page")
    return Record(rowid, tuple(_values(payload)))


def _local_bytes(size: int, kind: int) -> int:
    """How many bytes of a record are in the page itself."""
    most = PAGE_BYTES - 35 if kind == _TABLE_LEAF else (PAGE_BYTES - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (PAGE_BYTES - 12) * 32 // 255 - 23
    wanted = least + (size - least) % (PAGE_BYTES - 4)
    return wanted if wanted <= most else least


def _values(payload: bytes) -> Iterator[Value]:
    header, place = _varint(payload, 0)
    body = header
    while place < header:
        kind, place = _varint(payload, place)
        value, size = _value(kind, payload, body)
        body += size
        yield value
    if body != len(payload):
        raise ValueError("record size doesn't match its columns")


def _value(kind: int, payload: bytes, place: int) -> tuple[Value, int]:
    if kind == 0:
        return None, 0
    if kind == 7:
        return float(struct.unpack_from(">d", payload, place)[0]), 8
    if kind < 7:
        size = _INTEGER_BYTES[kind]
        return int.from_bytes(payload[place : place + size], "big", signed=True), size
    if kind in (8, 9):
        return kind - 8, 0
    if kind >= 13 and kind % 2:
        size = (kind - 13) // 2
        return payload[place : place + size].decode("utf-8", "replace"), size
    raise ValueError("column type not used in our tables")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Decode a variable-length integer; returns it and the position after it."""
    value = 0
    for index in range(8):
        byte = data[place + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + index + 1
    return value << 8 | data[place + 8], place + 9
