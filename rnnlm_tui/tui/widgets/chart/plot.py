"""One picture of a chart, without a widget around it: limits, ticks, dots, baseline labels, marks and the cursor, as rows of (text, style)."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import partial

from rich.style import Style

from rnnlm_tui.contract import figures
from rnnlm_tui.tui.widgets.chart.bins import Bin, bins_of, lead_of, smoothed
from rnnlm_tui.tui.widgets.chart.data import ChartData, ChartSeries, MarksStyle
from rnnlm_tui.tui.widgets.chart.guides import guide_layer, levels, write_name
from rnnlm_tui.tui.widgets.chart.limits import Limits, settle, wanted_range, with_baselines
from rnnlm_tui.tui.widgets.chart.raster import GRID, Raster, Scale, band_layer, curve_layer, dotted_layer
from rnnlm_tui.tui.widgets.chart.ticks import y_labels, y_ticks
from rnnlm_tui.tui.widgets.palette import BASELINE, BRIGHT, DIM, TEXT, band_of, ink

ASCII_SIGNS = "*o+x"
MARK_ROWS = 5
"""Rows that a plot keeps for itself before marks get one."""
LETTER_CELLS = 16
"""Between two letters on a curve that is known by its letter."""


@dataclass(frozen=True, slots=True)
class Look:
    """How the data is looked at."""

    start: float
    end: float
    whole: float
    """Length of the whole x range, to which smoothing refers."""
    log: bool
    smoothing: float
    show_all: bool
    marks: MarksStyle
    cursor: float | None = None
    no_colour: bool = False


@dataclass
class Memory:
    """What one picture hands to the next so that it stands still."""

    limits: Limits | None = None
    label_width: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """One series in the shown part."""

    series: ChartSeries
    bins: list[Bin]
    curve: list[tuple[int, float]]


@dataclass
class Plot:
    """The picture."""

    width: int
    height: int
    label_width: int = 0
    labels: dict[int, str] = field(default_factory=dict)
    """Row → y tick label."""
    rows: list[list[tuple[str, Style]]] = field(default_factory=list)
    limits: Limits | None = None
    drawn: list[Drawn] = field(default_factory=list)
    guides: list[Drawn] = field(default_factory=list)
    off_scale: int = 0

    @property
    def gutter(self) -> int:
        """Cells at the left of the dots: labels and a blank."""
        return self.label_width + 1 if self.label_width else 0


def draw(data: ChartData, look: Look, width: int, height: int, memory: Memory) -> Plot:
    """Draw into `width` × `height` cells; `memory` is read and written."""
    marks_row = 1 if data.marks and height > MARK_ROWS else 0
    rows = height - marks_row
    plot = Plot(width, height)
    if width < 1 or rows < 1:
        plot.rows = [[(" " * width, ink(TEXT))] for _ in range(height)]
        return plot
    least = 0 if width < 12 else 4 if width >= 34 else 3
    plot.label_width = max(least, memory.label_width if least else 0)
    sub_rows = GRID[look.marks][1]
    for _ in range(2):  # a second time when the labels turn out wider than the room kept for them
        columns = max(width - plot.gutter, 1) * GRID[look.marks][0]
        plot.drawn = [_drawn(series, look, columns) for series in data.series]
        plot.guides = [_drawn(series, look, columns) for series in data.guides]
        wanted = wanted_range([item.bins for item in plot.drawn], [item.curve for item in plot.drawn], columns, look.log, look.show_all)
        if wanted is None:
            return _empty(plot, data)
        newest = max(item.curve[-1][0] for item in plot.drawn if item.curve)
        beside = [level for item in plot.guides for level in levels(item.curve, newest, columns, look.show_all)]
        wanted = with_baselines(wanted, [*(line.value for line in data.baselines), *beside], look.log, data.y_from_zero)
        limits = settle(wanted, look.log, data.y_from_zero, memory.limits)
        scale = Scale(limits.low, limits.high, limits.log, rows * sub_rows)
        ticks = y_ticks(limits, rows, partial(_text_row, scale, sub_rows))
        texts = y_labels(ticks, look.log, data.y_unit)
        longest = max(map(len, texts), default=0)
        if not least or longest <= plot.label_width or longest > width // 3:
            break
        plot.label_width = longest
    plot.limits = memory.limits = limits
    memory.label_width = plot.label_width
    for value, text in zip(ticks, texts, strict=True):
        row = _text_row(scale, sub_rows, value)
        if len(text) <= plot.label_width and 0 <= row < rows:
            plot.labels[row] = text
    _paint(plot, data, look, scale, limits, rows, marks_row)
    return plot


def _text_row(scale: Scale, sub_rows: int, value: float) -> int:
    return round(scale.row(value)) // sub_rows


def series_marker(series: ChartSeries, index: int, look: Look) -> str:
    """The letter or sign by which a series is known without colour; empty where colour does it."""
    if series.marker:
        return series.marker
    if look.marks == "ascii":
        return ASCII_SIGNS[index % len(ASCII_SIGNS)]
    return series.name[:1].upper() if look.no_colour and series.name else ""


def _drawn(series: ChartSeries, look: Look, columns: int) -> Drawn:
    shown = look.end - look.start
    smoothing = look.smoothing if series.smooth else 0.0
    bins = bins_of(series, look.start, look.end, columns, lead_of(smoothing, look.whole, shown, columns))
    return Drawn(series, bins, smoothed(bins, smoothing, columns * look.whole / shown, series.geometric))


def _paint(plot: Plot, data: ChartData, look: Look, scale: Scale, limits: Limits, rows: int, marks_row: int) -> None:
    raster = Raster(plot.width - plot.gutter, rows, look.marks)
    styles: list[Style] = [ink(TEXT)]

    def number(style: Style) -> int:
        if style not in styles:
            styles.append(style)
        return styles.index(style)

    for line in data.baselines:
        raster.paint(dotted_layer(line.value, scale, raster.columns, raster.sub_columns), number(ink(BASELINE)), ".")
    for item in plot.drawn:
        if item.series.smooth or item.series.low is not None:
            raster.paint(band_layer(item.bins, scale, raster.columns), number(ink(band_of(item.series.colour))), ":")
    for item in plot.guides:
        raster.paint(guide_layer(item.curve, scale, raster.columns, raster.sub_columns), number(ink(BASELINE)), ".")
    curves = [
        (curve_layer(item.curve, scale, raster.columns), number(ink(item.series.colour)), series_marker(item.series, index, look) or "*")
        for index, item in enumerate(plot.drawn)
    ]
    raster.paint_curves(curves)
    _write_baseline_labels(raster, data, scale, number(ink(DIM)), number(ink(BASELINE)))
    for item in plot.guides:
        write_name(raster, item.curve, item.series.name, scale, number(ink(DIM)), number(ink(BASELINE)))
    for index, item in enumerate(plot.drawn):
        if look.no_colour and look.marks != "ascii":
            _write_letters(raster, item, series_marker(item.series, index, look), scale, number(ink(item.series.colour, bold=True)), index / len(plot.drawn))
        _write_marker(raster, item, series_marker(item.series, index, look), scale, number(ink(item.series.colour, bold=True)), look)
    _write_notes(raster, plot, limits, number(ink(DIM)))
    if look.cursor is not None and look.start <= look.cursor <= look.end:
        column = column_of(look.cursor, look, raster.columns) // raster.sub_columns
        line_ink, baseline_ink = number(ink(BRIGHT)), number(ink(BASELINE))
        for row in range(rows):
            if raster.inks[row][column] in (0, baseline_ink):
                raster.write(row, column, "|" if look.marks == "ascii" else "│", line_ink)
    plot.rows = [[(text, styles[style]) for text, style in raster.runs(row)] for row in range(rows)]
    if marks_row:
        plot.rows.append(_marks(data, look, raster))


def column_of(x: float, look: Look, columns: int) -> int:
    """Dot column of x."""
    return math.floor((x - look.start) / (look.end - look.start) * (columns - 1) + 0.5)


def _write_baseline_labels(raster: Raster, data: ChartData, scale: Scale, dim: int, dotted: int) -> None:
    """At the right end, where nothing is drawn; an arrow says that the level lies outside."""
    for line in data.baselines:
        if not line.label:
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


def _write_marker(raster: Raster, item: Drawn, marker: str, scale: Scale, style: int, look: Look) -> None:
    """The series' letter right of its newest point."""
    if not marker or (look.marks == "ascii" and not item.series.marker):
        return
    shown = [(column, value) for column, value in item.curve if 0 <= column < raster.columns and value == value]
    if not shown:
        return
    column, value = shown[-1]
    row = round(scale.row(value)) // raster.sub_rows
    if 0 <= row < raster.height:
        raster.write(row, min(column // raster.sub_columns + 1, raster.width - len(marker)), marker, style)


def _write_letters(raster: Raster, item: Drawn, marker: str, scale: Scale, style: int, share: float) -> None:
    """The series' letter on its curve again and again, for the curve's dots have no colour; `share` of the distance sets one series' letters off from the next one's."""
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


def _write_notes(raster: Raster, plot: Plot, limits: Limits, dim: int) -> None:
    """`↑ from 2,003` where the steep start leaves the picture, and how many points lie outside the rest."""
    highest, outside, leaves = -math.inf, 0, 0
    for item in plot.drawn:
        high, low = item.series.high or item.series.mean, item.series.low or item.series.mean
        falling = True
        for bin in item.bins:
            if not 0 <= bin.column < raster.columns:
                continue
            outside += bin.infinite
            if bin.high > limits.high and falling:
                highest, leaves = max(highest, bin.high), max(leaves, bin.column)
                falling = bin.low > limits.low
                continue
            falling = falling and bin.mean != bin.mean
            if bin.high > limits.high or bin.low < limits.low:
                span = range(bin.first, bin.first + bin.points)
                outside += sum(1 for index in span if math.isfinite(high[index]) and (high[index] > limits.high or low[index] < limits.low))
    plot.off_scale = outside
    used = -1
    if highest > -math.inf:
        used = max(
            (column for column, style in enumerate(raster.inks[0]) if style and column <= leaves // raster.sub_columns + 6),
            default=leaves // raster.sub_columns,
        )
        text = f"{_arrow(True, raster)} from {figures.count(highest) if highest >= 100 else figures.figure(highest)}"
        at = used + (2 if raster.width > 60 else 1)
        row = next((row for row in (0, 1) if raster.free(row, used + 1, at + len(text))), None)
        if row is not None:
            raster.write(row, at, text, dim)
    if outside:
        text = f"{outside:,} point{'s' if outside > 1 else ''} off scale"
        for row in (0, 1):
            if raster.free(row, raster.width - len(text) - 1, raster.width - 1):
                raster.write(row, raster.width - len(text), text, dim)
                break


def _arrow(up: bool, raster: Raster) -> str:
    if raster.marks == "ascii":
        return "^" if up else "v"
    return "↑" if up else "↓"


def _marks(data: ChartData, look: Look, raster: Raster) -> list[tuple[str, Style]]:
    cells: list[tuple[str, Style]] = [(" ", ink(TEXT))] * raster.width
    if look.cursor is not None and look.start <= look.cursor <= look.end:
        cells[column_of(look.cursor, look, raster.columns) // raster.sub_columns] = ("|" if look.marks == "ascii" else "│", ink(BRIGHT))
    for mark in data.marks:
        if look.start <= mark.x <= look.end:
            cells[column_of(mark.x, look, raster.columns) // raster.sub_columns] = (mark.glyph, ink(mark.colour))
    return cells


def _empty(plot: Plot, data: ChartData) -> Plot:
    """No point to draw: say so calmly, and what will come."""
    lines = ["no points yet", *([data.note] if data.note else [])]
    lines = [line for line in lines if len(line) <= plot.width - 2 * plot.gutter][-plot.height :]
    top = max((plot.height - len(lines)) // 2, 0)
    for row in range(plot.height):
        text = lines[row - top] if top <= row < top + len(lines) else ""
        plot.rows.append([(text.center(plot.width)[plot.gutter :], ink(DIM))])
    return plot
