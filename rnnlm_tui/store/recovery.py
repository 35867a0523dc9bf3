"""Detect a damaged database, move it aside, and rebuild it from manifests, logs and readable rows.

Fill an empty database from a run's logs, its damaged database and its checkpoints' manifests.

Read all rows of a damaged database that are still readable.

Decode records from single pages of a damaged SQLite file (https://www.sqlite.org/fileformat2.html).

SQLite's own recovery (`.recover`, the sqlite3_recover API) is only in its command-line shell and in
builds with that extension; Python's sqlite3 module offers neither, and an installation has no
shell.
Without this module, a lost inner page would lose all rows below it, and a lost first page the whole
database: the promise that every row on a readable page survives needs a page-by-page scan.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
import sqlite3
import struct
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rnnlm_tui.errors import DatabaseError, NewerDatabaseError, RunStateError, StorageError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import EventKind, EventRow
from rnnlm_tui.schema.protocol import CHANGED_FACT, SETTINGS_KEY
from rnnlm_tui.store.checkpoints import CheckpointEntry, list_checkpoints
from rnnlm_tui.store.database import AFTER, RunDatabase, logged_rows, logs_of
from rnnlm_tui.store.paths import RunDirectory, make_folder, take_over_database
from rnnlm_tui.store.schema import (
    SCHEMA_VERSION,
    all_rows,
    check_version,
    database_errors,
    is_frozen,
    one_row,
    reading_uri,
    tables_since,
    with_nonfinite,
)
from rnnlm_tui.system.files import (
    PRIVATE_FILE,
    TEMPORARY_PREFIX,
    fsync_directory,
    fsync_file,
    make_private_directory,
    storage_errors,
    write_text_atomically,
)
from rnnlm_tui.system.locks import RunLock, folder_lock

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
    """In stored order: a WITHOUT ROWID table has its key first; an INTEGER PRIMARY KEY is in
    `rowid`, None here."""


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


Row = tuple[Any, ...]

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
    connection.execute(
        "PRAGMA writable_schema = ON"
    )  # otherwise SQLite refuses a truncated file as a whole
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
    first[24:28] = first[92:96] = (1).to_bytes(
        4, "big"
    )  # change counter, and the one for which the page count is valid
    first[28:32] = pages.to_bytes(4, "big")
    copy.write_bytes(bytes(first) + content[PAGE_BYTES:].ljust((pages - 1) * PAGE_BYTES, b"\0"))


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


def padded(table: TableSchema, row: Row) -> Row:
    """Add the missing columns to a row of an earlier version."""
    return row + (None,) * (len(table.columns) - len(row)) if len(row) >= table.fewest else row


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


_ATTEMPTS = (
    "SELECT attempt, min(time) FROM (SELECT attempt, time FROM steps UNION ALL SELECT attempt, time"
    " FROM events) GROUP BY attempt"
)


def refill(
    run: RunDirectory, database: RunDatabase, *, damaged: bool = False
) -> tuple[list[CheckpointEntry], bool]:
    """Insert all known rows of a run and the index of its checkpoints into an empty database.

    Args:
        damaged: the run has a damaged database, whose rows are read if the run has no logs.

    Returns: the checkpoints, and whether a worker ever ran.

    Raises:
        StorageError: the sources can't be read, or the database can't be written.
    """
    checkpoints = list_checkpoints(run)
    losses: dict[int, float] = {}
    if logs_of(run.path):
        database.restore(_without_index(_logged(run), losses, newer=True), newer=True)
    elif damaged:
        database.restore(_without_index(salvaged_rows(run.database_path), losses))
    for entry in checkpoints:
        database.put_checkpoint(entry.row(losses.get(entry.step)))
    return checkpoints, _complete(run, database, checkpoints)


def _logged(run: RunDirectory) -> Iterator[tuple[str, Row]]:
    """Valid rows of the logs, which are text files that anyone may have edited."""
    known = {table.name: table for table in tables() if table.name not in DERIVED}
    for name, logged in logged_rows(run.path):
        row = padded(known[name], logged) if name in known else logged
        if (name in known and is_valid_row(known[name], row)) or (
            name == AFTER and len(row) == 1 and isinstance(row[0], int) and row[0] >= 0
        ):
            yield name, row


def _without_index(
    rows: Iterable[tuple[str, Row]], losses: dict[int, float], *, newer: bool = False
) -> Iterator[tuple[str, Row]]:
    """The rows except checkpoints (the manifests list those), whose losses are collected in
    `losses`.

    Args:
        newer: of two rows of a step the last is right, as in logs; otherwise the first, as in
            `salvaged_rows`.
    """
    for table, row in rows:
        if table == "checkpoints":
            step, validation, lost = row[0], row[5], row[11]
            (loss,) = with_nonfinite(("validation_loss",), (validation,), lost)
            if loss is not None and (newer or step not in losses):
                losses[step] = loss
        else:
            yield table, row


def _complete(
    run: RunDirectory, database: RunDatabase, checkpoints: Sequence[CheckpointEntry]
) -> bool:
    """Add missing facts from other files; returns whether a worker ever ran."""
    with closing(sqlite3.connect(database.path)) as connection:
        meta = dict(all_rows(connection, "SELECT key, value FROM meta"))
        seen = {int(attempt): float(begun) for attempt, begun in all_rows(connection, _ATTEMPTS)}
        known = {
            int(attempt) for (attempt,) in all_rows(connection, "SELECT attempt FROM attempts")
        }
    facts = {"created": repr(run.created())}
    for checkpoint in checkpoints:
        if checkpoint.parent and "@" in checkpoint.parent:
            facts["parent"] = checkpoint.parent
        if isinstance(changed := checkpoint.facts.get(CHANGED_FACT), dict) and changed:
            facts[SETTINGS_KEY] = json.dumps(changed)
        if isinstance(attempt := checkpoint.facts.get("attempt"), int):
            seen.setdefault(attempt, checkpoint.created)
    for key, value in facts.items():
        if key not in meta:
            database.set_meta(key, value)
    # An attempt whose row is lost keeps its number: the next attempt must not overwrite its steps.
    database.restore(
        [
            ("attempts", (attempt, 0, meta.get("host", ""), "", "", 0, "{}", begun))
            for attempt, begun in sorted(seen.items())
            if attempt not in known
        ]
    )
    return bool(seen or known)


REBUILT_SUFFIX = ".rebuilt"
"""Suffix of a finished new database until it replaces the damaged one."""
_COPIED = "copied-from"
"""File beside a copy: the stamp of the logs it was made from."""
_BESIDE = ("", "-wal", "-shm")
_LONG = {
    "steps": "WHERE nonfinite IS NOT NULL",
    "hardware": "LIMIT 0",
    "hardware_rollups": "LIMIT 0",
}
"""Rows to check in large tables: only those with text. SQLite's own check covers numbers."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Result of rebuilding a database."""

    problem: str
    """What was wrong with the old database."""
    kept: Path | None
    """Path of the old database; None if there was none."""
    steps: int
    """Number of recovered steps."""
    last_step: int
    checkpoints: int

    def __str__(self) -> str:
        kept = "" if self.kept is None else f"; the old one is kept as {self.kept.name}"
        missing = (
            f", {self.last_step - self.steps:,} of them without metrics"
            if self.steps < self.last_step
            else ""
        )
        held = (
            f"with {counted(self.last_step, 'step')}{missing} and"
            f" {counted(self.checkpoints, 'checkpoint')}"
        )
        return f"{self.problem}: it was rebuilt {held}{kept}"


