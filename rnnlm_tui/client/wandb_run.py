"""Metrics as the files of an offline W&B run, which `wandb sync FOLDER/offline-run-*` uploads.

Steps and evaluations are W&B's history, by step. Samples, events and machine readings, which have
several rows a step or none, are tables. The run is rewritten as a whole, under the same id:
a later upload replaces the run instead of adding one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

from rnnlm_tui.client.event_files import EVALUATION_SCALARS, STEP_SCALARS, evaluated_set, figures_of
from rnnlm_tui.client.metric_tables import EVENTS, MACHINE, SAMPLES
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.metrics import EvaluationRow
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.files import storage_errors
from rnnlm_tui.system.locks import staging

RUN_FOLDER = "offline-run-"
TABLE_ROWS = 10_000
"""Most rows of a table that W&B shows; more go into further tables."""
_SETTINGS = {
    "mode": "offline",
    "console": "off",
    "silent": True,
    "disable_git": True,
    "disable_code": True,
}
_OWN_READINGS = {"x_disable_stats": True, "x_disable_meta": True, "x_disable_machine_info": True}
"""W&B's own readings would be those of the export; versions that lack an option do without."""


def write_run(run: RunDirectory, folder: Path, reader: RunReader) -> dict[str, int]:
    """Write everything in place of what was there; the rows of each series."""
    with staging(folder) as work, storage_errors("write", folder):
        counts = _write(run, work, reader)
        found = list(work.glob(f"wandb/{RUN_FOLDER}*"))
        if len(found) != 1:
            raise StorageError(f"wandb wrote no run into {work}", hint="update wandb")
        for old in folder.glob(f"{RUN_FOLDER}*"):
            shutil.rmtree(old)
        found[0].rename(folder / found[0].name)
    return counts


def _write(run: RunDirectory, work: Path, reader: RunReader) -> dict[str, int]:
    import wandb

    from rnnlm_tui.schema.validation import config_to_raw

    try:
        settings = wandb.Settings(**_SETTINGS, **_OWN_READINGS)
    except (ValueError, TypeError):
        settings = wandb.Settings(**_SETTINGS)
    digest = hashlib.sha256(repr(run.created()).encode()).hexdigest()[:8]
    target: Any = wandb.init(
        project="rnnlm-tui",
        id=f"{run.name}-{digest}",
        name=run.name,
        dir=str(work),
        config=config_to_raw(run.read_config()),
        settings=settings,
    )
    counts, last = {"steps": 0, "evaluations": len(reader.evaluations())}, 0
    try:
        for last, values in history(reader):
            target.log(values, step=last)
            counts["steps"] += "train/loss" in values
        for table in (SAMPLES, EVENTS, MACHINE):
            rows, counts[table.name] = table.rows(reader), 0
            while part := [list(row) for row in islice(rows, TABLE_ROWS)]:
                name = f"{table.name}/{counts[table.name] // TABLE_ROWS + 1}"
                shown = wandb.Table(columns=list(table.columns), data=part, allow_mixed_types=True)
                target.log({name: shown}, step=last)
                counts[table.name] += len(part)
        target.finish()
    finally:
        if wandb.run is None:  # else this process has another run
            wandb.teardown()  # its process may hold back the last rows until it ends
    return counts


def history(reader: RunReader) -> Iterator[tuple[int, dict[str, float]]]:
    """The figures of each step that has any, in order: W&B takes no step twice."""
    by_step = attrgetter("step")
    evaluated = {step: _figures(rows) for step, rows in groupby(reader.evaluations(), key=by_step)}
    for row in reader.steps():
        while evaluated and (step := next(iter(evaluated))) < row.step:
            yield step, evaluated.pop(step)
        yield row.step, figures_of(row, "train", STEP_SCALARS) | evaluated.pop(row.step, {})
    yield from evaluated.items()


def _figures(rows: Iterator[EvaluationRow]) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in rows:
        found |= figures_of(row, evaluated_set(row), EVALUATION_SCALARS)
    return found
