"""Fill an empty database from a run's logs, its damaged database and its checkpoints' manifests."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from rnnlm_tui.contract.commands import CHANGED_FACT, SETTINGS_KEY
from rnnlm_tui.store.checkpoint_list import CheckpointEntry, list_checkpoints
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.metrics_log import AFTER, logged_rows, logs_of
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.salvage import DERIVED, Row, is_valid_row, padded, salvaged_rows, tables
from rnnlm_tui.store.schema import all_rows, with_nonfinite

_ATTEMPTS = "SELECT attempt, min(time) FROM (SELECT attempt, time FROM steps UNION ALL SELECT attempt, time FROM events) GROUP BY attempt"


def refill(run: RunDirectory, database: RunDatabase, *, damaged: bool = False) -> tuple[list[CheckpointEntry], bool]:
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
        if (name in known and is_valid_row(known[name], row)) or (name == AFTER and len(row) == 1 and isinstance(row[0], int) and row[0] >= 0):
            yield name, row


def _without_index(rows: Iterable[tuple[str, Row]], losses: dict[int, float], *, newer: bool = False) -> Iterator[tuple[str, Row]]:
    """The rows except checkpoints (the manifests list those), whose losses are collected in `losses`.

    Args:
        newer: of two rows of a step the last is right, as in logs; otherwise the first, as in `salvaged_rows`.
    """
    for table, row in rows:
        if table == "checkpoints":
            step, validation, lost = row[0], row[5], row[11]
            (loss,) = with_nonfinite(("validation_loss",), (validation,), lost)
            if loss is not None and (newer or step not in losses):
                losses[step] = loss
        else:
            yield table, row


def _complete(run: RunDirectory, database: RunDatabase, checkpoints: Sequence[CheckpointEntry]) -> bool:
    """Add missing facts from other files; returns whether a worker ever ran."""
    with closing(sqlite3.connect(database.path)) as connection:
        meta = dict(all_rows(connection, "SELECT key, value FROM meta"))
        seen = {int(attempt): float(begun) for attempt, begun in all_rows(connection, _ATTEMPTS)}
        known = {int(attempt) for (attempt,) in all_rows(connection, "SELECT attempt FROM attempts")}
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
        [("attempts", (attempt, 0, meta.get("host", ""), "", "", 0, "{}", begun)) for attempt, begun in sorted(seen.items()) if attempt not in known]
    )
    return bool(seen or known)
