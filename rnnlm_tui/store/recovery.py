"""Detect a damaged database, move it aside, and rebuild it.

A new database is filled from the checkpoints' manifests and from the run's logs, or else from the
rows of the damaged database that are still readable.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.errors import DatabaseError, NewerDatabaseError, RunStateError, StorageError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.lineage import LINEAGE_KEY
from rnnlm_tui.schema.metrics import EventRow
from rnnlm_tui.schema.protocol import CHANGED_FACT, SETTINGS_KEY
from rnnlm_tui.store.checkpoints import CheckpointEntry, list_checkpoints
from rnnlm_tui.store.database import AFTER, RunDatabase, logged_rows, logs_of
from rnnlm_tui.store.lineage import read_parent
from rnnlm_tui.store.paths import RunDirectory, make_folder, take_over_database
from rnnlm_tui.store.salvage import DERIVED, Row, is_valid_row, padded, salvaged_rows, tables
from rnnlm_tui.store.schema import (
    all_rows,
    check_version,
    database_errors,
    is_frozen,
    one_row,
    reading_uri,
    with_nonfinite,
)
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    fsync_directory,
    fsync_file,
    storage_errors,
    write_text_atomically,
)
from rnnlm_tui.system.locks import RunLock, folder_lock

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
_ATTEMPTS = (
    "SELECT attempt, min(time) FROM (SELECT attempt, time FROM steps UNION ALL SELECT attempt, time"
    " FROM events) GROUP BY attempt"
)


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
                else "its pages are corrupt"
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
    # a copy of another host's database is refreshed by its readers
    problem = check_database(run) if place is None or place.here else None
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
        # or a reader that finds no database for a moment creates a copy in its place
        with folder_lock(place.path.parent):
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
        # read again: a worker may have taken over the database while this waited for the lock
        settled = run.database_location
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
    with suppress(StorageError):  # damaged: the worker says so at the next start
        if (parent := read_parent(run)) is not None:
            facts |= {"parent": parent.address, LINEAGE_KEY: parent.model_dump_json()}
    for checkpoint in checkpoints:
        if checkpoint.parent and "@" in checkpoint.parent:
            facts.setdefault("parent", checkpoint.parent)
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