def check_database(run: RunDirectory) -> str | None:
    """Check a run's whole database; returns what is wrong in a sentence, or None.

    Raises:
        NewerDatabaseError: a newer version wrote it.
        StorageError: it can't be read, for a reason other than its content.
    """
    path = run.database_path
    if _rebuilt_path(path).exists():
        return f"the rebuild of {path} was interrupted"
    if not path.exists():
        return f"{path} is missing"
    try:
        with (
            database_errors(path),
            closing(
                sqlite3.connect(reading_uri(path, frozen=is_frozen(path)), uri=True)
            ) as connection,
        ):
            version = int(one_row(connection, "PRAGMA user_version")[0])
            check_version(version, path)
            found = str(one_row(connection, "PRAGMA integrity_check(1)")[0])
            found = (
                _first_invalid_row(connection, version)
                if found == "ok"
                else "its pages don't fit together"
            )
    except NewerDatabaseError:
        raise
    except DatabaseError as error:
        return error.message
    return f"{path} is damaged: {found}" if found else None


def _first_invalid_row(connection: sqlite3.Connection, version: int) -> str:
    """Find a row that no worker wrote: SQLite's own check ignores texts and names. Empty if all are
    valid."""
    for table in tables(version):
        columns = ", ".join(column.name for column in table.columns)
        rows = connection.execute(f"SELECT {columns} FROM {table.name} {_LONG.get(table.name, '')}")
        if any(not is_valid_row(table, row, any_kind=True) for row in rows):
            return f"a row of its table {table.name} has invalid values"
    return ""


