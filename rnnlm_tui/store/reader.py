"""RunReader: read a run's database, live or ended, without writing to it."""

from __future__ import annotations

import json
import re
import sqlite3
import stat
import time as clock
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

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
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.schema import (
    all_rows,
    check_version,
    database_errors,
    is_frozen,
    one_row,
    reading_uri,
    with_nonfinite,
)
from rnnlm_tui.store.series import (
    DETAIL_LIMIT,
    RAW_LIMIT,
    Cached,
    MachineBuilder,
    MachineTable,
    SeriesBuilder,
    SeriesTable,
    Tail,
    empty_machine,
    empty_table,
    hardware_row,
)
from rnnlm_tui.system.files import storage_errors

if TYPE_CHECKING:
    from rnnlm_tui.schema.steering import JournalledChange

STEP_COLUMNS = (
    "attempt, step, tokens_seen, epoch, loss, grad_norm, learning_rate, tokens_per_second,"
    " active_seconds, time, nonfinite"
)
EVENT_COLUMNS = "attempt, step, kind, text, time"
SAMPLE_COLUMNS = "attempt, step, prompt, text, tokens, seed, time"
CHECKPOINT_COLUMNS = (
    "attempt, step, epoch, tokens_seen, train_loss, validation_loss, bytes, path, best, last, time,"
    " nonfinite"
)


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One worker's attempt at the run."""

    attempt: int
    pid: int
    host: str
    boot_id: str
    device: str
    start_step: int
    """The attempt resumed after this step; 0: from the start."""
    environment: dict[str, object]
    """Versions, threads and settings, as the worker reported them."""
    started: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a run's series go at one moment. A row up to here doesn't change while `attempts` and
    `evaluations` don't."""

    attempts: tuple[tuple[int, int], ...]
    """Number and start step of each attempt; a new one supersedes the rows after its start."""
    step: int
    """The newest step; 0 if there is none."""
    sample: int
    event: int
    reading: int
    """The newest ids of samples, events and machine readings; 0 if there is none."""
    evaluations: tuple[EvaluationRow, ...]
    """All of them, by step."""


def attempt_row(row: tuple[Any, ...]) -> AttemptRow:
    """A row of `attempts`, its columns in the order of the fields."""
    attempt, pid, host, boot, device, start_step, environment, started = row
    return AttemptRow(
        attempt,
        pid,
        host,
        boot,
        device,
        start_step,
        environment=json.loads(environment),
        started=started,
    )


def by_step(rows: Sequence[EvaluationRow]) -> list[EvaluationRow]:
    """Sort by step, with the latest row of each step and set: a set may be evaluated again."""
    latest: dict[object, EvaluationRow] = {}
    for row in rows:
        latest.pop(key := (row.step, row.split, row.name), None)
        latest[key] = row
    return sorted(latest.values(), key=lambda row: row.step)


def evaluation_row(row: tuple[Any, ...]) -> EvaluationRow:
    """From a row of `evaluations` without its id; earlier versions have no counts of
    unknown tokens and bytes."""
    attempt, step, split, name, loss, tokens, bits, seconds, time, lost, _superseded, *later = row
    loss, bits = with_nonfinite(("loss", "bits_per_byte"), (loss, bits), lost)
    return EvaluationRow(attempt, step, split, name, loss, tokens, bits, seconds, time, *later)


def step_row(row: tuple[Any, ...]) -> StepRow:
    """A row of STEP_COLUMNS."""
    loss, norm, rate, speed = with_nonfinite(METRIC_COLUMNS, row[4:8], row[10])
    return StepRow(row[0], row[1], row[2], row[3], loss, norm, rate, speed, row[8], row[9])


def checkpoint_row(row: tuple[Any, ...]) -> CheckpointRow:
    """A row of CHECKPOINT_COLUMNS."""
    attempt, step, epoch, tokens, train, validation, size, path, best, last, time, lost = row
    train, validation = with_nonfinite(("train_loss", "validation_loss"), (train, validation), lost)
    return CheckpointRow(
        attempt, step, epoch, tokens, train, validation, size, path, bool(best), bool(last), time
    )


RowT = TypeVar("RowT")

READ_BUSY_SECONDS = 2.0
COPY_SECONDS = 2.0
"""A copy of another host's database is updated at most this often."""

_CHECKPOINT = re.compile(r"checkpoints/step-\d{9,12}")
_INDEX_STATE = (
    "SELECT count(*), total(step), total(time), total(bytes), total(best * step),"
    " count(validation_loss), total(validation_loss), total(train_loss) FROM checkpoints"
)
"""Changes whenever the index of checkpoints changes."""
_ROUTINE_KINDS = "('preparing', 'running', 'checkpoint', 'best', 'evaluation', 'sample')"
"""Kinds of events that duplicate the run's status, checkpoints, evaluations and samples."""


