"""A run's database that is damaged: found out, moved aside, and made anew from the checkpoints' manifests and every row that can still be read."""

from __future__ import annotations

import json
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.contract.commands import SETTINGS_KEY
from rnnlm_tui.contract.metrics import CheckpointRow, EventRow
from rnnlm_tui.errors import CheckpointError, DatabaseError, NewerDatabaseError, RunStateError
from rnnlm_tui.store.atomic import TEMPORARY_PREFIX, fsync_directory, fsync_file, storage_errors
from rnnlm_tui.store.crash_points import crash_point
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.locks import RunLock
from rnnlm_tui.store.manifest import MANIFEST_NAME, Manifest, read_manifest
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.salvage import Row, salvaged_rows
from rnnlm_tui.store.schema import all_rows, check_version, database_errors, one_row, with_nonfinite

REBUILT_SUFFIX = ".rebuilt"
"""A database that is made anew and whole, until it takes the damaged one's place."""
_BESIDE = ("", "-wal", "-shm")
_FOLDER = re.compile(r"step-\d{9,12}")
_ATTEMPTS = "SELECT attempt, min(time) FROM (SELECT attempt, time FROM steps UNION ALL SELECT attempt, time FROM events) GROUP BY attempt"


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a new database was made from."""

    problem: str
    """What was wrong with the old one."""
    kept: Path | None
    """Where the old one lies; None where there was none."""
    steps: int
    """Steps of the run's curve whose rows are there."""
    last_step: int
    checkpoints: int

    def __str__(self) -> str:
        kept = "" if self.kept is None else f"; the old one is kept as {self.kept.name}"
        missing = f", {self.last_step - self.steps:,} of them without metrics" if self.steps < self.last_step else ""
        held = f"with {self.last_step:,} steps{missing} and {self.checkpoints} checkpoint{'' if self.checkpoints == 1 else 's'}"
        return f"{self.problem}: it was rebuilt {held}{kept}"


def check_database(run: RunDirectory) -> str | None:
    """What is wrong with the run's database, in a sentence; None where it is whole. Reads all of it.

    Raises:
        NewerDatabaseError: a newer version made it.
        StorageError: it can't be read for another reason than its content.
    """
    path = run.database_path
    if _rebuilt_path(path).exists():
        return f"the rebuilding of {path} was broken off"
    if not path.exists():
        return f"{path} is missing"
    try:
        with database_errors(path), closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            check_version(int(one_row(connection, "PRAGMA user_version")[0]), path)
            found = str(one_row(connection, "PRAGMA integrity_check(1)")[0])
    except NewerDatabaseError:
        raise
    except DatabaseError as error:
        return error.message
    return None if found == "ok" else f"{path} is damaged: {found.splitlines()[-1]}"


def open_database(run: RunDirectory) -> RunDatabase:
    """The run's database for its worker, which holds the run's lock: a damaged one is rebuilt first.

    Raises: as `check_database`.
    """
    _repair(run)
    return RunDatabase(run.database_path)


def repair_database(run: RunDirectory) -> Rebuilt | None:
    """Rebuild the run's database where it is damaged, for whoever doesn't hold the run's lock; None where it is whole.

    Raises:
        RunStateError: it is damaged and a worker holds the run.
        NewerDatabaseError: a newer version made it.
        StorageError: there is no room, or the folder can't be written.
    """
    problem = check_database(run)
    if problem is None:
        return None
    lock = RunLock(run.lock_path)
    try:
        lock.acquire(patience=0.2)
    except RunStateError as error:
        raise RunStateError(f"{problem}, and {error.message}", hint=f"`rnnlm-tui stop {run.name}`, then `rnnlm-tui verify {run.name}`") from error
    try:
        return _repair(run)
    finally:
        lock.release()


def _repair(run: RunDirectory) -> Rebuilt | None:
    """Under the run's lock."""
    path = run.database_path
    if _rebuilt_path(path).exists():
        _put_in_place(path, _free_name(path))
    problem = check_database(run)
    if problem is None:
        return None
    kept = _free_name(path) if path.exists() else None
    fresh = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{secrets.token_hex(4)}")
    try:
        with RunDatabase(fresh) as database:
            rebuilt = _fill(run, database, problem, kept)
        with storage_errors("rebuild", path):
            crash_point("rebuild.inside")
            fsync_file(fresh)
            fresh.rename(_rebuilt_path(path))
            fsync_directory(path.parent)
            crash_point("rebuild.written")
    except BaseException:
        for suffix in _BESIDE:
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
        raise
    _put_in_place(path, kept or _free_name(path))
    return rebuilt


def _rebuilt_path(path: Path) -> Path:
    return path.with_name(path.name + REBUILT_SUFFIX)


def _free_name(path: Path) -> Path:
    """`run.db.damaged-20261125T193644`; with a number behind it where that is taken."""
    name = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}"
    names = [name, *(f"{name}-{number}" for number in range(2, 1_000))]
    return next(path.with_name(free) for free in names if not path.with_name(free).exists())


