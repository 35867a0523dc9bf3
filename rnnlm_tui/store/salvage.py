"""Reads the rows that can still be read of a damaged database, whichever of its pages are lost."""

from __future__ import annotations

import json
import math
import secrets
import shutil
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rnnlm_tui.contract.metrics import EventKind
from rnnlm_tui.store.atomic import PRIVATE_FILE, TEMPORARY_PREFIX, make_private_directory, storage_errors
from rnnlm_tui.store.pages import PAGE_BYTES, Record, scan_records
from rnnlm_tui.store.schema import SCHEMA_VERSION, tables_since

Row = tuple[Any, ...]

DERIVED = ("rollups", "hardware_rollups", "progress")
"""Tables that are worked out anew, or tell of a moment that is over."""
_TYPES: dict[str, tuple[type, ...]] = {"INTEGER": (int,), "REAL": (int, float), "TEXT": (str,), "": (int, float)}
_COUNTS = ("attempt", "step", "tokens_seen", "tokens", "bytes")
_JSON = ("environment", "nonfinite", "arguments", "result", "other_gpus")
_NONFINITE = frozenset({"nan", "inf", "-inf"})
_CLOSED: dict[tuple[str, str], frozenset[str]] = {
    ("events", "kind"): frozenset(get_args(EventKind)),
    ("evaluations", "split"): frozenset({"validation", "test"}),
}


@dataclass(frozen=True, slots=True)
class _ColumnSchema:
    name: str
    types: tuple[type, ...]
    optional: bool
    count: bool
    allowed: frozenset[str]
    """Its only values; empty: any."""
    json: bool


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table as this version makes it."""

    name: str
    columns: tuple[_ColumnSchema, ...]
    key: tuple[int, ...]
    """Places of the primary key's columns: rows lie in the file in its order."""
    with_rowid: bool
    stored: tuple[int, ...]
    """Places of the columns in the order in which a record holds them."""
    fewest: int
    """So many columns it had in the first version: the rest are missing in rows of an earlier one."""

    @property
    def key_names(self) -> list[str]:
        return [self.columns[index].name for index in self.key]


def salvaged_rows(database: Path) -> Iterator[tuple[str, Row]]:
    """(table, row) of all that can be read and makes sense, from a copy: the file itself is never opened by SQLite.

    What SQLite reads comes first; where it stops, every page of the file is looked at for rows. A row may come twice, then: the first is the right one.
    One whose bytes are wrong in a way that no rule sees comes as it is.

    Raises:
        StorageError: no room for the copy, or the file can't be read at all.
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


def _read_by_tree(copy: Path, kept: Sequence[TableSchema]) -> Generator[tuple[str, Row], None, bool]:
    """What SQLite can read, table by table; returns whether that was all. The log beside the file is folded into it."""
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
    """The copy, its first page made anew where it is lost; None where nothing of it is a database."""
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
    connection.execute("PRAGMA writable_schema = ON")  # or a file that is shorter than it says is refused as a whole
    connection.execute("PRAGMA cell_size_check = ON")
    return connection


def _has_tables(connection: sqlite3.Connection) -> bool:
    try:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return False
    return found >= {table.name for table in tables() if table.name not in DERIVED}


def _renew_first_page(copy: Path) -> None:
    """Put a new database's first page, which says where each table begins, over this one's: tables are made in one order, so they begin at the same places."""
    content = copy.read_bytes()
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(f"PRAGMA page_size = {PAGE_BYTES}; {tables_since(0)}")
        first = bytearray(fresh.serialize()[:PAGE_BYTES])
    pages = max(1, math.ceil(len(content) / PAGE_BYTES))
    first[18:20] = b"\x02\x02"  # written ahead, as the log beside it is
    first[24:28] = first[92:96] = (1).to_bytes(4, "big")  # the count of changes for which the next number holds
    first[28:32] = pages.to_bytes(4, "big")
    copy.write_bytes(bytes(first) + content[PAGE_BYTES:].ljust((pages - 1) * PAGE_BYTES, b"\0"))


def tables(version: int = SCHEMA_VERSION) -> list[TableSchema]:
    """Every table of a run's database of that version."""
    fewest = {name: len(info) for name, info, _ in _declared(1)}
    return [_described(name, info, with_rowid, fewest.get(name, len(info))) for name, info, with_rowid in _declared(version)]


def _declared(version: int) -> list[tuple[str, list[Row], bool]]:
    """Name, `table_info` and whether it has row ids, of each table."""
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(tables_since(0, version))
        found = fresh.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        return [(name, fresh.execute(f"PRAGMA table_info({name})").fetchall(), "WITHOUT ROWID" not in sql) for name, sql in found]


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
    stored = range(len(columns)) if with_rowid else (*key, *(index for index in range(len(columns)) if index not in key))
    return TableSchema(name, columns, key, with_rowid, tuple(stored), fewest)


def _walk(connection: sqlite3.Connection, table: TableSchema) -> Generator[Row, None, bool]:
    """Rows in order until the end or a page that can't be read; returns whether all came. Keys that don't grow are pages that point at each other wrongly."""
    before: Row | None = None
    try:
        with closing(connection.execute(f"SELECT * FROM {table.name} ORDER BY {', '.join(table.key_names)}")) as cursor:
            for row in cursor:
                key = tuple(row[index] for index in table.key)
                if before is not None and not key > before:
                    return False
                before = key
                yield padded(table, row)
    except (sqlite3.Error, OverflowError, TypeError, UnicodeDecodeError):
        return False
    return True


def padded(table: TableSchema, row: Row) -> Row:
    """The row of an earlier version with the columns that it lacks."""
    return row + (None,) * (len(table.columns) - len(row)) if len(row) >= table.fewest else row


def _row(table: TableSchema, record: Record) -> Row:
    """The record as a row of this table, in its order of columns; those that an earlier version lacked are None."""
    row: list[Any] = [None] * len(table.columns)
    for index, value in zip(table.stored, record.values, strict=False):
        # Whole numbers of a REAL column are stored as such.
        row[index] = float(value) if isinstance(value, int) and float in table.columns[index].types else value
    if table.with_rowid:
        row[table.key[0]] = record.rowid
    return tuple(row)


def is_valid_row(table: TableSchema, row: Row, *, any_kind: bool = False) -> bool:
    """Whether a writer of this version could have written the row; with `any_kind` of another as well, that knows more kinds of events."""
    if len(row) != len(table.columns):
        return False
    for column, value in zip(table.columns, row, strict=True):
        if value is None:
            if not column.optional:
                return False
            continue
        if not isinstance(value, column.types) or isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
            return False
        if (column.count and isinstance(value, int) and value < 0) or (column.allowed and not any_kind and value not in column.allowed):
            return False
        if column.json and not _is_json(str(value), _NONFINITE if column.name == "nonfinite" else None):
            return False
    return True


def _is_json(text: str, allowed: frozenset[str] | None) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and (allowed is None or all(isinstance(value, str) and value in allowed for value in found.values()))
