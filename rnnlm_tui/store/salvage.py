"""Read all rows of a damaged database that are still readable.

SQLite reads what it can. If it fails, every page of the file is decoded on its own
(https://www.sqlite.org/fileformat2.html). SQLite's own recovery (`.recover`, the sqlite3_recover
API) is only in its command-line shell and in builds with that extension; Python's sqlite3 module
offers neither, and an installation need not have the shell. Without the scan of pages, a lost inner
page would lose all rows below it, and a lost first page the whole database, although the guide
promises every row whose page is readable.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
import sqlite3
import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rnnlm_tui.schema.metrics import EventKind
from rnnlm_tui.store.schema import SCHEMA_VERSION, tables_since
from rnnlm_tui.system.files import (
    PRIVATE_FILE,
    TEMPORARY_PREFIX,
    make_private_directory,
    storage_errors,
)

Row = tuple[Any, ...]
Value = int | float | str | None

DERIVED = ("rollups", "hardware_rollups", "progress")
"""Tables that are recomputed or momentary."""
_TYPES: dict[str, tuple[type, ...]] = {
    "INTEGER": (int,),
    "REAL": (int, float),
    "TEXT": (str,),
    "": (int, float),
}
_COUNTS = ("attempt", "step", "tokens_seen", "tokens", "bytes")
_JSON = ("environment", "nonfinite", "arguments", "result", "other_gpus")
_NONFINITE = frozenset({"nan", "inf", "-inf"})
_CLOSED: dict[tuple[str, str], frozenset[str]] = {
    ("events", "kind"): frozenset(get_args(EventKind)),
    ("evaluations", "split"): frozenset({"validation", "test"}),
}
PAGE_BYTES = 4_096
"""SQLite's default page size, which our databases use."""
_HEADER_BYTES = 100
"""Size of the database header at the start of the first page."""
_TABLE_LEAF, _INDEX_LEAF, _INDEX_INTERIOR = 13, 10, 2
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
"""By serial type."""
_MOST_PAYLOAD = 1 << 24


@dataclass(frozen=True, slots=True)
class _ColumnSchema:
    name: str
    types: tuple[type, ...]
    optional: bool
    count: bool
    allowed: frozenset[str]
    """The only allowed values; empty: any."""
    json: bool


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table of this version's schema."""

    name: str
    columns: tuple[_ColumnSchema, ...]
    key: tuple[int, ...]
    """Indexes of the primary key's columns; rows are stored in its order."""
    with_rowid: bool
    stored: tuple[int, ...]
    """Indexes of the columns in the order of a stored record."""
    fewest: int
    """Number of columns in the first version; rows of earlier versions lack the rest."""

    @property
    def key_names(self) -> list[str]:
        return [self.columns[index].name for index in self.key]


def salvaged_rows(database: Path) -> Iterator[tuple[str, Row]]:
    """(table, row) of all valid rows that can be read. Works on a copy: SQLite never opens the file
    itself.

    First come the rows that SQLite can read. If it fails, all pages are scanned, and a row may come
    again: the first one is right. Damage that leaves a valid row can't be detected.

    Raises:
        StorageError: the disk is full, or the file can't be read at all.
    """
    kept = [table for table in tables() if table.name not in DERIVED]
    with _copy(database) as copy:
        whole = yield from _read_by_tree(copy, kept)
        if not whole and copy.is_file():
            by_shape: dict[tuple[bool, int], list[TableSchema]] = {}
            for table in kept:
                for columns in range(table.fewest, len(table.columns) + 1):
                    by_shape.setdefault((table.with_rowid, columns), []).append(table)
            for record in scan_records(copy):
                for table in by_shape.get((record.rowid is not None, len(record.values)), ()):
                    row = _row(table, record)
                    if is_valid_row(table, row):
                        yield table.name, row
                        break


def _read_by_tree(
    copy: Path, kept: Sequence[TableSchema]
) -> Generator[tuple[str, Row], None, bool]:
    """Rows that SQLite can read, including those in the WAL; returns whether all were read."""
    whole = True
    with _opened(copy) as connection:
        if connection is None:
            return False
        for table in kept:
            rows = _walk(connection, table)
            while True:
                try:
                    row = next(rows)
                except StopIteration as end:
                    whole = whole and bool(end.value)
                    break
                if is_valid_row(table, row):
                    yield table.name, row
    return whole


@contextmanager
def _copy(database: Path) -> Iterator[Path]:
    folder = database.parent / f"{TEMPORARY_PREFIX}salvage-{secrets.token_hex(8)}"
    make_private_directory(folder)
    try:
        with storage_errors("copy", database):
            for suffix in ("", "-wal"):
                source = database.with_name(database.name + suffix)
                if source.is_file():
                    shutil.copyfile(source, folder / source.name)
                    (folder / source.name).chmod(PRIVATE_FILE)
        yield folder / database.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _opened(copy: Path) -> Iterator[sqlite3.Connection | None]:
    """Open the copy, with a new first page if it is lost; None if it isn't a database at all."""
    if not copy.is_file():
        yield None
        return
    connection = _connect(copy)
    if not _has_tables(connection):
        connection.close()
        _renew_first_page(copy)
        connection = _connect(copy)
    with closing(connection):
        yield connection if _has_tables(connection) else None