def _put_in_place(path: Path, kept: Path) -> None:
    """The damaged files aside, then the new one under their name; whoever is killed in between is followed by one who goes on here."""
    with storage_errors("move aside", path):
        for suffix in reversed(_BESIDE):
            old = path.with_name(path.name + suffix)
            if old.exists():
                old.rename(kept.with_name(kept.name + suffix))
                crash_point("rebuild.aside")
        _rebuilt_path(path).rename(path)
        fsync_directory(path.parent)


def _fill(run: RunDirectory, database: RunDatabase, problem: str, kept: Path | None) -> Rebuilt:
    """Everything that is known of the run, into an empty database."""
    manifests = _manifests(run)
    losses: dict[int, float] = {}
    database.restore(_known_rows(run.database_path, losses) if kept is not None else [])
    for step, folder, manifest in manifests:
        database.put_checkpoint(_checkpoint_row(run, step, folder, manifest, losses.get(step)))
    worked = _complete(run, database, [manifest for _, _, manifest in manifests])
    with closing(sqlite3.connect(database.path)) as connection:
        steps, last_step = one_row(connection, "SELECT count(*), coalesce(max(step), 0) FROM steps WHERE superseded = 0")
        attempt = int(one_row(connection, "SELECT coalesce(max(attempt), 1) FROM attempts")[0])
        silent = not all_rows(connection, "SELECT 1 FROM events WHERE state = 1 LIMIT 1")
    rebuilt = Rebuilt(problem, kept, int(steps), max([int(last_step), *(step for step, _, _ in manifests)]), len(manifests))
    database.add_event(EventRow(attempt, rebuilt.last_step, "note", str(rebuilt), time.time()))
    if worked and silent:
        database.set_meta("message", f"what the run did last was lost with its database: {problem}")
        database.set_meta("hint", f"rnnlm-tui resume {run.name}")
        database.add_event(EventRow(attempt, rebuilt.last_step, "failed", "what the run did last was lost with its database", time.time()))
    return rebuilt


def _known_rows(path: Path, losses: dict[int, float]) -> Iterator[tuple[str, Row]]:
    """What can be read of the old file; of its checkpoints only their losses, put into `losses`: the manifests say which there are."""
    for table, row in salvaged_rows(path):
        if table == "checkpoints":
            step, validation, lost = row[0], row[5], row[11]
            (loss,) = with_nonfinite(("validation_loss",), (validation,), lost)
            if loss is not None:
                losses.setdefault(step, loss)
        else:
            yield table, row


def _manifests(run: RunDirectory) -> list[tuple[int, Path, Manifest]]:
    """The checkpoints on disk by step; those without a readable manifest are no checkpoints."""
    found = []
    with suppress(FileNotFoundError), storage_errors("look into", run.checkpoints_path):
        for folder in sorted(run.checkpoints_path.iterdir()) if run.checkpoints_path.is_dir() else []:
            if _FOLDER.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                with suppress(CheckpointError):
                    manifest = read_manifest(folder)
                    found.append((manifest.step, folder, manifest))
    return found


def _checkpoint_row(run: RunDirectory, step: int, folder: Path, manifest: Manifest, loss: float | None) -> CheckpointRow:
    facts = manifest.facts
    numbers = {name: value for name, value in facts.items() if isinstance(value, int | float)}
    recorded = numbers.get("validation_loss")
    return CheckpointRow(
        attempt=int(numbers.get("attempt", 1)),
        step=step,
        epoch=float(numbers.get("epoch", 0.0)),
        tokens_seen=int(numbers.get("tokens_seen", 0)),
        train_loss=float(numbers.get("train_loss", float("nan"))),
        validation_loss=float(recorded) if recorded is not None else loss,
        bytes=manifest.bytes + (folder / MANIFEST_NAME).stat().st_size,
        path=str(folder.relative_to(run.path)),
        best=False,
        last=False,
        time=manifest.created,
    )


def _complete(run: RunDirectory, database: RunDatabase, manifests: Sequence[Manifest]) -> bool:
    """Facts that other files know, where no row told them; returns whether a worker was ever at this run."""
    with closing(sqlite3.connect(database.path)) as connection:
        meta = dict(all_rows(connection, "SELECT key, value FROM meta"))
        seen = {int(attempt): float(begun) for attempt, begun in all_rows(connection, _ATTEMPTS)}
        known = {int(attempt) for (attempt,) in all_rows(connection, "SELECT attempt FROM attempts")}
    facts = {"created": repr(run.created())}
    for manifest in manifests:
        if manifest.parent and "@" in manifest.parent:
            facts["parent"] = manifest.parent
        if isinstance(manifest.facts.get("corpus_hash"), str):
            facts["corpus_hash"] = str(manifest.facts["corpus_hash"])
        if isinstance(manifest.facts.get(SETTINGS_KEY), dict):
            facts[SETTINGS_KEY] = json.dumps(manifest.facts[SETTINGS_KEY])
        if isinstance(attempt := manifest.facts.get("attempt"), int):
            seen.setdefault(attempt, manifest.created)
    for key, value in facts.items():
        if key not in meta:
            database.set_meta(key, value)
    # An attempt whose row is lost keeps its number: the next one must not write over its steps.
    database.restore(
        [("attempts", (attempt, 0, meta.get("host", ""), "", "", 0, "{}", begun)) for attempt, begun in sorted(seen.items()) if attempt not in known]
    )
    return bool(seen or known)
