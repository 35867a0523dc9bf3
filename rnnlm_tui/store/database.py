"""RunDatabase: write a run's database. Only the run's worker does that.

If the database is outside the run's folder, each attempt's rows are also appended to a log of JSON
lines in that folder (`MetricsLog`), synced within a second.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time as clock
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from pathlib import Path
from threading import Lock, RLock
from typing import Any

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.metrics import (
    METRIC_COLUMNS,
    CheckpointRow,
    EvaluationRow,
    EventRow,
    HardwareRow,
    Progress,
    SampleRow,
    StepRow,
)
from rnnlm_tui.schema.status import ACTIVITY_KEY, REQUESTS_KEY
from rnnlm_tui.store.retention import best_step
from rnnlm_tui.store.schema import (
    BUCKETS_OF_READINGS,
    BUCKETS_OF_STEPS,
    BUSY_SECONDS,
    ROLL_UP_READINGS,
    ROLL_UP_STEPS,
    ROLLUP_READINGS,
    ROLLUP_STEPS,
    SCHEMA_VERSION,
    STATE_EVENTS,
    all_rows,
    check_version,
    database_errors,
    storable,
    tables_since,
    without_nonfinite,
)
from rnnlm_tui.store.series import hardware_values
from rnnlm_tui.system.files import fsync_directory, open_private, storage_errors

_NAME = re.compile(r"metrics-(\d{1,6})\.jsonl")
AFTER = "after"
"""A pseudo-table: rows of later steps, from earlier attempts, are superseded."""

Entry = tuple[str, Sequence[Sequence[object]]]
"""A table's name and rows, with values in column order."""

UNLOGGED_META = ("heartbeat", ACTIVITY_KEY, REQUESTS_KEY)
"""Momentary facts, which the metrics logs leave out."""


class MetricsLog:
    """Appends to `metrics-<attempt>.jsonl`. Only for the process that writes the run's database.

    Raises (every method):
        StorageError: the file can't be written; it is as it was before the call.
    """

    def __init__(self, run: Path, attempt: int) -> None:
        self.path = run / f"metrics-{attempt}.jsonl"
        self._turn = Lock()
        self._unsynced = b""  # the last bytes, until they are on the disk
        self._lost = False
        with storage_errors("write", self.path):
            self._descriptor = open_private(self.path, os.O_WRONLY)
            self._size = self._before = os.lseek(self._descriptor, 0, os.SEEK_END)
            fsync_directory(run)

    def append(self, entries: Sequence[Entry]) -> None:
        """Append entries, one per line."""
        lines = b"".join(
            json.dumps({"table": table, "rows": rows}, separators=(",", ":")).encode() + b"\n"
            for table, rows in entries
        )
        self._before = self._size
        try:
            with self._turn:
                self._write(lines, self._size)
                self._size += len(lines)
                self._unsynced += lines
        except BaseException:
            self.undo()
            raise

    def _write(self, content: bytes, place: int) -> None:
        with storage_errors("write", self.path):
            written = 0
            while written < len(content):
                written += os.pwrite(self._descriptor, content[written:], place + written)

    def undo(self) -> None:
        """Undo the last `append`."""
        with self._turn, suppress(OSError):  # the next line overwrites it in any case
            self._unsynced = self._unsynced[: len(self._unsynced) - (self._size - self._before)]
            self._size = self._before
            os.ftruncate(self._descriptor, self._size)

    def sync(self) -> None:
        """Wait until everything is on the disk. After a failed call, unsynced bytes are written
        again.

        Another thread may append meanwhile.
        """
        with self._turn:
            waiting = self._unsynced
            if self._lost:
                self._write(waiting, self._size - len(waiting))
        if waiting:
            try:
                with storage_errors("write", self.path):
                    os.fsync(self._descriptor)
            except StorageError:
                self._lost = (
                    True  # a full NFS server reports it only here, and drops what was written
                )
                raise
            with self._turn:
                self._lost = False
                if self._unsynced.startswith(waiting):
                    self._unsynced = self._unsynced[len(waiting) :]

    def close(self) -> None:
        """Sync and close the file; a second call does nothing."""
        if self._descriptor >= 0:
            try:
                self.sync()
            finally:
                os.close(self._descriptor)
                self._descriptor = -1


