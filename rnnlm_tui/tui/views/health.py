"""The net's health as text: each figure with its past, its healthy range, and advice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.schema.formatting import count
from rnnlm_tui.schema.health import Reading, readings
from rnnlm_tui.tui import palette

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import HealthRow

BARS = "▁▂▃▄▅▆▇█"
COLUMNS = (2, 10, 21, 7, 6, 19)
"""Cells of mark, part, title, value, unit and healthy range; the past gets the rest."""
MOST_PAST = 32
"""Cells of the past at most."""


def health_legend(rows: Sequence[HealthRow]) -> str:
    """Return `2 of 23 out of range at step 1,500`; empty before the first evaluation."""
    if not rows:
        return ""
    found = readings(rows[-1:])
    bad = sum(bool(reading.advice) for reading in found)
    head = f"{bad} of {len(found)} out of range" if bad else "all healthy"
    return f"{head} at step {count(rows[-1].step)}"


def health_lines(snapshot: RunSnapshot, width: int) -> list[Content]:
    """Return a line for each figure, those out of their range first, each with its advice below."""
    found = readings(snapshot.health)
    if not found:
        return [Content.styled(_why_nothing(snapshot), palette.DIM)]
    lines: list[Content] = []
    for reading in (reading for reading in found if reading.advice):
        advice = Content.styled(f"  → {reading.advice}", palette.WARN)
        lines += [_line(reading, width), advice.truncate(width, ellipsis=True)]
    if lines:
        lines.append(Content(""))
    return lines + [_line(reading, width) for reading in found if not reading.advice]


def _line(reading: Reading, width: int) -> Content:
    past = min(MOST_PAST, width - sum(COLUMNS))
    number, _, unit = reading.value.partition(" ")
    colour = palette.WARN if reading.advice else palette.BRIGHT
    mark, part, title, value, sign, healthy = COLUMNS
    return Content.assemble(
        (("!" if reading.advice else "").ljust(mark), palette.WARN),
        (reading.place[0].ljust(part), palette.DIM),
        (reading.title.ljust(title), palette.TEXT),
        (number.rjust(value), f"bold {colour}"),
        (f" {unit}".ljust(sign), palette.DIM),
        (_past(reading.values, past), palette.WARN if reading.advice else palette.TRAIN),
        (f"  {reading.figure.range}".ljust(healthy), palette.DIM),
    ).truncate(width, ellipsis=True)


def _past(values: Sequence[float], width: int) -> str:
    """Draw the newest values, each between the lowest and the highest of them."""
    shown = [value for value in values[-width:] if math.isfinite(value)] if width > 0 else []
    if not shown:
        return " " * max(width, 0)
    low, high = min(shown), max(shown)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    drawn = "".join(BARS[round((value - low) * scale)] for value in shown)
    return drawn.ljust(width)


def _why_nothing(snapshot: RunSnapshot) -> str:
    evaluation, step = snapshot.config.evaluation, snapshot.summary.step
    if not evaluation.health:
        return "The health isn't measured: evaluation.health is off."
    if snapshot.evaluations:
        return "The evaluations of this run have no health figures."
    first = f": the first is at step {count(evaluation.every)}" if step < evaluation.every else ""
    return f"No evaluation yet{first}."
