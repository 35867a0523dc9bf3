"""The net's health as text: each figure with its past, its healthy range, and advice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.schema.formatting import count
from rnnlm_tui.schema.health import Reading, readings
from rnnlm_tui.tui import palette

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot

BARS = "▁▂▃▄▅▆▇"
"""Without a full block, which would touch the row above."""
COLUMNS = (2, 10, 21, 7, 6, 19)
"""Cells of mark, part, title, value, unit and healthy range; the past gets the rest."""


def health_legend(snapshot: RunSnapshot) -> str:
    """Return `2 of 23 out of range at step 1,500`; empty before the first evaluation."""
    found = readings(snapshot.health[-1:])
    if not found:
        return ""
    bad = sum(bool(reading.advice) for reading in found)
    head = f"{bad} of {len(found)} out of range" if bad else "all healthy"
    return f"{head} at step {count(snapshot.health[-1].step)}"


def health_lines(snapshot: RunSnapshot, width: int) -> list[Content]:
    """Return a line for each figure, those out of their range first, each with its advice below."""
    found, lines = readings(snapshot.health), list[Content]()
    if not found:
        words = "no evaluation yet" if not snapshot.evaluations else "its evaluations have none"
        measured = snapshot.config.evaluation.health
        why = words if measured else "evaluation.health is off"
        return [Content.styled(f"No health figures: {why}.", palette.DIM)]
    for reading in found:
        if reading.advice:
            advice = Content.styled(f"  → {reading.advice}", palette.WARN)
            lines += [_line(reading, width), advice.truncate(width, ellipsis=True)]
    healthy = [_line(reading, width) for reading in found if not reading.advice]
    return [*lines, Content(""), *healthy] if lines else healthy


def _line(reading: Reading, width: int) -> Content:
    mark, part, title, value, sign, healthy = COLUMNS
    number, _, unit = reading.value.partition(" ")
    bright, colour = palette.BRIGHT, palette.TRAIN
    if reading.advice:
        bright = colour = palette.WARN
    return Content.assemble(
        (("!" if reading.advice else "").ljust(mark), colour),
        (reading.part.ljust(part), palette.DIM),
        (reading.title.ljust(title), palette.TEXT),
        (number.rjust(value), f"bold {bright}"),
        (f" {unit}".ljust(sign), palette.DIM),
        (reading.figure.range.ljust(healthy), palette.DIM),
        (_past(reading, width - sum(COLUMNS)), colour),
    ).truncate(width, ellipsis=True)


def _past(reading: Reading, width: int) -> str:
    """Draw the newest values, each between the lowest and the highest of them."""
    shown = reading.values[-width:] if width > 0 else ()
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in shown)
