"""A run's series as tables: what is exported, and what Python code reads."""

from __future__ import annotations

import json
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

from rnnlm_tui.schema.metrics import (
    EvaluationRow,
    EventRow,
    GpuRow,
    HardwareRow,
    SampleRow,
    StepRow,
)
from rnnlm_tui.store.reader import RunReader

Cell = int | float | str | None
CellKind = Literal["int", "float", "text"]


@dataclass(frozen=True, slots=True)
class MetricTable:
    """One series of a run."""

    name: str
    columns: dict[str, CellKind]
    read: Callable[[RunReader], Iterable[object]]
    """The rows in order, read in chunks."""
    cells: Mapping[str, Callable[[Any], Cell]] = field(default_factory=dict)
    """The columns that aren't a row's attribute as it is."""

    def rows(self, reader: RunReader) -> Iterator[tuple[Cell, ...]]:
        """The cells of the rows; inside a `read_transaction`, of one state of the run."""
        cells = [self.cells.get(name, attrgetter(name)) for name in self.columns]
        for row in self.read(reader):
            yield tuple(cell(row) for cell in cells)


def _kinds(row: type[object], **more: CellKind) -> dict[str, CellKind]:
    """The columns of a row class."""
    found: dict[str, CellKind] = {}
    for name, hint in typing.get_type_hints(row).items():
        kinds = {hint, *typing.get_args(hint)}
        found[name] = "float" if float in kinds else "int" if int in kinds else "text"
    return {**found, **more}


def _others(row: HardwareRow) -> str | None:
    others = [gpu._asdict() for gpu in row.other_gpus]
    return json.dumps(others, sort_keys=True) if others else None


STEPS = MetricTable("steps", _kinds(StepRow), lambda reader: reader.steps())
EVALUATIONS = MetricTable(
    "evaluations",
    _kinds(EvaluationRow, perplexity="float"),
    lambda reader: sorted(reader.evaluations(), key=lambda row: (row.step, row.time)),
)
SAMPLES = MetricTable(
    "samples", _kinds(SampleRow), lambda reader: (row for _, row in reader.rows_after(SampleRow))
)
EVENTS = MetricTable(
    "events", _kinds(EventRow), lambda reader: (row for _, row in reader.rows_after(EventRow))
)
_GPU = {name: kind for name, kind in _kinds(GpuRow).items() if name != "index"}
_MACHINE = _kinds(HardwareRow, **{f"gpu_{name}": kind for name, kind in _GPU.items()})
MACHINE = MetricTable(
    "machine",
    {name: kind for name, kind in _MACHINE.items() if name != "gpu"},
    lambda reader: (row for _, row in reader.rows_after(HardwareRow)),
    {
        **{f"gpu_{name}": attrgetter(f"gpu.{name}") for name in _GPU},
        "other_gpus": _others,
        # an empty cell of a CSV file means that the driver doesn't report it
        "gpu_throttle": lambda row: "none" if row.gpu.throttle == "" else row.gpu.throttle,
    },
)
TABLES: tuple[MetricTable, ...] = (STEPS, EVALUATIONS, SAMPLES, EVENTS, MACHINE)
