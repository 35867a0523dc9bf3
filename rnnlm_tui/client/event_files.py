"""Metrics as TensorBoard event files, written by TensorBoard's own record writer.

The folder is one run of TensorBoard: scalars of steps (`train/…`) and evaluations
(`validation/…`, `test/…`) by step, samples and the config as texts, hyperparameters. Machine
readings have no step; they are a separate run, `machine/`, whose step counts the readings.

An export replaces the files of an earlier one; a followed run's files grow, and are written again
where it is resumed from an earlier step. Numbers are 32-bit floats, as TensorBoard stores them.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rnnlm_tui.client.metric_tables import MACHINE, STEPS
from rnnlm_tui.schema.metrics import EvaluationRow, HardwareRow, SampleRow
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.series import Position
from rnnlm_tui.system.files import (
    TEMPORARY_PREFIX,
    fsync_directory,
    make_private_directory,
    open_private,
    storage_errors,
)

STEP_SCALARS = [name for name in STEPS.columns if name not in ("attempt", "step", "time")]
EVALUATION_SCALARS = ("loss", "perplexity", "bits_per_byte")
_KNOWN = [name for name, kind in MACHINE.columns.items() if kind != "text" and name != "time"]
MACHINE_SCALARS = [name for name in _KNOWN if not name.startswith("gpu_")]
GPU_SCALARS = [name.removeprefix("gpu_") for name in _KNOWN if name.startswith("gpu_")]
"""Of each GPU."""
MACHINE_FOLDER = "machine"
_NAMES = "events.out.tfevents.*"


class _EventFile:
    """The event file of one folder. It replaces earlier ones when its first batch is complete.

    Args:
        number: of this export's files of the folder: TensorBoard goes on to the last by name.
    """

    def __init__(self, folder: Path, number: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._session = event_pb2.Event, event_pb2.SessionLog
        self._summary = summary_pb2.Summary
        name = f"events.out.tfevents.{time.time():010.0f}.{os.getpid()}.{number}.rnnlm-tui"
        self._target = folder / name
        self._path = folder / f"{TEMPORARY_PREFIX}{self._target.name}"
        make_private_directory(folder)
        with storage_errors("write", folder):
            self._file = os.fdopen(open_private(self._path, os.O_WRONLY | os.O_EXCL), "wb")
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        for _ in range(2):  # what TensorBoard has read of earlier files goes, at the second message
            self._write(step=0, session_log=self._session(status=self._session.START))

    def scalars(self, step: int, when: float, figures: dict[str, float]) -> None:
        """Append a row of figures by their tags."""
        values = [
            self._summary.Value(tag=tag, simple_value=value) for tag, value in figures.items()
        ]
        self.summary(step, when, self._summary(value=values))

    def text(self, step: int, when: float, tag: str, text: str) -> None:
        """Append a text in Markdown."""
        value = self._summary.Value(tag=tag)
        value.metadata.plugin_data.plugin_name = "text"
        value.tensor.dtype = 7  # DT_STRING
        value.tensor.string_val.append(text.encode("utf-8", "backslashreplace"))
        value.tensor.tensor_shape.dim.add(size=1)
        self.summary(step, when, self._summary(value=[value]))

    def summary(self, step: int, when: float, summary: Any) -> None:
        """Append a summary."""
        self._write(step=step, wall_time=when, summary=summary)

    def publish(self) -> None:
        """Write to the disk, and take the place of the folder's earlier files."""
        folder = self._target.parent
        with storage_errors("write", folder):
            self._file.flush()
            os.fsync(self._file.fileno())
            if self._path != self._target:
                for earlier in folder.glob(_NAMES):
                    earlier.unlink()
                self._path = self._path.rename(self._target)
                fsync_directory(folder)

    def close(self) -> None:
        """Close the file, and remove it if it was not published."""
        self._file.close()
        if self._path != self._target:
            self._path.unlink(missing_ok=True)

    def _write(self, **event: Any) -> None:
        event.setdefault("wall_time", time.time())
        with storage_errors("write", self._path):
            self._records.write(self._event(**event).SerializeToString())


@dataclass(slots=True)
class _Written:
    """How far the files of a run go."""

    main: _EventFile
    machine: _EventFile
    attempts: list[tuple[int, int]]
    """Number and start step of each: a new one supersedes the rows after its start."""
    step: int = 0
    sample: Position = (0, -1)
    reading: Position = (0, -1)
    """The positions of the last sample and machine reading."""
    evaluations: set[tuple[int, int, str, float]] = field(default_factory=set)
    rows: Counter[str] = field(default_factory=Counter)
    """Rows of each series."""
    samples: Counter[int] = field(default_factory=Counter)
    """Samples of each step."""


