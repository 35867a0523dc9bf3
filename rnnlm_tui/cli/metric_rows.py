"""Rows of the verb `metrics` as CSV, JSON or a table, read in chunks to save memory."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from rnnlm_tui.contract.metrics import EvaluationRow, StepRow

if TYPE_CHECKING:
    from rnnlm_tui.store.reader import RunReader

Cell = int | float | str | None
STEP_COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(StepRow))
EVALUATION_COLUMNS: tuple[str, ...] = (*(field.name for field in fields(EvaluationRow)), "perplexity")


def step_rows(reader: RunReader, newest: int | None) -> Iterator[tuple[Cell, ...]]:
    """Read the `newest` steps in order, or all if None."""
    rows = reader.recent_steps(newest) if newest is not None else reader.steps_since(0)
    for row in rows:
        yield tuple(getattr(row, name) for name in STEP_COLUMNS)


def evaluation_rows(reader: RunReader) -> Iterator[tuple[Cell, ...]]:
    """Read the evaluations in order, with their perplexities."""
    for row in sorted(reader.evaluations(), key=lambda row: (row.step, row.time)):
        yield tuple(getattr(row, name) for name in EVALUATION_COLUMNS)


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a header and one line per row to stdout."""
    import csv

    from rnnlm_tui.cli.output import shown

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([shown(cell, keep="") if isinstance(cell, str) else cell for cell in row] for row in rows)
    sys.stdout.flush()


def write_json(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a JSON list of objects to stdout, row by row."""
    from rnnlm_tui.cli.output import json_text

    lead = "["
    for row in rows:
        sys.stdout.write(f"{lead}\n{json_text(dict(zip(columns, row, strict=True)))}")
        lead = ","
    sys.stdout.write("[]\n" if lead == "[" else "\n]\n")
    sys.stdout.flush()


def write_table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Write a table to stdout; Unix times become times of day."""
    from rnnlm_tui.cli.output import line, table

    shown = [tuple(_cell(name, value) for name, value in zip(columns, row, strict=True)) for row in rows]
    if not shown:
        line("no metrics yet")
        return
    table(columns, shown, right=[index for index, name in enumerate(columns) if name not in ("split", "name")])


def _cell(name: str, value: Cell) -> str:
    from datetime import datetime

    from rnnlm_tui.contract.figures import NOTHING, figure

    if value is None:
        return NOTHING
    if name == "time" and isinstance(value, float):
        return datetime.fromtimestamp(value).strftime("%H:%M:%S")
    if isinstance(value, float):
        return figure(value, 1 if name in ("tokens_per_second", "perplexity", "active_seconds") else 3)
    return f"{value:,}" if isinstance(value, int) else str(value)