def _connect(copy: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(copy, isolation_level=None)
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    # otherwise SQLite refuses a truncated file as a whole
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _has_tables(connection: sqlite3.Connection) -> bool:
    try:
        found = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    except sqlite3.Error:
        return False
    return found >= {table.name for table in tables() if table.name not in DERIVED}


def _renew_first_page(copy: Path) -> None:
    """Replace the first page, which has the root page of each table, by that of a new database.

    Tables are always created in the same order, so their root pages are the same.
    """
    content = copy.read_bytes()
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(f"PRAGMA page_size = {PAGE_BYTES}; {tables_since(0)}")
        first = bytearray(fresh.serialize()[:PAGE_BYTES])
    pages = max(1, math.ceil(len(content) / PAGE_BYTES))
    first[18:20] = b"\x02\x02"  # WAL mode
    # change counter, and the one for which the page count is valid
    first[24:28] = first[92:96] = (1).to_bytes(4, "big")
    first[28:32] = pages.to_bytes(4, "big")
    copy.write_bytes(bytes(first) + content[PAGE_BYTES:].ljust((pages - 1) * PAGE_BYTES, b"\0"))


def _walk(connection: sqlite3.Connection, table: TableSchema) -> Generator[Row, None, bool]:
    """Rows in key order up to the first unreadable page; returns whether all were read.

    Keys that don't increase mean that pages point to each other wrongly.
    """
    before: Row | None = None
    try:
        with closing(
            connection.execute(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key_names)}")
        ) as cursor:
            for row in cursor:
                key = tuple(row[index] for index in table.key)
                if before is not None and not key > before:
                    return False
                before = key
                yield padded(table, row)
    except (sqlite3.Error, OverflowError, TypeError, UnicodeDecodeError):
        return False
    return True


def tables(version: int = SCHEMA_VERSION) -> list[TableSchema]:
    """The tables of a schema version."""
    fewest = {name: len(info) for name, info, _ in _declared(1)}
    return [
        _described(name, info, with_rowid, fewest.get(name, len(info)))
        for name, info, with_rowid in _declared(version)
    ]


def _declared(version: int) -> list[tuple[str, list[Row], bool]]:
    """Name, `table_info` and whether it has rowids, for each table."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(tables_since(0, version))
        found = fresh.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        return [
            (
                name,
                fresh.execute(f"PRAGMA table_info({name})").fetchall(),
                "WITHOUT ROWID" not in sql,
            )
            for name, sql in found
        ]


def _described(name: str, info: list[Row], with_rowid: bool, fewest: int) -> TableSchema:
    columns = tuple(
        _ColumnSchema(
            column,
            _TYPES[kind],
            optional=not required and (with_rowid or not place),
            count=column in _COUNTS,
            allowed=_CLOSED.get((name, column), frozenset()),
            json=column in _JSON,
        )
        for _, column, kind, required, _, place in info
    )
    key = tuple(index for _, index in sorted((place, index) for index, *_, place in info if place))
    stored = (
        range(len(columns))
        if with_rowid
        else (*key, *(index for index in range(len(columns)) if index not in key))
    )
    return TableSchema(name, columns, key, with_rowid, tuple(stored), fewest)


def is_valid_row(table: TableSchema, row: Row, *, any_kind: bool = False) -> bool:
    """Whether a worker could have written the row; `any_kind` allows unknown kinds of events."""
    if len(row) != len(table.columns):
        return False
    for column, value in zip(table.columns, row, strict=True):
        if value is None:
            if not column.optional:
                return False
            continue
        if (
            not isinstance(value, column.types)
            or isinstance(value, bool)
            or (isinstance(value, float) and not math.isfinite(value))
        ):
            return False
        if (column.count and isinstance(value, int) and value < 0) or (
            column.allowed and not any_kind and value not in column.allowed
        ):
            return False
        if column.json and not _is_json(
            str(value), _NONFINITE if column.name == "nonfinite" else None
        ):
            return False
    return True


def _is_json(text: str, allowed: frozenset[str] | None) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and (
        allowed is None
        or all(isinstance(value, str) and value in allowed for value in found.values())
    )


def padded(table: TableSchema, row: Row) -> Row:
    """Add the missing columns to a row of an earlier version."""
    return row + (None,) * (len(table.columns) - len(row)) if len(row) >= table.fewest else row


@dataclass(frozen=True, slots=True)
class Record:
    """One row as stored in a page."""

    rowid: int | None
    """None in an index and in a WITHOUT ROWID table, which is stored like one."""
    values: tuple[Value, ...]
    """In stored order: a WITHOUT ROWID table has its key first; an INTEGER PRIMARY KEY is in
    `rowid`, None here."""


def _row(table: TableSchema, record: Record) -> Row:
    """Convert a record to a row of the table; columns missing in earlier versions are None."""
    row: list[Any] = [None] * len(table.columns)
    for index, value in zip(table.stored, record.values, strict=False):
        # SQLite stores whole numbers of a REAL column as integers.
        row[index] = (
            float(value)
            if isinstance(value, int) and float in table.columns[index].types
            else value
        )
    if table.with_rowid:
        row[table.key[0]] = record.rowid
    return tuple(row)


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
        payload += overflow.read(
            int.from_bytes(page[place + here : place + here + 4], "big"), size - here
        )
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