def open_database(run: RunDirectory) -> RunDatabase:
    """Open the run's database for the worker that holds the run's lock.

    A damaged database is rebuilt first; one on another host is made again on this one.

    Raises: as `check_database`.
    """
    place = run.database_location
    if place is None:
        _repair(run)
        return RunDatabase(run.database_path)
    make_folder(place)
    with folder_lock(place.path.parent):
        problem = None if place.here else f"the database was on {place.host}"
        if problem:
            _remove_copy(place.path)
            take_over_database(run.path, place)
        _repair(run, problem)
        return RunDatabase(run.database_path, logs=run.path)


def repair_database(run: RunDirectory) -> Rebuilt | None:
    """Rebuild the run's database if it is damaged, without holding the run's lock; None if it is
    valid.

    Raises:
        RunStateError: it is damaged, and a worker holds the run.
        NewerDatabaseError: a newer version wrote it.
        StorageError: the disk is full, or the folder can't be written.
    """
    place = run.database_location
    problem = (
        check_database(run) if place is None or place.here else None
    )  # a copy of another host's database is refreshed by its readers
    if problem is None:
        return None
    lock = RunLock(run.lock_path)
    try:
        lock.acquire(patience=0.2)
    except RunStateError as error:
        raise RunStateError(
            f"{problem}, and {error.message}",
            hint=f"`rnnlm-tui stop {run.name}`, then `rnnlm-tui verify {run.name}`",
        ) from error
    except StorageError as error:
        raise StorageError(
            f"{problem}, and can't be rebuilt here: {error.message}", hint=error.hint
        ) from error
    try:
        if place is None:
            return _repair(run)
        make_folder(place)
        with folder_lock(
            place.path.parent
        ):  # or a reader that finds no database for a moment creates a copy in its place
            return _repair(run)
    finally:
        lock.release()


def refresh_copy(run: RunDirectory) -> None:
    """Update this host's copy of a database on another host, or lost here, if the run's logs have
    grown.

    Raises:
        StorageError: a log can't be read, or the copy can't be written.
    """
    place = run.database_location
    if place is None or (place.here and place.path.exists()):
        return
    make_folder(place)
    path, stamp = place.path, _stamp(run)
    copied = path.with_name(_COPIED)
    with folder_lock(path.parent), storage_errors("copy", path):
        settled = (
            run.database_location
        )  # read again: a worker may have taken over the database while this waited for the lock
        if path.exists() and (
            (settled is not None and settled.here)
            or (copied.exists() and copied.read_text(encoding="utf-8") == stamp)
        ):
            return
        _sweep(path.parent)
        fresh = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{secrets.token_hex(4)}")
        with RunDatabase(fresh) as database:
            refill(run, database)
            if logs := logs_of(run.path):
                database.heartbeat(max(log.stat().st_mtime for log in logs))
        _fold_log(fresh)
        for suffix in _BESIDE[1:]:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        fresh.rename(path)  # others read the previous copy until now
        write_text_atomically(copied, stamp)


