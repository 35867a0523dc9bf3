"""run.db's tables, roll-ups and schema version, and helpers for sqlite3 and its errors."""

from __future__ import annotations

import json
import math
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rnnlm_tui.errors import DatabaseError, NewerDatabaseError, StorageError
from rnnlm_tui.schema.metrics import MACHINE_COLUMNS, METRIC_COLUMNS, EventKind
from rnnlm_tui.system.disk import free_bytes
from rnnlm_tui.system.files import folder_advice

SCHEMA_VERSION = 5
"""Stored in `PRAGMA user_version`; 0 is a file without tables."""
ROLLUP_STEPS = 1_024
"""Steps per roll-up: bucket b holds steps b·1,024 + 1 to (b + 1)·1,024."""
ROLLUP_READINGS = 32
"""Machine readings per roll-up, about half a minute: bucket b holds ids b·32 + 1 to (b + 1)·32."""
BUSY_SECONDS = 10.0
ROOM_FOR_READING = 2**18
"""Free bytes that SQLite may need to read beside a writer: 32 KiB of shared memory and an empty
WAL."""
STATE_EVENTS: frozenset[EventKind] = frozenset(
    {"started", "preparing", "running", "paused", "resumed", "stopped", "finished", "failed"}
)
"""Kinds of events that change a run's state."""

_BROKEN = {
    sqlite3.SQLITE_CORRUPT: "its pages are corrupt",
    sqlite3.SQLITE_NOTADB: "it is no longer a database",
}
"""Readable reasons for SQLite's codes."""
_rollup_columns = "".join(
    f", {name}_n INTEGER NOT NULL, {name}_min REAL, {name}_max REAL, {name}_sum REAL"
    for name in METRIC_COLUMNS
)

# The key of `steps` starts with the step: the newest, a range and a bucket are then one scan.
# NaN and infinite numbers are NULL (SQLite has no NaN), and `nonfinite` says what they were.
# `superseded` marks rows of steps after the one that a later attempt resumed from: they are kept,
# but not part of the run's curves.
_FIRST = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE attempts (
    attempt INTEGER PRIMARY KEY, pid INTEGER NOT NULL, host TEXT NOT NULL, boot_id TEXT NOT NULL,
    device TEXT NOT NULL, start_step INTEGER NOT NULL, environment TEXT NOT NULL,
    started REAL NOT NULL);
CREATE TABLE steps (
    attempt INTEGER NOT NULL, step INTEGER NOT NULL, tokens_seen INTEGER NOT NULL,
    epoch REAL NOT NULL, loss REAL, grad_norm REAL, learning_rate REAL, tokens_per_second REAL,
    active_seconds REAL NOT NULL, time REAL NOT NULL, nonfinite TEXT,
    superseded INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (step, attempt)) WITHOUT ROWID;
CREATE TABLE rollups (
    bucket INTEGER PRIMARY KEY, last_step INTEGER NOT NULL, tokens_seen INTEGER NOT NULL,
    epoch REAL NOT NULL, active_seconds REAL NOT NULL, time REAL NOT NULL,
    nonfinite_rows INTEGER NOT NULL{_rollup_columns});
CREATE TABLE evaluations (
    id INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, step INTEGER NOT NULL, split TEXT NOT NULL,
    name TEXT NOT NULL, loss REAL, tokens INTEGER NOT NULL, bits_per_byte REAL,
    seconds REAL NOT NULL, time REAL NOT NULL, nonfinite TEXT,
    superseded INTEGER NOT NULL DEFAULT 0, UNIQUE (attempt, step, split, name));
CREATE TABLE samples (
    id INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, step INTEGER NOT NULL, prompt TEXT NOT NULL,
    text TEXT NOT NULL, tokens INTEGER NOT NULL, seed INTEGER, time REAL NOT NULL,
    superseded INTEGER NOT NULL DEFAULT 0);
CREATE TABLE events (
    id INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, step INTEGER NOT NULL, kind TEXT NOT NULL,
    text TEXT NOT NULL, time REAL NOT NULL, state INTEGER NOT NULL);
CREATE INDEX state_events ON events (state, id);
CREATE TABLE hardware (
    id INTEGER PRIMARY KEY, time REAL NOT NULL, cpu_percent REAL, process_cpu_percent REAL,
    memory_used INTEGER, memory_total INTEGER, process_memory INTEGER, disk_free INTEGER,
    gpu_name TEXT, gpu_percent REAL, gpu_memory_used INTEGER, gpu_memory_own INTEGER,
    gpu_memory_total INTEGER, gpu_watts REAL, gpu_celsius REAL);
