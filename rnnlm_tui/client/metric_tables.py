"""A run's series as tables: what is exported, and what Python code reads."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import takewhile
from typing import Literal

from rnnlm_tui.schema.metrics import EvaluationRow, EventRow, HardwareRow, SampleRow, StepRow
from rnnlm_tui.store.reader import Extent, RunReader

Cell = int | float | str | None
CellKind = Literal["int", "float", "text"]


@dataclass(frozen=True, slots=True)
class MetricTable:
    """One series of a run."""

    name: str
    columns: dict[str, CellKind]
    rows: Callable[[RunReader, Extent], Iterator[tuple[Cell, ...]]]
    """The rows up to an extent, in order, read in chunks."""


def _kinds(row: type[object], **more: CellKind) -> dict[str, CellKind]:
    """The columns of a row class. `other_gpus` becomes JSON."""
    hints = typing.get_type_hints(row)
    found: dict[str, CellKind] = {}
    for field in fields(row):  # type: ignore[arg-type]
        kinds = {hints[field.name], *typing.get_args(hints[field.name])}
        found[field.name] = "float" if float in kinds else "int" if int in kinds else "text"
    return {**found, **more}


def _steps(reader: RunReader, extent: Extent) -> Iterator[tuple[Cell, ...]]:
    names = tuple(field.name for field in fields(StepRow))
    for row in takewhile(lambda row: row.step <= extent.step, reader.steps_since()):
        yield tuple(getattr(row, name) for name in names)


def _evaluations(_: RunReader, extent: Extent) -> Iterator[tuple[Cell, ...]]:
    names = tuple(field.name for field in fields(EvaluationRow))
    for row in sorted(extent.evaluations, key=lambda row: (row.step, row.time)):
        yield (*(getattr(row, name) for name in names), row.perplexity)


def _samples(reader: RunReader, extent: Extent) -> Iterator[tuple[Cell, ...]]:
    names = tuple(field.name for field in fields(SampleRow))
    for at, row in reader.samples_after():
        if at >= extent.end:
            return
        yield tuple(getattr(row, name) for name in names)


def _events(reader: RunReader, extent: Extent) -> Iterator[tuple[Cell, ...]]:
    names = tuple(field.name for field in fields(EventRow))
    for at, row in reader.events_after():
        if at >= extent.end:
            return
        yield tuple(getattr(row, name) for name in names)


def _machine(reader: RunReader, extent: Extent) -> Iterator[tuple[Cell, ...]]:
    names = tuple(field.name for field in fields(HardwareRow))
    for at, row in reader.hardware_after():
        if at >= extent.end:
            return
        cells = {
            "other_gpus": _others(row),
            # an empty cell of a CSV file means that the driver doesn't report it
            "gpu_throttle": "none" if row.gpu_throttle == "" else row.gpu_throttle,
        }
        yield tuple(cells[name] if name in cells else getattr(row, name) for name in names)


def _others(row: HardwareRow) -> str | None:
    others = [asdict(gpu) for gpu in row.other_gpus]
    return json.dumps(others, sort_keys=True) if others else None


STEPS = MetricTable("steps", _kinds(StepRow), _steps)
EVALUATIONS = MetricTable("evaluations", _kinds(EvaluationRow, perplexity="float"), _evaluations)
SAMPLES = MetricTable("samples", _kinds(SampleRow), _samples)
EVENTS = MetricTable("events", _kinds(EventRow), _events)
MACHINE = MetricTable("machine", {**_kinds(HardwareRow), "other_gpus": "text"}, _machine)
TABLES: tuple[MetricTable, ...] = (STEPS, EVALUATIONS, SAMPLES, EVENTS, MACHINE)