class EventFiles:
    """Writes a run's event files, then, at each call, what is new in them."""

    def __init__(self, run: RunDirectory, folder: Path) -> None:
        self._run, self._folder = run, folder
        self._files = 0
        self._written: _Written | None = None

    def __call__(self, reader: RunReader) -> dict[str, int]:
        """Append what is new, and return the rows of each series."""
        evaluations = {
            (row.attempt, row.step, row.name, row.time): row for row in reader.evaluations()
        }
        attempts = [(row.attempt, row.start_step) for row in reader.attempts()]
        written = self._written
        if (
            written is None
            or written.attempts != attempts
            or not written.evaluations <= evaluations.keys()
        ):
            written = self._begun(attempts)
        for step in reader.steps(written.step + 1):
            written.main.scalars(step.step, step.time, figures_of(step, "train", STEP_SCALARS))
            written.step = step.step
            written.rows["steps"] += 1
        for key, row in evaluations.items():
            if key not in written.evaluations:
                figures = figures_of(row, evaluated_set(row), EVALUATION_SCALARS)
                written.main.scalars(row.step, row.time, figures)
                written.evaluations.add(key)
                written.rows["evaluations"] += 1
        for at, sample in reader.rows_after(SampleRow, written.sample):
            # those of one step have different tags: TensorBoard shows one value of a tag at a step
            written.samples[sample.step] += 1
            tag = f"samples/{written.samples[sample.step]}"
            written.main.text(sample.step, sample.time, tag, sample_text(sample))
            written.sample = at
            written.rows["samples"] += 1
        for at, reading in reader.rows_after(HardwareRow, written.reading):
            written.rows["machine"] += 1
            number = written.rows["machine"]
            written.machine.scalars(number, reading.time, machine_figures(reading))
            written.reading = at
        written.main.publish()
        written.machine.publish()
        return {name: written.rows[name] for name in ("steps", "evaluations", "samples", "machine")}

    def close(self) -> None:
        """Close the files."""
        if self._written is not None:
            self._written.main.close()
            self._written.machine.close()

    def _begun(self, attempts: list[tuple[int, int]]) -> _Written:
        """New files, with the config: the first ones, or after a resume."""
        from tensorboard.plugins.hparams import summary_v2

        from rnnlm_tui.schema.toml import toml_text
        from rnnlm_tui.schema.validation import config_to_raw

        self.close()
        self._files += 1
        self._written = written = _Written(
            _EventFile(self._folder, self._files),
            _EventFile(self._folder / MACHINE_FOLDER, self._files),
            attempts,
        )
        raw, created = config_to_raw(self._run.read_config()), self._run.created()
        text = "".join(f"    {line}\n" for line in toml_text(raw).splitlines())
        written.main.text(0, created, "config", text)
        shown = {
            f"{section}.{key}".removesuffix("."): value
            if isinstance(value, int | float | str)
            else str(value)
            for section, values in raw.items()
            for key, value in (values.items() if isinstance(values, dict) else [("", values)])
        }
        settings = summary_v2.hparams_pb(shown, trial_id=self._run.name, start_time_secs=created)
        written.main.summary(0, created, settings)
        return written


def evaluated_set(row: EvaluationRow) -> str:
    """The prefix of an evaluation's tags: `validation`, or `test (first 1,024 test sentences)`."""
    return row.split if row.name == row.split else f"{row.split} ({row.name})"


def figures_of(row: object, prefix: str, names: Sequence[str]) -> dict[str, float]:
    """A row's known figures by their tags: `train/loss`."""
    values = ((f"{prefix}/{name}", getattr(row, name)) for name in names)
    return {tag: value for tag, value in values if value is not None}


def machine_figures(row: HardwareRow) -> dict[str, float]:
    """A reading's figures: `machine/gpu_watts` of the GPU that trains, `machine/gpu1_watts` of
    another, by the driver's number."""
    found = figures_of(row, "machine", MACHINE_SCALARS)
    for number, gpu in [("", row.gpu), *((str(other.index), other) for other in row.other_gpus)]:
        figures = figures_of(gpu, "machine", GPU_SCALARS)
        found |= {tag.replace("/", f"/gpu{number}_"): value for tag, value in figures.items()}
    return found


def sample_text(row: SampleRow) -> str:
    """A sample as Markdown that shows every character: the prompt, then the continuation."""
    text = f"{row.prompt}\u2502{row.text}"
    return "".join(f"    {line}\n" for line in text.split("\n"))
