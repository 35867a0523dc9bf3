"""Text among a chart's dots: level names, series letters, stars, off-scale counts and marks."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection

from rich.style import Style

from rnnlm_tui.contract import figures
from rnnlm_tui.tui.widgets.chart.bins import Bin
from rnnlm_tui.tui.widgets.chart.data import ChartData
from rnnlm_tui.tui.widgets.chart.guides import last_column, value_at
from rnnlm_tui.tui.widgets.chart.limits import Limits
from rnnlm_tui.tui.widgets.chart.picture import Plot, PlotOptions, PlottedSeries, column_of
from rnnlm_tui.tui.widgets.chart.raster import Raster, Scale
from rnnlm_tui.tui.widgets.palette import BRIGHT, DIM, TEXT, ink

BESIDE = sorted(((down, right) for down in range(-3, 4) for right in range(-3, 4)), key=lambda by: (2 * abs(by[0]) + abs(by[1]), -by[1], by[0]))
"""Cells around a curve's end, nearest first: letters of curves ending together go side by side."""
LETTER_CELLS = 16
"""Distance between two letters on a curve without colour."""
EVALUATION_CELLS = 4
"""Least average distance between evaluation marks."""


def write_baseline_labels(raster: Raster, data: ChartData, scale: Scale, dim: int, dotted: int) -> None:
    """Write level names at the right end where there is room; an arrow if the level is outside."""
    for line in data.baselines:
        if not line.label or not math.isfinite(line.value):
            continue
        dot = round(scale.row(line.value))
        row = min(max(dot // raster.sub_rows, 0), raster.height - 1)
        outside = not 0 <= dot < raster.rows
        text = line.label if not outside else f"{line.label} {_arrow(dot < 0, raster)}"
        first = raster.width - len(text)
        if (
            first < 4
            or any(ink_number not in (0, dotted) for ink_number in raster.inks[row][first - 1 :])
            or (outside and not raster.free(row, first - 1, raster.width - 1))
        ):
            continue
        raster.write(row, first - 1, " " * (len(text) + 1), 0)
        raster.write(row, first, text, dim)


def write_marker(raster: Raster, item: PlottedSeries, marker: str, scale: Scale, style: int, look: PlotOptions, taken: set[tuple[int, int]]) -> None:
    """Write the series' letter at its end, avoiding the `taken` cells, and add its own to them."""
    if not marker or (look.marks == "ascii" and not item.series.marker):
        return
    end = last_column(item.curve, raster.columns)
    points = [(column, value) for column, value in item.curve if value == value]
    shown = [point for point in points if 0 <= point[0] < raster.columns]
    going_on = value_at(points, end) if end is not None and points and points[-1][0] >= raster.columns else None
    places = [(end, going_on)] if end is not None and going_on is not None else []
    for column, value in [*places, *shown[-1:]]:
        row = round(scale.row(value)) // raster.sub_rows
        if 0 <= row < raster.height:
            at = min(column // raster.sub_columns + 1, raster.width - len(marker))
            beside = ((row + down, at + right) for down, right in BESIDE)
            free = next((cell for cell in beside if cell not in taken and 0 <= cell[0] < raster.height and 0 <= cell[1] < raster.width), (row, at))
            taken.add(free)
            raster.write(*free, marker, style)
            return


def write_star(raster: Raster, item: PlottedSeries, scale: Scale, style: int, look: PlotOptions) -> list[tuple[int, int]]:
    """Draw ★ at the series' best point; return its cell if visible."""
    if item.series.star is None or not look.start <= item.series.star[0] <= look.end or not math.isfinite(item.series.star[1]):
        return []
    row = round(scale.row(item.series.star[1])) // raster.sub_rows
    if not 0 <= row < raster.height:
        return []
    at = column_of(item.series.star[0], look, raster.columns) // raster.sub_columns
    raster.write(row, at, "*" if look.marks == "ascii" else "★", style)
    return [(row, at)]


def write_letters(raster: Raster, item: PlottedSeries, marker: str, scale: Scale, style: int, share: float) -> None:
    """Repeat the series' letter along its curve, which has no colour.

    `share` shifts the letters so that those of several series don't coincide.
    """
    points = [(column, scale.row(value)) for column, value in item.curve if value == value]
    if not marker or len(points) < 2:
        return
    for cell in range(LETTER_CELLS // 4 + round(share * LETTER_CELLS), raster.width, LETTER_CELLS):
        column = cell * raster.sub_columns
        after = bisect_left(points, column, key=lambda point: point[0])
        if not 0 < after < len(points):
            continue
        (left, low), (right, high) = points[after - 1], points[after]
        row = round(low + (high - low) * (column - left) / (right - left)) // raster.sub_rows
        if 0 <= row < raster.height:
            raster.write(row, cell, marker, style)


def write_notes(raster: Raster, plot: Plot, limits: Limits, dim: int, bands: Collection[int]) -> None:
    """Write where the steep start leaves the view, and count the other points off scale.

    `↑ from 2,003` or `↓ from 0.4`; the counts go to either edge, over raw bands if no cell is
    empty.
    """
    start: dict[bool, tuple[float, int]] = {}
    counted = {True: 0, False: 0}
    middle = math.sqrt(limits.low * limits.high) if limits.log else (limits.low + limits.high) / 2
    for item in plot.drawn:
        high, low = item.points.high or item.points.mean, item.points.low or item.points.mean
        steep: bool | None = None
        """Whether the curve comes in from above, or from below; None: not known yet."""
        began = False
        for bin in item.bins if item.raw else [Bin(column, value, value, value, 1, 0) for column, value in item.curve]:
            if not 0 <= bin.column < raster.columns:
                continue
            first = not began and bin.mean == bin.mean
            if first:
                above, below = bin.high > limits.high, bin.low < limits.low
                steep = bin.mean > middle if above and below else above if above or below else None
                began = True
            if steep is not None and (bin.high > limits.high if steep else bin.low < limits.low):
                value, leaves = start.get(steep, (bin.high if steep else bin.low, 0))
                start[steep] = (max(value, bin.high) if steep else min(value, bin.low), max(leaves, bin.column))
                counted[True] += bin.infinite
                if not first and not (bin.low > limits.low if steep else bin.high < limits.high):
                    steep = None
                continue
            if bin.mean == bin.mean:
                steep = None
            if item.raw and (bin.high > limits.high or bin.low < limits.low or bin.infinite):
                span = range(bin.first, bin.first + bin.points)
                counted[True] += sum(1 for index in span if high[index] > limits.high)
                counted[False] += sum(1 for index in span if low[index] < limits.low)
    plot.off_scale = sum(counted.values())
    for up, (value, leaves) in start.items():
        _write_start(raster, value, leaves // raster.sub_columns, dim, up=up)
    for up, points in counted.items():
        _write_count(raster, points, dim, bands, up=up)


def _write_start(raster: Raster, value: float, leaves: int, dim: int, *, up: bool) -> None:
    """Write `↑ from 2,003` to the right or left of the cell where the curve enters the view."""
    rows = (0, 1) if up else (raster.height - 1, raster.height - 2)
    beside = [column for column, style in enumerate(raster.inks[rows[0]]) if style and column <= leaves + 6]
    text = f"{_arrow(up, raster)} from {figures.count(value) if value >= 100 else figures.figure(value)}"
    gap = 2 if raster.width > 60 else 1
    right, left = max(beside, default=leaves) + gap, min(beside, default=leaves) - len(text) - gap + 1
    for at in (right, left):
        for row in rows:
            if raster.free(row, at - 1, at + len(text)):
                raster.write(row, at, text, dim)
                return


def _write_count(raster: Raster, points: int, dim: int, bands: Collection[int], *, up: bool) -> None:
    """Write `↑ 3 off scale` at the right end of its edge, shortened if there is little room."""
    if not points:
        return
    rows = (0, 1) if up else (raster.height - 1, raster.height - 2)
    texts = [f"{_arrow(up, raster)} {points:,} off{rest}" for rest in (" scale", "")]
    for over in ((), bands):
        for text in texts:
            for row in rows:
                if raster.free(row, raster.width - len(text) - 1, raster.width - 1, over):
                    raster.write(row, raster.width - len(text) - 1, " ", 0)
                    raster.write(row, raster.width - len(text), text, dim)
                    return


def _arrow(up: bool, raster: Raster) -> str:
    if raster.marks == "ascii":
        return "^" if up else "v"
    return "↑" if up else "↓"


def marks_row(data: ChartData, look: PlotOptions, raster: Raster) -> list[tuple[str, Style]]:
    """Return the row of marks; evaluations that would crowd it appear only when zoomed in."""
    cells: list[tuple[str, Style]] = [(" ", ink(TEXT))] * raster.width

    def cell(x: float) -> int:
        return column_of(x, look, raster.columns) // raster.sub_columns

    if look.cursor is not None and look.start <= look.cursor <= look.end:
        cells[cell(look.cursor)] = ("|" if look.marks == "ascii" else "│", ink(BRIGHT))
    taken: set[int] = set()
    for mark in data.marks:
        if look.start <= mark.x <= look.end:
            cells[cell(mark.x)] = (mark.glyph, ink(mark.colour))
            taken.add(cell(mark.x))
    first, last = bisect_left(data.evaluated, look.start), bisect_right(data.evaluated, look.end)
    if last - first <= raster.width // EVALUATION_CELLS:
        for at in map(cell, data.evaluated[first:last]):
            if not taken & {at - 1, at, at + 1}:
                cells[at] = ("e", ink(DIM))
    return cells