CREATE TABLE checkpoints (
    step INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, epoch REAL NOT NULL,
    tokens_seen INTEGER NOT NULL, train_loss REAL, validation_loss REAL, bytes INTEGER NOT NULL,
    path TEXT NOT NULL, best INTEGER NOT NULL, last INTEGER NOT NULL, time REAL NOT NULL,
    nonfinite TEXT);
CREATE TABLE commands (
    id TEXT PRIMARY KEY, verb TEXT NOT NULL, arguments TEXT NOT NULL, result TEXT NOT NULL,
    time REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE progress (
    only INTEGER PRIMARY KEY CHECK (only = 1), phase TEXT NOT NULL, done INTEGER NOT NULL,
    total INTEGER NOT NULL);
"""

# `other_gpus` is a JSON object with the readings of each other GPU by its index, or NULL.
# In hardware_rollups, n, l, h and s are count, minimum, maximum and sum of each of MACHINE_COLUMNS:
# with full names the schema would not fit on the first page, where a salvage needs it.
_machine_columns = "".join(f",n{i},l{i},h{i},s{i}" for i in range(len(MACHINE_COLUMNS)))
_SECOND = f"""
ALTER TABLE hardware ADD COLUMN other_gpus TEXT;
CREATE TABLE hardware_rollups (
    bucket INTEGER PRIMARY KEY, last_id INTEGER, time REAL{_machine_columns});
"""

_THIRD = "ALTER TABLE evaluations ADD COLUMN unknown INTEGER;"

_FOURTH = "".join(
    f"ALTER TABLE hardware ADD COLUMN gpu_{column};"
    for column in (
        "watts_limit REAL", "clock_mhz REAL", "clock_max_mhz REAL", "throttle TEXT", "fault TEXT",
    )
)  # fmt: skip

_FIFTH = "".join(
    f"ALTER TABLE evaluations ADD COLUMN {column} INTEGER;"
    for column in ("scored_bytes", "text_bytes")
)

_VERSIONS = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH)
"""What each version added to the one before."""

_PARTS = [f"{name}_{part}" for name in METRIC_COLUMNS for part in ("n", "min", "max", "sum")]
_AGGREGATES = [
    f"{how}({name}) AS {name}_{part}"
    for name in METRIC_COLUMNS
    for how, part in (("count", "n"), ("min", "min"), ("max", "max"), ("sum", "sum"))
]
_MACHINE_PARTS = [f"{part}{index}" for index in range(len(MACHINE_COLUMNS)) for part in "nlhs"]
_MACHINE_AGGREGATES = [
    f"{how}({name}) AS {part}{index}"
    for index, name in enumerate(MACHINE_COLUMNS)
    for how, part in (("count", "n"), ("min", "l"), ("max", "h"), ("sum", "s"))
]

# A bucket is always computed from all its rows, so it is right after a repeated batch or a resume;
# 1,024 rows take 0.5 ms.
ROLL_UP_STEPS = f"""
INSERT OR REPLACE INTO rollups
SELECT
    :bucket, whole.last_step, newest.tokens_seen, newest.epoch, newest.active_seconds, newest.time,
    whole.nonfinite_rows, {", ".join(f"whole.{part}" for part in _PARTS)}
FROM (
    SELECT max(step) AS last_step, count(nonfinite) AS nonfinite_rows, {", ".join(_AGGREGATES)}
    FROM steps WHERE superseded = 0
        AND step > :bucket * {ROLLUP_STEPS} AND step <= (:bucket + 1) * {ROLLUP_STEPS}
) AS whole JOIN steps AS newest ON newest.step = whole.last_step AND newest.superseded = 0
"""
"""Computes one `bucket`; does nothing if it has no steps."""

ROLL_UP_READINGS = f"""
INSERT OR REPLACE INTO hardware_rollups
SELECT :bucket, whole.last_id, newest.time, {", ".join(f"whole.{part}" for part in _MACHINE_PARTS)}
FROM (
    SELECT max(id) AS last_id, {", ".join(_MACHINE_AGGREGATES)}
    FROM hardware WHERE id > :bucket * {ROLLUP_READINGS} AND id <= (:bucket + 1) * {ROLLUP_READINGS}
) AS whole JOIN hardware AS newest ON newest.id = whole.last_id
"""
"""Computes one `bucket`; does nothing if it has no readings."""

BUCKETS_OF_STEPS = f"SELECT DISTINCT (step - 1) / {ROLLUP_STEPS} FROM steps WHERE superseded = 0"
BUCKETS_OF_READINGS = f"SELECT DISTINCT (id - 1) / {ROLLUP_READINGS} FROM hardware"


def tables_since(version: int, until: int = SCHEMA_VERSION) -> str:
    """The statements that upgrade a database from `version` (0: empty) to `until`."""
    return f"{''.join(_VERSIONS[version:until])} PRAGMA user_version = {until};"


def check_version(version: int, path: Path) -> None:
    """Refuse a database of an unknown version. Earlier versions are readable, and upgraded by the
    next worker.

    Raises:
        NewerDatabaseError: a newer version wrote it.
        DatabaseError: no version wrote it.
    """
    if version > SCHEMA_VERSION:
        message = (
            f"{path} was made by a newer version of rnnlm-tui: its schema is {version}, this"
            f" version reads {SCHEMA_VERSION}"
        )
        raise NewerDatabaseError(message, hint="update rnnlm-tui; the file was not changed")
    if version < 1:
        raise DatabaseError(
            f"{path} has the schema {version}, which no version of rnnlm-tui wrote",
            hint=damage_hint(path),
        )


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn sqlite3's errors inside the block into DatabaseError (damaged) or StorageError (full,
    locked, not writable)."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a bug of ours, not of the file
    except UnicodeDecodeError as error:
        raise DatabaseError(f"{path} is damaged: {error}", hint=damage_hint(path)) from error
    except sqlite3.Error as error:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise StorageError(
                f"can't write {path}: {error}", hint="free some space on this disk"
            ) from error
        if code == sqlite3.SQLITE_IOERR:
            raise StorageError(
                f"can't read or write {path}: {error}",
                hint="check the disk's free space and errors, and that the path is a regular file",
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
            raise StorageError(
                f"{path} is locked by another program",
                hint="close other programs that have it open",
            ) from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            raise StorageError(
                f"can't open {path}: {error}", hint=folder_advice(path.parent)
            ) from error
        raise DatabaseError(
            f"{path} is damaged: {_BROKEN.get(code) or error}", hint=damage_hint(path)
        ) from error


def damage_hint(path: Path) -> str:
    """A hint for a damaged database."""
    # the folder of a database outside its run
    name = "RUN" if re.fullmatch("[0-9a-f]{16}", path.parent.name) else path.parent.name
    return (
        f"`rnnlm-tui verify {name}` or `rnnlm-tui resume {name}` rebuilds it; checkpoints are"
        f" unaffected, `rnnlm-tui sample {name}@last` works"
    )


def is_frozen(path: Path) -> bool:
    """Whether SQLite can only read the database as immutable: it has no log, and no file can be
    created next to it.

    A writer creates a log, so a reader that checks again notices that the database is no longer
    frozen.
    """
    if path.with_name(f"{path.name}-wal").exists():
        return False
    return not os.access(path.parent, os.W_OK) or free_bytes(path.parent) < ROOM_FOR_READING


def reading_uri(path: Path, *, frozen: bool) -> str:
    """SQLite's URI of a database to read only; `frozen` is the result of `is_frozen`."""
    return f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if frozen else ''}"