def logs_of(run: Path) -> list[Path]:
    """The logs of a run's attempts, oldest first."""
    with storage_errors("look into", run):
        found = [
            (int(match[1]), path)
            for path in run.iterdir()
            if (match := _NAME.fullmatch(path.name)) and path.is_file() and not path.is_symlink()
        ]
    return [path for _, path in sorted(found)]


def logged_rows(run: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(table, row) of all logs in the order written; incomplete and invalid lines are skipped.

    Raises:
        StorageError: a log can't be read.
    """
    for path in logs_of(run):
        with storage_errors("read", path), path.open("rb") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                    table, rows = str(entry["table"]), [tuple(row) for row in entry["rows"]]
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue
                yield from ((table, row) for row in rows)


class RunDatabase:
    """Writes run.db. One process only; its threads may share it. Creates missing files and tables.

    Every method commits before it returns.

    Args:
        logs: the run's folder if the database is outside it: from `begin_attempt` on, each
            attempt's rows are also appended there as JSON lines.

    Raises (every method):
        DatabaseError: the file is damaged or from a newer version.
        StorageError: the file can't be written, for example because the disk is full. Nothing was
            changed, and the call can be repeated.
    """

    def __init__(self, path: Path, *, logs: Path | None = None) -> None:
        self.path = path
        self._turn = RLock()
        self._logs = logs
        self._log: MetricsLog | None = None
        self._entries: list[Entry] = []
        with storage_errors("open", path):
            os.close(open_private(path, os.O_RDWR))
        with database_errors(path):
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        execute("PRAGMA mmap_size = 0")
        version = int(execute("PRAGMA user_version").fetchone()[0])
        if version or execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            check_version(version, self.path)
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = NORMAL")
        execute("PRAGMA journal_size_limit = 4194304")
        if version < SCHEMA_VERSION:
            self._upgrade(version)

    def _upgrade(self, version: int) -> None:
        """Create the tables of an empty file, or upgrade those of an earlier version, in one
        transaction."""
        try:
            self._connection.executescript(f"BEGIN IMMEDIATE; {tables_since(version)}")
            _roll_up(self._connection, ROLL_UP_READINGS, BUCKETS_OF_READINGS)
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._turn, database_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            self._entries.clear()
            logged: MetricsLog | None = None
            try:
                yield self._connection
                if self._log is not None and self._entries:
                    self._log.append(self._entries)
                    logged = self._log
                self._connection.execute("COMMIT")
            except BaseException:
                if logged is not None:
                    logged.undo()
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the database, which folds the WAL into it; a second call does nothing."""
        with self._turn, database_errors(self.path):
            self._connection.close()
            if self._log is not None:
                self._log.close()

    def __enter__(self) -> RunDatabase:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin_attempt(
        self,
        pid: int,
        host: str,
        boot_id: str,
        device: str,
        start_step: int,
        environment: Mapping[str, object],
    ) -> int:
        """Begin an attempt that resumes after `start_step` (0: from the start); returns its number,
        from 1.

        Rows that earlier attempts wrote for later steps are marked as superseded, and checkpoints
        of later steps leave the index. Also sets the meta keys pid, host, boot_id, device,
        heartbeat and activity.
        """
        now = clock.time()
        with self._transaction() as connection:
            attempt = int(
                connection.execute("SELECT coalesce(max(attempt), 0) + 1 FROM attempts").fetchone()[
                    0
                ]
            )
            row = (
                attempt,
                pid,
                host,
                boot_id,
                device,
                start_step,
                json.dumps(dict(environment), default=str),
                now,
            )
            connection.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            _supersede_after(connection, start_step)
            connection.execute("DELETE FROM progress")
            for key, value in {
                "pid": pid,
                "host": host,
                "boot_id": boot_id,
                "device": device,
                "heartbeat": now,
                ACTIVITY_KEY: "",
            }.items():
                _set_meta(connection, key, str(value))
            if self._logs is not None:
                self._begin_log(MetricsLog(self._logs, attempt), row, start_step)
        return attempt

    def _begin_log(self, log: MetricsLog, attempt: Sequence[object], start_step: int) -> None:
        """Begin an attempt's log with all current facts, so that the logs alone are complete."""
        if self._log is not None:
            self._log.close()
        self._log = log
        meta = all_rows(
            self._connection,
            f"SELECT key, value FROM meta WHERE key NOT IN ({', '.join('?' * len(UNLOGGED_META))})",
            UNLOGGED_META,
        )
        self._entries += [("meta", meta), ("attempts", [attempt]), (AFTER, [(start_step,)])]

    def move_start_back(self, attempt: int, start_step: int) -> None:
        """Change the start of an attempt to an earlier step: the checkpoint it began with is
        damaged."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE attempts SET start_step = ? WHERE attempt = ?", (start_step, attempt)
            )
            _supersede_after(connection, start_step)
            self._entries += [(AFTER, [(start_step,)])]

    def add_steps(self, rows: Sequence[StepRow]) -> None:
        """Add steps and update their roll-ups in one transaction. Replaces steps of the same
        attempt."""
        if not rows:
            return
        with self._transaction() as connection:
            values = [_step_values(row) for row in rows]
            connection.executemany(
                "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values
            )
            self._entries += [("steps", values)]
            for bucket in sorted({(row.step - 1) // ROLLUP_STEPS for row in rows}):
                connection.execute(ROLL_UP_STEPS, {"bucket": bucket})

    def add_evaluation(self, row: EvaluationRow) -> None:
        """Add an evaluation. Replaces one of the same set, step and attempt; supersedes earlier
        attempts'."""
        (loss, bits), lost = without_nonfinite(
            ("loss", "bits_per_byte"), (row.loss, row.bits_per_byte)
        )
        values = (
            None,
            row.attempt,
            row.step,
            row.split,
            row.name,
            loss,
            row.tokens,
            bits,
            row.seconds,
            row.time,
            lost,
            0,
            row.unknown,
            row.scored_bytes,
            row.text_bytes,
        )
        with self._transaction() as connection:
            same = "step = ? AND split = ? AND name = ? AND attempt < ? AND superseded = 0"
            connection.execute(
                f"UPDATE evaluations SET superseded = 1 WHERE {same}",
                (row.step, row.split, row.name, row.attempt),
            )
            self._insert(connection, "evaluations", values)

    def add_sample(self, row: SampleRow) -> None:
        """Add a sample."""
        self._put(
            "samples",
            (
                None,
                row.attempt,
                row.step,
                storable(row.prompt),
                storable(row.text),
                row.tokens,
                row.seed,
                row.time,
                0,
            ),
        )

    def add_event(self, row: EventRow) -> None:
        """Add an event."""
        self._put(
            "events",
            (
                None,
                row.attempt,
                row.step,
                row.kind,
                storable(row.text),
                row.time,
                int(row.kind in STATE_EVENTS),
            ),
        )

    def add_hardware(self, row: HardwareRow) -> None:
        """Add a machine reading and update its roll-up. The log gets only the first reading of each
        roll-up."""
        values = hardware_values(row)
        with self._transaction() as connection:
            id = (
                connection.execute(
                    f"INSERT INTO hardware VALUES (NULL{', ?' * len(values)})", values
                ).lastrowid
                or 1
            )
            connection.execute(ROLL_UP_READINGS, {"bucket": (id - 1) // ROLLUP_READINGS})
            if id % ROLLUP_READINGS == 1:
                self._entries += [("hardware", [[None, *values]])]

    def _put(self, table: str, values: tuple[object, ...]) -> None:
        with self._transaction() as connection:
            self._insert(connection, table, values)

    def _insert(
        self, connection: sqlite3.Connection, table: str, values: tuple[object, ...]
    ) -> None:
        connection.execute(
            f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(values))})", values
        )
        self._entries += [(table, [values])]

    def put_checkpoint(self, row: CheckpointRow) -> None:
        """Add a checkpoint to the index and update `best` and `last` of all rows."""
        (train, validation), lost = without_nonfinite(
            ("train_loss", "validation_loss"), (row.train_loss, row.validation_loss)
        )
        values = (
            row.step,
            row.attempt,
            row.epoch,
            row.tokens_seen,
            train,
            validation,
            row.bytes,
            row.path,
            0,
            0,
            row.time,
            lost,
        )
        with storage_errors("write", self.path), self._transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            self._entries += [("checkpoints", [values])]
            _mark_checkpoints(connection)

    def remove_checkpoint(self, step: int) -> None:
        """Remove a checkpoint from the index, if it is there."""
        with storage_errors("write", self.path), self._transaction() as connection:
            connection.execute("DELETE FROM checkpoints WHERE step = ?", (step,))
            _mark_checkpoints(connection)

    def restore(self, rows: Iterable[tuple[str, Sequence[object]]], *, newer: bool = False) -> None:
        """Insert (table, row) pairs from another file, and update roll-ups and marks. Nothing is
        logged.

        Args:
            newer: replace existing rows instead of keeping them, and let (`after`, step) supersede
                later steps.
        """
        with self._transaction() as connection:
            for table, row in rows:
                if table == AFTER:
                    _supersede_after(connection, int(str(row[0])))
                else:
                    connection.execute(
                        f"INSERT OR {'REPLACE' if newer else 'IGNORE'} INTO {table} VALUES"
                        f" ({', '.join('?' * len(row))})",
                        row,
                    )
            _roll_up(connection, ROLL_UP_STEPS, BUCKETS_OF_STEPS)
            _roll_up(connection, ROLL_UP_READINGS, BUCKETS_OF_READINGS)
            _mark_checkpoints(connection)

    def set_meta(self, key: str, value: str) -> None:
        """Set a fact of the run."""
        with self._transaction() as connection:
            _set_meta(connection, key, value)
            if key not in UNLOGGED_META:
                self._entries += [("meta", [(key, storable(value))])]

    def heartbeat(self, time: float) -> None:
        """Record that the worker is alive at `time` (Unix seconds), and sync the metrics log."""
        self.set_meta("heartbeat", repr(time))
        if self._log is not None:
            self._log.sync()

    def set_progress(self, progress: Progress | None) -> None:
        """Set the progress of the corpus preparation; None: finished."""
        with self._transaction() as connection:
            if progress is None:
                connection.execute("DELETE FROM progress")
            else:
                connection.execute(
                    "INSERT OR REPLACE INTO progress VALUES (1, ?, ?, ?)", astuple(progress)
                )

    def journal_command(self, id: str, verb: str, arguments_json: str, result_json: str) -> None:
        """Store a command and its answer; a known id keeps its first answer."""
        values = (storable(id), verb, storable(arguments_json), storable(result_json), clock.time())
        with self._transaction() as connection:
            if connection.execute(
                "INSERT OR IGNORE INTO commands VALUES (?, ?, ?, ?, ?)", values
            ).rowcount:
                self._entries += [("commands", [values])]

    def journalled(self, id: str) -> str | None:
        """The stored answer to a command, as JSON; None for a new id."""
        with self._turn, database_errors(self.path):
            found = self._connection.execute(
                "SELECT result FROM commands WHERE id = ?", (storable(id),)
            ).fetchall()
        return str(found[0][0]) if found else None


