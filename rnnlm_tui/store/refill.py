"""Fills an empty database with everything that is known of a run: logged rows, rows of a damaged database, the manifests of its checkpoints."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from rnnlm_tui.contract.commands import CHANGED_FACT, SETTINGS_KEY
from rnnlm_tui.contract.metrics import CheckpointRow
from rnnlm_tui.errors import CheckpointError
from rnnlm_tui.store.atomic import storage_errors
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.manifest import MANIFEST_NAME, Manifest, read_manifest
from rnnlm_tui.store.metrics_log import AFTER, logged_rows, logs_of
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.salvage import DERIVED, Row, makes_sense, salvaged_rows, tables
from rnnlm_tui.store.schema import all_rows, with_nonfinite

_FOLDER = re.compile(r"step-\d{9,12}")
_ATTEMPTS = "SELECT attempt, min(time) FROM (SELECT attempt, time FROM steps UNION ALL SELECT attempt, time FROM events) GROUP BY attempt"


def refill(run: RunDirectory, database: RunDatabase, *, damaged: bool = False) -> tuple[list[Manifest], bool]:
    """All rows that are known of a run and the index of its checkpoints, into an empty database.

    Args:
        damaged: there is a damaged database in this one's place, from which rows are read where the run's folder holds no logs.

    Returns: the manifests of the checkpoints, and whether a worker was ever at this run.

    Raises:
        StorageError: what is known can't be read, or not be written.
    """
    manifests = readable_manifests(run)
    losses: dict[int, float] = {}
    if logs_of(run.path):
        database.restore(_without_index(_logged(run), losses), newer=True)
    elif damaged:
        database.restore(_without_index(salvaged_rows(run.database_path), losses))
    for step, folder, manifest in manifests:
        database.put_checkpoint(_checkpoint_row(run, step, folder, manifest, losses.get(step)))
    return [manifest for _, _, manifest in manifests], _complete(run, database, [manifest for _, _, manifest in manifests])


def _logged(run: RunDirectory) -> Iterator[tuple[str, Row]]:
    """The logs' rows that a writer could have written: a log is text that anybody may have edited."""
    known = {table.name: table for table in tables() if table.name not in DERIVED}
    for name, row in logged_rows(run.path):
        if (name in known and makes_sense(known[name], row)) or (name == AFTER and len(row) == 1 and isinstance(row[0], int) and row[0] >= 0):
            yield name, row


def _without_index(rows: Iterable[tuple[str, Row]], losses: dict[int, float]) -> Iterator[tuple[str, Row]]:
    """The rows without those of the checkpoints, whose losses are put into `losses`: the manifests say which there are."""
    for table, row in rows:
        if table == "checkpoints":
            step, validation, lost = row[0], row[5], row[11]
            (loss,) = with_nonfinite(("validation_loss",), (validation,), lost)
            if loss is not None:
                losses.setdefault(step, loss)
        else:
            yield table, row


def readable_manifests(run: RunDirectory) -> list[tuple[int, Path, Manifest]]:
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
        if isinstance(changed := manifest.facts.get(CHANGED_FACT), dict) and changed:
            facts[SETTINGS_KEY] = json.dumps(changed)
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