def all_rows(
    connection: sqlite3.Connection, query: str, values: Sequence[object] = ()
) -> list[tuple[Any, ...]]:
    """Fetch all rows at once: an open cursor would freeze `data_version` and let the WAL grow."""
    cursor = connection.execute(query, values)
    try:
        return cursor.fetchall()
    finally:
        cursor.close()


def one_row(
    connection: sqlite3.Connection, query: str, values: Sequence[object] = ()
) -> tuple[Any, ...]:
    """Fetch the row of a query that always returns one."""
    return all_rows(connection, query, values)[0]


def without_nonfinite(
    names: Sequence[str], values: Sequence[float | None]
) -> tuple[list[float | None], str | None]:
    """Replace NaN and infinite values by None; also returns them as text (`{"loss": "nan"}`) or
    None."""
    if all(value is None or math.isfinite(value) for value in values):
        return list(values), None
    lost = {
        name: str(float(value))
        for name, value in zip(names, values, strict=True)
        if value is not None and not math.isfinite(value)
    }
    return [
        None if name in lost else value for name, value in zip(names, values, strict=True)
    ], json.dumps(lost)


def with_nonfinite(
    names: Sequence[str], values: Sequence[float | None], text: str | None
) -> list[Any]:
    """The inverse of `without_nonfinite`."""
    if text is None:
        return list(values)
    lost = json.loads(text)
    return [
        float(lost[name]) if name in lost else value
        for name, value in zip(names, values, strict=True)
    ]


def storable(text: str) -> str:
    """The text with lone surrogates escaped, because SQLite stores only UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