def _fold_log(fresh: Path) -> None:
    """Fold a new database's WAL into its file before the rename; closing it would hide a full disk.

    Raises:
        StorageError: the disk is full.
    """
    with database_errors(fresh), closing(sqlite3.connect(fresh)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _stamp(run: RunDirectory) -> str:
    """A text that changes with new rows or checkpoints."""
    logs = [f"{log.name} {log.stat().st_size}" for log in logs_of(run.path)]
    return "\n".join([*logs, *(entry.path.name for entry in list_checkpoints(run))])


def _remove_copy(path: Path) -> None:
    with storage_errors("remove", path):
        for name in (_COPIED, *(path.name + suffix for suffix in _BESIDE)):
            path.with_name(name).unlink(missing_ok=True)
        _sweep(path.parent)


def _sweep(folder: Path) -> None:
    """Remove unfinished files of killed processes."""
    for left in folder.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _repair(run: RunDirectory, problem: str | None = None) -> Rebuilt | None:
    """Rebuild the database if it is damaged. The caller holds the run's lock."""
    path = run.database_path
    if _rebuilt_path(path).exists():
        _put_in_place(path, _free_name(path))
    problem = problem or check_database(run)
    if problem is None:
        return None
    kept = _free_name(path) if path.exists() else None
    fresh = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{secrets.token_hex(4)}")
    try:
        with RunDatabase(fresh) as database:
            rebuilt = _fill(run, database, problem, kept)
        _fold_log(fresh)
        with storage_errors("rebuild", path):
            fsync_file(fresh)
            fresh.rename(_rebuilt_path(path))
            fsync_directory(path.parent)
    except BaseException:
        for suffix in _BESIDE:
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
        raise
    _put_in_place(path, kept or _free_name(path))
    return rebuilt


def _rebuilt_path(path: Path) -> Path:
    return path.with_name(path.name + REBUILT_SUFFIX)


def _free_name(path: Path) -> Path:
    """`run.db.damaged-20261125T193644`, with a number if that exists."""
    name = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
    names = [name, *(f"{name}-{number}" for number in range(2, 1_000))]
    return next(path.with_name(free) for free in names if not path.with_name(free).exists())


def _put_in_place(path: Path, kept: Path) -> None:
    """Move the damaged files aside, then the new one into place. After a kill, the next call
    finishes it."""
    with storage_errors("move aside", path):
        for suffix in reversed(_BESIDE):
            old = path.with_name(path.name + suffix)
            if old.exists():
                old.rename(kept.with_name(kept.name + suffix))
        _rebuilt_path(path).rename(path)
        fsync_directory(path.parent)


def _fill(run: RunDirectory, database: RunDatabase, problem: str, kept: Path | None) -> Rebuilt:
    """Fill an empty database with everything known of the run and an event about the rebuild."""
    checkpoints, worked = refill(run, database, damaged=kept is not None)
    with closing(sqlite3.connect(database.path)) as connection:
        steps, last_step = one_row(
            connection, "SELECT count(*), coalesce(max(step), 0) FROM steps WHERE superseded = 0"
        )
        attempt = int(one_row(connection, "SELECT coalesce(max(attempt), 1) FROM attempts")[0])
        silent = not all_rows(connection, "SELECT 1 FROM events WHERE state = 1 LIMIT 1")
    rebuilt = Rebuilt(
        problem,
        kept,
        int(steps),
        max([int(last_step), *(entry.step for entry in checkpoints)]),
        len(checkpoints),
    )
    database.add_event(EventRow(attempt, rebuilt.last_step, "note", str(rebuilt), time.time()))
    if worked and silent:
        database.set_meta("message", f"the run's last events were lost: {_in_short(run, problem)}")
        where = (
            f"resumes from step {checkpoints[-1].step:,}"
            if checkpoints
            else "restarts from step 0: no checkpoint was saved"
        )
        database.set_meta("hint", f"`rnnlm-tui resume {run.name}` {where}")
        database.add_event(
            EventRow(
                attempt,
                rebuilt.last_step,
                "failed",
                "the run's last events were lost with its database",
                time.time(),
            )
        )
    return rebuilt


def _in_short(run: RunDirectory, problem: str) -> str:
    """A short form of the problem: `its database was damaged and has been rebuilt`."""
    _, found, what = problem.partition(f"{run.database_path} is ")
    return f"its database was {what.partition(':')[0]} and has been rebuilt" if found else problem