def _read_changes(rows: Sequence[tuple[Any, ...]]) -> list[JournalledChange]:
    if not rows:
        return []
    from rnnlm_tui.schema.steering import journalled_change  # not before the first paint

    found = [journalled_change(*row) for row in rows]
    return sorted(
        (change for change in found if change is not None), key=lambda change: change.number
    )


class RunReader:
    """Reads and follows one run's database; `data_version` changes when anything is new.

    A missing database reads as empty, a replaced one is opened again, and superseded rows are left
    out. If the database is on another host, a copy made from the logs in the run's folder is read,
    a few seconds late. Threads may share a reader.

    Raises (every method):
        DatabaseError: the file is damaged or from a newer version.
        StorageError: the file can't be opened.
    """

    def __init__(self, run: RunDirectory, *, raw_limit: int = RAW_LIMIT) -> None:
        self.run = run
        self._raw_limit = raw_limit
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int, bool] | None = None
        self._openings = 0
        self._turn = RLock()
        self._in_transaction = False
        self._attempts_key: tuple[object, ...] | None = None
        self._path, self._next_path_check = run.path, float("-inf")
        self._reset()

    def _reset(self) -> None:
        """Drop all caches."""
        self._series = SeriesBuilder(self._raw_limit)
        self._stretch = SeriesBuilder(min(self._raw_limit, DETAIL_LIMIT))
        self._machine = MachineBuilder()
        self._tails: dict[tuple[str, int | None], Tail[Any]] = {}
        self._attempts = Cached[list[AttemptRow]]()
        self._evaluations = Cached[list[EvaluationRow]]()
        self._index = Cached[list[CheckpointRow]]()
        self._changes: Cached[list[JournalledChange]] = Cached()

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._turn:
            if self._connection is not None:
                self._connection.close()
            self._connection, self._inode = None, None

    def __enter__(self) -> RunReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def data_version(self) -> int:
        """A number that changes with each commit and when the file is replaced; 0 without a
        database."""
        rows = self._rows("PRAGMA data_version")
        return (self._openings << 40) + int(rows[0][0]) if rows else 0

    def meta(self) -> dict[str, str]:
        """The run's facts: created, parent, max_steps, parameters, heartbeat and so on."""
        return dict(self._rows("SELECT key, value FROM meta"))

    def attempts(self) -> list[AttemptRow]:
        """The run's attempts, oldest first."""
        rows = self._rows(
            "SELECT attempt, pid, host, boot_id, device, start_step, environment, started FROM"
            " attempts ORDER BY attempt"
        )
        return list(self._attempts.of(rows, lambda: [attempt_row(row) for row in rows]))

    def series(self, max_buckets: int = 2048) -> SeriesTable:
        """The run's curves in at most `max_buckets` buckets; reads only new steps, and returns the
        same object if there are none."""
        with self.read_transaction(), self._reading() as connection:
            return (
                empty_table()
                if connection is None
                else self._series.update(connection, max_buckets)
            )

    def stretch(self, first_step: int, last_step: int, max_buckets: int = 2048) -> SeriesTable:
        """The curves from `first_step` to `last_step`, otherwise like `series`."""
        with self.read_transaction(), self._reading() as connection:
            return (
                empty_table()
                if connection is None
                else self._stretch.update(connection, max_buckets, (first_step, last_step))
            )

    def recent_steps(self, n: int) -> list[StepRow]:
        """The newest `n` steps in order."""
        newest = "(SELECT last_step FROM rollups ORDER BY bucket DESC LIMIT 1)"
        query = (
            f"SELECT step, {STEP_COLUMNS} FROM steps WHERE superseded = 0 AND step > ? AND step <="
            f" {newest} ORDER BY step DESC LIMIT ?"
        )
        return list(self._newest("steps", query, step_row, n))

    def steps_since(self, step: int = 0, *, chunk: int = 4_096) -> Iterator[StepRow]:
        """All steps after `step` in order, read in chunks; no transaction stays open between
        them."""
        while rows := self._rows(
            f"SELECT {STEP_COLUMNS} FROM steps WHERE superseded = 0 AND step > ? ORDER BY step"
            " LIMIT ?",
            (step, chunk),
        ):
            yield from map(step_row, rows)
            step = rows[-1][1]

    def extent(self) -> Extent:
        """How far the run's series go now, for readers that follow them row by row."""
        with self.read_transaction():
            ends = self._rows(
                "SELECT (SELECT coalesce(max(id), 0) FROM samples WHERE superseded = 0), (SELECT"
                " coalesce(max(id), 0) FROM events), (SELECT coalesce(max(id), 0) FROM hardware)"
            )
            sample, event, reading = ends[0] if ends else (0, 0, 0)
            newest = self.recent_steps(1)
            return Extent(
                tuple((row.attempt, row.start_step) for row in self.attempts()),
                newest[-1].step if newest else 0,
                sample,
                event,
                reading,
                tuple(self.evaluations()),
            )

    def samples_after(self, id: int, *, chunk: int = 256) -> Iterator[tuple[int, SampleRow]]:
        """Samples with their ids after `id` in order, read in chunks."""
        query = f"SELECT id, {SAMPLE_COLUMNS} FROM samples WHERE superseded = 0 AND"
        return self._after(query, lambda row: SampleRow(*row), id, chunk)

    def events_after(self, id: int, *, chunk: int = 4_096) -> Iterator[tuple[int, EventRow]]:
        """Events with their ids after `id` in order, read in chunks."""
        query = f"SELECT id, {EVENT_COLUMNS} FROM events WHERE"
        return self._after(query, lambda row: EventRow(*row), id, chunk)

    def hardware_after(self, id: int, *, chunk: int = 4_096) -> Iterator[tuple[int, HardwareRow]]:
        """Machine readings with their ids after `id` in order, read in chunks."""
        return self._after("SELECT * FROM hardware WHERE", hardware_row, id, chunk)

    def _after(
        self, query: str, make: Callable[[tuple[Any, ...]], RowT], id: int, chunk: int
    ) -> Iterator[tuple[int, RowT]]:
        """Rows of a query that selects the id first; no transaction stays open between chunks."""
        while rows := self._rows(f"{query} id > ? ORDER BY id LIMIT ?", (id, chunk)):
            yield from ((row[0], make(row[1:])) for row in rows)
            id = rows[-1][0]

    def evaluations(self) -> list[EvaluationRow]:
        """All evaluations by step."""
        query = "SELECT * FROM evaluations WHERE superseded = 0 AND id > ? ORDER BY id DESC LIMIT ?"
        found = self._newest("evaluations", query, evaluation_row, None)
        return list(self._evaluations.of(found, lambda: by_step(found)))

    def samples(self, limit: int | None = None) -> list[SampleRow]:
        """Samples, newest first."""
        query = (
            f"SELECT id, {SAMPLE_COLUMNS} FROM samples WHERE superseded = 0 AND id > ? ORDER BY id"
            " DESC LIMIT ?"
        )
        return self._newest("samples", query, lambda row: SampleRow(*row), limit)[::-1]

    def sample_steps(self) -> list[int]:
        """The steps with samples, in order."""
        return [
            int(step)
            for (step,) in self._rows(
                "SELECT DISTINCT step FROM samples WHERE superseded = 0 ORDER BY step"
            )
        ]

    def samples_at(self, step: int) -> list[SampleRow]:
        """The samples of one step, in the order they were generated."""
        return [
            SampleRow(*row)
            for row in self._rows(
                f"SELECT {SAMPLE_COLUMNS} FROM samples WHERE superseded = 0 AND step = ? ORDER"
                " BY id",
                (step,),
            )
        ]

    def events(self, limit: int | None = None) -> list[EventRow]:
        """Events, newest first."""
        query = f"SELECT id, {EVENT_COLUMNS} FROM events WHERE id > ? ORDER BY id DESC LIMIT ?"
        return self._newest("events", query, lambda row: EventRow(*row), limit)[::-1]

    def landmarks(self, limit: int) -> list[EventRow]:
        """Events that aren't routine (see `_ROUTINE_KINDS`, of which a long run has thousands),
        newest first."""
        query = (
            f"SELECT id, {EVENT_COLUMNS} FROM events WHERE id > ? AND kind NOT IN {_ROUTINE_KINDS}"
            " ORDER BY id DESC LIMIT ?"
        )
        return self._newest("landmarks", query, lambda row: EventRow(*row), limit)[::-1]

    def last_state(self) -> EventRow | None:
        """The newest state event (started, running, paused, finished and so on); None if the run
        never started."""
        rows = self._rows(
            f"SELECT {EVENT_COLUMNS} FROM events WHERE state = 1 ORDER BY id DESC LIMIT 1"
        )
        return EventRow(*rows[0]) if rows else None

    def changes(self) -> list[JournalledChange]:
        """Changes of settings while the run trained, in order."""
        rows = self._rows(
            "SELECT arguments, result, time FROM commands WHERE verb IN ('set', 'undo') ORDER BY"
            " time"
        )
        return list(self._changes.of(rows, lambda: _read_changes(rows)))

    def hardware(self, limit: int | None = None) -> list[HardwareRow]:
        """The newest machine readings in order."""
        return self._newest(
            "hardware",
            "SELECT * FROM hardware WHERE id > ? ORDER BY id DESC LIMIT ?",
            hardware_row,
            limit,
        )[:]

    def machine(self, max_buckets: int = 1024) -> MachineTable:
        """Machine readings of the whole run in at most `max_buckets` buckets; reads only new
        ones."""
        with self._reading() as connection:
            return (
                empty_machine()
                if connection is None
                else self._machine.update(connection, max_buckets)
            )

    def checkpoints(self) -> list[CheckpointRow]:
        """The indexed checkpoints by step; rows with a path outside `checkpoints` are skipped."""
        return list(self._index.of(self._rows(_INDEX_STATE), self._read_index))

    def _read_index(self) -> list[CheckpointRow]:
        return [
            row
            for row in map(
                checkpoint_row,
                self._rows(f"SELECT {CHECKPOINT_COLUMNS} FROM checkpoints ORDER BY step"),
            )
            if _CHECKPOINT.fullmatch(row.path)
        ]

    def progress(self) -> Progress | None:
        """Progress of the corpus preparation."""
        rows = self._rows("SELECT phase, done, total FROM progress")
        return Progress(*rows[0]) if rows else None

    def _rows(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._reading() as connection:
            return [] if connection is None else all_rows(connection, query, values)

    def _newest(
        self, table: str, query: str, make: Callable[[tuple[Any, ...]], RowT], limit: int | None
    ) -> list[RowT]:
        """The newest rows in order. Known rows are read again only after an attempt began or went
        further back."""
        with self._reading() as connection:
            if connection is None:
                return []
            if self._attempts_key is None or not self._in_transaction:
                self._attempts_key = one_row(
                    connection, "SELECT max(attempt), total(start_step) FROM attempts"
                )
            return self._tails.setdefault((table, limit), Tail(query, make, limit)).rows(
                connection, self._attempts_key
            )

    @contextmanager
    def read_transaction(self) -> Iterator[None]:
        """Read a consistent state inside the block, which is also faster; may be nested."""
        with self._turn:
            if self._in_transaction:
                yield
                return
            with self._reading() as connection:
                if connection is not None:
                    connection.execute("BEGIN")
            self._in_transaction, self._attempts_key = True, None
            try:
                yield
            finally:
                self._in_transaction = False
                if connection is not None:
                    with database_errors(self._path):
                        connection.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        with self._turn:
            if self._in_transaction:
                with database_errors(self._path):
                    yield self._connection
                return
        path = self._current_path()
        with self._turn, storage_errors("open", path), database_errors(path):
            try:
                found = path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                self.close()
            else:
                # SQLite would create its files beside the link's target
                if stat.S_ISLNK(found.st_mode):
                    raise StorageError(
                        f"{path} is a symbolic link, which is not allowed in a run's folder",
                        hint="put the file itself there",
                    )
                inode = (found.st_dev, found.st_ino, is_frozen(path))
                if self._connection is None or self._inode != inode:
                    self._open(inode)
            yield self._connection

    def _current_path(self) -> Path:
        """The database's path, checked again now and then: another host may take it over."""
        with self._turn:
            begun = clock.monotonic()
            if begun >= self._next_path_check:
                if self.run.database_location is not None:
                    from rnnlm_tui.store.recovery import refresh_copy

                    refresh_copy(self.run)
                self._path = self.run.database_path
                self._next_path_check = begun + max(COPY_SECONDS, 10 * (clock.monotonic() - begun))
            return self._path

    def _open(self, inode: tuple[int, int, bool]) -> None:
        self.close()
        path = self._path
        connection = sqlite3.connect(
            reading_uri(path, frozen=inode[2]),
            uri=True,
            timeout=READ_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA mmap_size = 0")
            version = int(all_rows(connection, "PRAGMA user_version")[0][0])
            if not version and not all_rows(connection, "SELECT 1 FROM sqlite_master LIMIT 1"):
                connection.close()
                return
            check_version(version, path)
        except BaseException:
            connection.close()
            raise
        self._connection, self._inode = connection, inode
        self._openings += 1
        self._reset()
