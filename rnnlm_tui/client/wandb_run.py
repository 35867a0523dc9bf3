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
from rnnlm_tui.store.reader import Extent, RunReader
from rnnlm_tui.system.files import TEMPORARY_PREFIX, storage_errors

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


class WandbWriter:
    """Writes a run as an offline W&B run."""

    def __init__(self, run: RunDirectory, folder: Path) -> None:
        import wandb

        self._wandb: Any = wandb
        self._run, self._folder = run, folder

    def update(self, reader: RunReader, extent: Extent) -> dict[str, int]:
        """Write everything up to `extent` in place of what was there; the rows of each series."""
        work = self._folder / f"{TEMPORARY_PREFIX}wandb"
        with storage_errors("write", self._folder):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(mode=0o700)
            try:
                counts = self._write(work, reader, extent)
                found = list(work.glob(f"wandb/{RUN_FOLDER}*"))
                if len(found) != 1:
                    raise StorageError(f"wandb wrote no run into {work}", hint="update wandb")
                for old in self._folder.glob(f"{RUN_FOLDER}*"):
                    shutil.rmtree(old)
                found[0].rename(self._folder / found[0].name)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return counts

    def close(self) -> None:
        """End wandb's own process, unless this process has another run."""
        if self._wandb.run is None:
            self._wandb.teardown()

    def _write(self, work: Path, reader: RunReader, extent: Extent) -> dict[str, int]:
        from rnnlm_tui.schema.validation import config_to_raw

        try:
            settings = self._wandb.Settings(**_SETTINGS, **_OWN_READINGS)
        except (ValueError, TypeError):
            settings = self._wandb.Settings(**_SETTINGS)
        digest = hashlib.sha256(repr(self._run.created()).encode()).hexdigest()[:8]
        run = self._wandb.init(
            project="rnnlm-tui",
            id=f"{self._run.name}-{digest}",
            name=self._run.name,
            dir=str(work),
            config=config_to_raw(self._run.read_config()),
            settings=settings,
        )
        counts, last = {"steps": 0, "evaluations": len(extent.evaluations)}, 0
        for last, values in history(reader, extent):
            run.log(values, step=last)
            counts["steps"] += "train/loss" in values
        for table in (SAMPLES, EVENTS, MACHINE):
            rows, counts[table.name] = table.rows(reader, extent), 0
            while part := [list(row) for row in islice(rows, TABLE_ROWS)]:
                name = f"{table.name}/{counts[table.name] // TABLE_ROWS + 1}"
                shown = self._wandb.Table(
                    columns=list(table.columns), data=part, allow_mixed_types=True
                )
                run.log({name: shown}, step=last)
                counts[table.name] += len(part)
        run.finish()
        self.close()  # its process may hold back the last rows of an offline run until it ends
        return counts


def history(reader: RunReader, extent: Extent) -> Iterator[tuple[int, dict[str, float]]]:
    """The figures of each step that has any, in order: W&B takes no step twice."""
    by_step = attrgetter("step")
    evaluated = {
        step: _figures(rows)
        for step, rows in groupby(sorted(extent.evaluations, key=by_step), key=by_step)
    }
    for row in reader.steps_since():
        if row.step > extent.step:
            break
        while evaluated and (step := next(iter(evaluated))) < row.step:
            yield step, evaluated.pop(step)
        yield row.step, figures_of(row, "train", STEP_SCALARS) | evaluated.pop(row.step, {})
    yield from evaluated.items()


def _figures(rows: Iterator[EvaluationRow]) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in rows:
        found |= figures_of(row, evaluated_set(row), EVALUATION_SCALARS)
    return found