def _step_values(row: StepRow) -> tuple[float | str | None, ...]:
    measured, lost = without_nonfinite(
        METRIC_COLUMNS, (row.loss, row.grad_norm, row.learning_rate, row.tokens_per_second)
    )
    return (
        row.attempt,
        row.step,
        row.tokens_seen,
        row.epoch,
        *measured,
        row.active_seconds,
        row.time,
        lost,
        0,
    )


def _roll_up(connection: sqlite3.Connection, statement: str, buckets: str) -> None:
    """Compute all roll-ups."""
    for (bucket,) in all_rows(connection, buckets):
        connection.execute(statement, {"bucket": bucket})


def _supersede_after(connection: sqlite3.Connection, step: int) -> None:
    """Mark rows of later steps as superseded, and remove their checkpoints from the index."""
    for table in ("steps", "evaluations", "samples"):
        connection.execute(
            f"UPDATE {table} SET superseded = 1 WHERE step > ? AND superseded = 0", (step,)
        )
    connection.execute("DELETE FROM rollups WHERE bucket >= ?", (step // ROLLUP_STEPS,))
    connection.execute(ROLL_UP_STEPS, {"bucket": step // ROLLUP_STEPS})
    connection.execute("DELETE FROM checkpoints WHERE step > ?", (step,))
    _mark_checkpoints(connection)


def _set_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, storable(value)))


def _mark_checkpoints(connection: sqlite3.Connection) -> None:
    best = best_step(connection.execute("SELECT step, validation_loss FROM checkpoints").fetchall())
    connection.execute(
        "UPDATE checkpoints SET best = (step IS ?), last = (step = (SELECT max(step) FROM"
        " checkpoints))",
        (best,),
    )
