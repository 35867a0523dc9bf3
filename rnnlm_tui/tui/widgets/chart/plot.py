"""Draw a chart without a widget: limits, ticks, curves, notes and cursor, as styled text rows.

Notes are the text among the dots: level names, series letters, stars, off-scale counts and marks.
Guides are reference curves, dotted behind a chart's own.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from rich.segment import Segment
from rich.style import Style

from rnnlm_tui.schema import formatting
from rnnlm_tui.tui.palette import BASELINE, BRIGHT, DIM, TEXT, band_of, ink
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries, MarksStyle
from rnnlm_tui.tui.widgets.chart.raster import (
    GRID,
    Bin,
    Raster,
    Scale,
    band_layer,
    bins_of,
    curve_layer,
    dotted_layer,
    lead_of,
    smoothed,
)
from rnnlm_tui.tui.widgets.chart.scale import (
    Limits,
    settle,
    wanted_range,
    with_baselines,
    y_labels,
    y_ticks,
)

Curve = Sequence[tuple[int, float]]
"""(dot column, value), ascending."""


def value_at(curve: Curve, column: int) -> float | None:
    """Interpolate the curve at a dot column; None outside of it."""
    after = bisect_right(curve, column, key=lambda point: point[0])
    if after == 0 or (after == len(curve) and curve[-1][0] < column):
        return None
    left, low = curve[after - 1]
    if left == column:
        return low
    right, high = curve[after]
    return low + (high - low) * (column - left) / (right - left)


def last_column(curve: Curve, columns: int) -> int | None:
    """Return the last visible column that the curve reaches; None if none."""
    if not curve or curve[0][0] >= columns or curve[-1][0] < 0:
        return None
    return min(columns - 1, curve[-1][0])


def levels(curve: Curve, newest: int, columns: int, show_all: bool) -> list[float]:
    """Return a guide's values that count for the y range.

    These are its values beside the newest point and at its end, or all if everything is shown. Its
    steep start is left out, like that of the other curves.
    """
    end = last_column(curve, columns)
    if end is None:
        return []
    shown = [value for column, value in curve if 0 <= column < columns] if show_all else []
    ends = [value_at(curve, column) for column in (min(newest, columns - 1), end)]
    return [value for value in (*shown, *ends) if value is not None and math.isfinite(value)]


def guide_layer(curve: Curve, scale: Scale, columns: int, spacing: int) -> list[int]:
    """Draw the curve in every `spacing`-th dot column, dotted like levels."""
    return [
        bits if column % spacing == 0 else 0
        for column, bits in enumerate(curve_layer(curve, scale, columns))
    ]


def place(
    raster: Raster,
    spots: Iterable[tuple[int, int, str]],
    style: int,
    over: Collection[int] = (),
) -> bool:
    """Write the first text of (row, column, text) with room for it and a blank on each side.

    Cells of the inks `over` count as empty, and so does what is right of the plot.
    """
    for row, first, text in spots:
        end = first + len(text)
        if end <= raster.width and raster.free(row, first - 1, min(end, raster.width - 1), over):
            raster.write(row, first - 1, " ", 0)
            raster.write(row, first, text, style)
            return True
    return False


def write_name(
    raster: Raster, curve: Curve, name: str, scale: Scale, dim: int, dotted: int
) -> None:
    """Write the name at the end of the curve; left out if anything is in the way."""
    end = last_column(curve, raster.columns)
    value = value_at(curve, end) if end is not None else None
    if end is None or value is None or not math.isfinite(value) or not name:
        return
    first = min(end // raster.sub_columns + 2, raster.width - len(name))
    if first >= LEAST_ROOM:
        place(raster, [(round(scale.row(value)) // raster.sub_rows, first, name)], dim, [dotted])


ASCII_SIGNS = "*o+x"
ARROWS = "↓↑"


@dataclass(frozen=True, slots=True)
class PlotOptions:
    """How the data is shown: range, scale, smoothing, characters and cursor."""

    start: float
    end: float
    whole: float
    """Length of the whole x range, which smoothing refers to."""
    log: bool
    smoothing: float
    show_all: bool
    marks: MarksStyle
    cursor: float | None = None
    no_colour: bool = False


@dataclass
class PlotState:
    """Kept from one drawing to the next, so that the plot is stable."""

    limits: Limits | None = None
    part: tuple[float, float] | None = None
    """The part of x that the limits are for."""
    label_width: int = 0
    drawn: dict[int, PlottedSeries] = field(default_factory=dict)
    """The drawn series by identity: moving the cursor doesn't change their dots."""
    painted: PaintedPlot | None = None
    """The previous drawing."""


@dataclass(frozen=True, slots=True)
class PlottedSeries:
    """One series in the visible part."""

    series: ChartSeries
    bins: list[Bin]
    curve: list[tuple[int, float]]
    seen: tuple[float, float, float, float, int, bool]
    """What bins and curve depend on: x start and end, whole range, smoothing, columns, show all."""
    points: ChartSeries
    """The series that was binned, without the left-out points."""
    raw: bool = True
    """Whether raw points are drawn, widen the range and count as off scale."""


@dataclass
class Plot:
    """A finished plot."""

    width: int
    height: int
    label_width: int = 0
    labels: dict[int, str] = field(default_factory=dict)
    """Row to y tick label."""
    rows: list[list[tuple[str, Style]]] = field(default_factory=list)
    limits: Limits | None = None
    drawn: list[PlottedSeries] = field(default_factory=list)
    guides: list[PlottedSeries] = field(default_factory=list)
    off_scale: int = 0

    @property
    def gutter(self) -> int:
        """Cells left of the dots: labels and a blank."""
        return self.label_width + 1 if self.label_width else 0

    def row(self, y: int) -> list[Segment]:
        """Return a row: tick label, blank, dots."""
        label = f"{self.labels.get(y, ''):>{self.label_width}} " if self.gutter else ""
        dots = self.rows[y] if y < len(self.rows) else []
        parts = [(label, ink(DIM)), *dots]
        return [Segment(text, style) for text, style in parts if text]


@dataclass(frozen=True, slots=True)
class PaintedPlot:
    """A drawing without its cursor and what it was made from, to draw a moving cursor over."""

    data: ChartData
    look: PlotOptions
    """Without a cursor."""
    width: int
    height: int
    plot: Plot
    raster: Raster
    styles: list[Style]
    """By their numbers in the raster."""


def column_of(x: float, look: PlotOptions, columns: int) -> int:
    """Return the dot column of x."""
    return math.floor((x - look.start) / (look.end - look.start) * (columns - 1) + 0.5)


def series_marker(series: ChartSeries, index: int, look: PlotOptions) -> str:
    """Return the letter or symbol of a series without colour; empty if colour identifies it."""
    if series.marker:
        return series.marker
    if look.marks == "ascii":
        return ASCII_SIGNS[index % len(ASCII_SIGNS)]
    return series.name[:1].upper() if look.no_colour and series.name else ""


BESIDE = sorted(
    ((down, right) for down in range(-3, 4) for right in range(-3, 4)),
    key=lambda by: (2 * abs(by[0]) + abs(by[1]), -by[1], by[0]),
)
"""Cells around a curve's end, nearest first: letters of curves ending together go side by side."""
LEAST_ROOM = 4
"""Cells of a plot that stay free at the left of a label."""
LETTER_CELLS = 16
"""Distance between two letters on a curve without colour."""
EVALUATION_CELLS = 4
"""Least average distance between evaluation marks."""


def write_baseline_labels(
    raster: Raster, data: ChartData, scale: Scale, dim: int, dotted: int
) -> None:
    """Write level names at the right end where there is room; an arrow if the level is outside."""
    for line in data.baselines:
        if not line.label or not math.isfinite(line.value):
            continue
        dot = round(scale.row(line.value))
        row = min(max(dot // raster.sub_rows, 0), raster.height - 1)
        outside = not 0 <= dot < raster.rows
        text = f"{line.label} {ARROWS[dot < 0]}" if outside else line.label
        if raster.width - len(text) >= LEAST_ROOM:
            place(raster, [(row, raster.width - len(text), text)], dim, () if outside else [dotted])


def write_marker(
    raster: Raster,
    item: PlottedSeries,
    marker: str,
    scale: Scale,
    style: int,
    look: PlotOptions,
    taken: set[tuple[int, int]],
) -> None:
    """Write the series' letter at its end, avoiding the `taken` cells, and add its own to them."""
    if not marker or (look.marks == "ascii" and not item.series.marker):
        return
    end = last_column(item.curve, raster.columns)
    points = [(column, value) for column, value in item.curve if value == value]
    shown = [point for point in points if 0 <= point[0] < raster.columns]
    places: list[tuple[int, float]] = []
    if end is not None and points and points[-1][0] >= raster.columns:
        going_on = value_at(points, end)
        places = [] if going_on is None else [(end, going_on)]
    for column, value in [*places, *shown[-1:]]:
        row = round(scale.row(value)) // raster.sub_rows
        if 0 <= row < raster.height:
            at = min(column // raster.sub_columns + 1, raster.width - len(marker))
            beside = [(row + down, at + right) for down, right in BESIDE]
            inside = [cell for cell in beside if raster.has(*cell) and cell not in taken]
            free = inside[0] if inside else (row, at)
            taken.add(free)
            raster.write(*free, marker, style)
            return


def write_star(
    raster: Raster, item: PlottedSeries, scale: Scale, style: int, look: PlotOptions
) -> list[tuple[int, int]]:
    """Draw ★ at the series' best point; return its cell if visible."""
    x, y = item.series.star or (math.nan, math.nan)
    if not look.start <= x <= look.end or not math.isfinite(y):
        return []
    row = round(scale.row(y)) // raster.sub_rows
    if not 0 <= row < raster.height:
        return []
    at = column_of(x, look, raster.columns) // raster.sub_columns
    raster.write(row, at, "★", style)
    return [(row, at)]


def write_letters(
    raster: Raster, item: PlottedSeries, marker: str, scale: Scale, style: int, share: float
) -> None:
    """Repeat the series' letter along its curve, which has no colour.

    `share` shifts the letters so that those of several series don't coincide.
    """
    points = [(column, scale.row(value)) for column, value in item.curve if value == value]
    if not marker or len(points) < 2:
        return
    for cell in range(LETTER_CELLS // 4 + round(share * LETTER_CELLS), raster.width, LETTER_CELLS):
        column = cell * raster.sub_columns
        place = value_at(points, column) if column > points[0][0] else None
        if place is not None and 0 <= round(place) // raster.sub_rows < raster.height:
            raster.write(round(place) // raster.sub_rows, cell, marker, style)


def write_notes(
    raster: Raster, plot: Plot, limits: Limits, dim: int, bands: Collection[int]
) -> None:
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
        for bin in (
            item.bins
            if item.raw
            else [Bin(column, value, value, value, 1, 0) for column, value in item.curve]
        ):
            if not 0 <= bin.column < raster.columns:
                continue
            first = not began and bin.mean == bin.mean
            if first:
                above, below = bin.high > limits.high, bin.low < limits.low
                steep = bin.mean > middle if above and below else above if above or below else None
                began = True
            if steep is not None and (bin.high > limits.high if steep else bin.low < limits.low):
                value, leaves = start.get(steep, (bin.high if steep else bin.low, 0))
                value = max(value, bin.high) if steep else min(value, bin.low)
                start[steep] = value, max(leaves, bin.column)
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
    beside = [
        column
        for column, style in enumerate(raster.inks[rows[0]])
        if style and column <= leaves + 6
    ]
    text = f"{ARROWS[up]} from {formatting.figure(value)}"
    gap = 2 if raster.width > 60 else 1
    right = max(beside, default=leaves) + gap
    left = min(beside, default=leaves) - len(text) - gap + 1
    place(raster, [(row, at, text) for at in (right, left) for row in rows], dim)


def _write_count(
    raster: Raster, points: int, dim: int, bands: Collection[int], *, up: bool
) -> None:
    """Write `↑ 3 off scale` at the right end of its edge, shortened if there is little room."""
    if not points:
        return
    rows = (0, 1) if up else (raster.height - 1, raster.height - 2)
    texts = [f"{ARROWS[up]} {points:,} off{rest}" for rest in (" scale", "")]
    spots = [(row, raster.width - len(text), text) for text in texts for row in rows]
    if not place(raster, spots, dim):
        place(raster, spots, dim, bands)


def marks_row(data: ChartData, look: PlotOptions, raster: Raster) -> list[tuple[str, Style]]:
    """Return the row of marks; evaluations that would crowd it appear only when zoomed in."""
    cells: list[tuple[str, Style]] = [(" ", ink(TEXT))] * raster.width

    def cell(x: float) -> int:
        return column_of(x, look, raster.columns) // raster.sub_columns

    if look.cursor is not None and look.start <= look.cursor <= look.end:
        cells[cell(look.cursor)] = ("│", ink(BRIGHT))
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


BAND_ROWS = 8
"""Rows from which raw points are shown under a curve; in fewer they would hide it."""
MARK_ROWS = 5
"""Rows needed before marks get one."""


def draw(data: ChartData, look: PlotOptions, width: int, height: int, memory: PlotState) -> Plot:
    """Draw into `width` × `height` cells, reading and updating `memory`."""
    bare, before_cursor = replace(look, cursor=None), memory.painted
    if (
        before_cursor is not None
        and before_cursor.data is data
        and (before_cursor.look, before_cursor.width, before_cursor.height) == (bare, width, height)
    ):
        return _with_cursor(before_cursor, look)
    memory.painted = None
    marked = 1 if (data.marks or data.evaluated) and height > MARK_ROWS else 0
    rows = height - marked
    plot = Plot(width, height)
    if width < 1 or rows < 1:
        plot.rows = [[(" " * width, ink(TEXT))] for _ in range(height)]
        return plot
    least = 0 if width < 12 else 4 if width >= 34 else 3
    plot.label_width = max(least, memory.label_width if least else 0)
    sub_rows = GRID[look.marks][1]
    for _ in range(2):  # twice, if the labels turn out wider than the room kept for them
        columns = max(width - plot.gutter, 1) * GRID[look.marks][0]
        plot.drawn = [
            _drawn(series, look, columns, memory, raw=_shows_raw(series, height))
            for series in data.series
        ]
        plot.guides = [_drawn(series, look, columns, memory) for series in data.guides]
        memory.drawn = {id(item.series): item for item in (*plot.drawn, *plot.guides)}
        bands = [item.bins if item.raw else () for item in plot.drawn]
        curves = [item.curve for item in plot.drawn]
        wanted = wanted_range(bands, curves, columns, look.log, look.show_all)
        wanted = wanted or _crossing(plot, columns, look.log)
        if wanted is None:
            return _empty(plot, data)
        newest = max(item.curve[-1][0] for item in plot.drawn if item.curve)
        beside = [
            level
            for item in plot.guides
            for level in levels(item.curve, newest, columns, look.show_all)
        ]
        wanted = with_baselines(
            wanted, [*(line.value for line in data.baselines), *beside], look.log, data.y_from_zero
        )
        # not for another part: the same data gets the same range, whichever way it was reached
        before = memory.limits if memory.part == (look.start, look.end) else None
        limits = settle(wanted, look.log, data.y_from_zero, before)
        scale = Scale(limits.low, limits.high, limits.log, rows * sub_rows)
        ticks = y_ticks(limits, rows, partial(_place, scale, sub_rows))
        texts = y_labels(ticks, look.log, data.y_unit)
        longest = max(map(len, texts), default=0)
        if not least or longest <= plot.label_width or longest > width // 3:
            break
        plot.label_width = longest
    plot.limits = memory.limits = limits
    memory.part = (look.start, look.end)
    memory.label_width = plot.label_width
    for value, text in zip(ticks, texts, strict=True):
        row = math.floor(_place(scale, sub_rows, value))
        if len(text) <= plot.label_width and 0 <= row < rows:
            plot.labels[row] = text
    memory.painted = PaintedPlot(
        data, bare, width, height, plot, *_paint(plot, data, look, scale, limits, rows)
    )
    return _with_cursor(memory.painted, look)


def _crossing(plot: Plot, columns: int, log: bool) -> tuple[float, float] | None:
    """Return the range of curves that cross the visible part without a point in it."""
    values = [
        value
        for item in plot.drawn
        for column in (0, columns - 1)
        if (value := value_at(item.curve, column)) is not None and math.isfinite(value)
    ]
    values = [value for value in values if value > 0 or not log]
    return (min(values), max(values)) if values else None


def _place(scale: Scale, sub_rows: int, value: float) -> float:
    """Return a value's text row, 0.5 in the middle of the first."""
    return (scale.row(value) + 0.5) / sub_rows


def _shows_raw(series: ChartSeries, height: int) -> bool:
    """Whether raw points are shown: only under smooth curves, and not in small charts."""
    return series.band and (height >= BAND_ROWS or not (series.smooth or series.low is not None))


def _drawn(
    series: ChartSeries, look: PlotOptions, columns: int, memory: PlotState, *, raw: bool = True
) -> PlottedSeries:
    shown = look.end - look.start
    smoothing = look.smoothing if series.smooth else 0.0
    seen = (look.start, look.end, look.whole, smoothing, columns, look.show_all)
    before = memory.drawn.get(id(series))
    if before is not None and before.series is series and before.seen == seen and before.raw == raw:
        return before
    points = series if look.show_all else series.drawn
    lead = lead_of(smoothing, look.whole, shown, columns)
    bins = bins_of(points, look.start, look.end, columns, lead)
    whole = columns * look.whole / shown
    curve = smoothed(bins, smoothing, whole, series.geometric, series.harmonic)
    return PlottedSeries(series, bins, curve, seen, points, raw)


def _paint(
    plot: Plot, data: ChartData, look: PlotOptions, scale: Scale, limits: Limits, rows: int
) -> tuple[Raster, list[Style]]:
    """Paint everything except the cursor; return the raster and its styles by number."""
    raster = Raster(plot.width - plot.gutter, rows, look.marks)
    styles: list[Style] = [ink(TEXT)]

    def number(style: Style) -> int:
        if style not in styles:
            styles.append(style)
        return styles.index(style)

    dim, dotted = number(ink(DIM)), number(ink(BASELINE))
    for line in data.baselines:
        level = dotted_layer(line.value, scale, raster.columns, raster.sub_columns)
        raster.paint(level, dotted, ".")
    for item in plot.drawn:
        if item.raw and (item.series.smooth or item.series.low is not None):
            band = band_layer(item.bins, scale, raster.columns)
            raster.paint(band, number(ink(band_of(item.series.colour))), ":")
    for item in plot.guides:
        guide = guide_layer(item.curve, scale, raster.columns, raster.sub_columns)
        raster.paint(guide, dotted, ".")
    markers = [series_marker(item.series, index, look) for index, item in enumerate(plot.drawn)]
    inks = [number(ink(item.series.colour)) for item in plot.drawn]
    layers = [curve_layer(item.curve, scale, raster.columns) for item in plot.drawn]
    raster.paint_curves(list(zip(layers, inks, (it or "*" for it in markers), strict=True)))
    write_baseline_labels(raster, data, scale, dim, dotted)
    for item in plot.guides:
        write_name(raster, item.curve, item.series.name, scale, dim, dotted)
    bold = [number(ink(item.series.colour, bold=True)) for item in plot.drawn]
    taken = {
        at
        for item, style in zip(plot.drawn, bold, strict=True)
        for at in write_star(raster, item, scale, style, look)
    }
    for index, item in enumerate(plot.drawn):
        marker, style = markers[index], bold[index]
        if look.no_colour and look.marks != "ascii":
            write_letters(raster, item, marker, scale, style, index / len(plot.drawn))
        write_marker(raster, item, marker, scale, style, look, taken)
    bands = {number(ink(band_of(item.series.colour))) for item in plot.drawn if item.raw}
    write_notes(raster, plot, limits, dim, bands)
    return raster, styles


def _with_cursor(painted: PaintedPlot, look: PlotOptions) -> Plot:
    """Draw the cursor over empty cells and baselines."""
    raster, styles = painted.raster, painted.styles
    if look.cursor is not None and look.start <= look.cursor <= look.end:
        raster, styles = raster.copy(), [*styles, ink(BRIGHT)]
        baseline = styles.index(ink(BASELINE)) if ink(BASELINE) in styles else 0
        column = column_of(look.cursor, look, raster.columns) // raster.sub_columns
        for row in range(raster.height):
            if raster.inks[row][column] in (0, baseline):
                raster.write(row, column, "│", len(styles) - 1)
    rows = [
        [(text, styles[style]) for text, style in raster.runs(row)] for row in range(raster.height)
    ]
    if painted.height > raster.height:
        rows.append(marks_row(painted.data, look, raster))
    return replace(painted.plot, rows=rows)


def _empty(plot: Plot, data: ChartData) -> Plot:
    """Say that the chart has no points yet, and what comes next."""
    elsewhere = any(len(series.x) for series in data.series)
    lines = ["no points in this range"] if elsewhere else ["no points yet", data.note]
    lines = [line for line in lines if line and len(line) <= plot.width - 2 * plot.gutter][
        -plot.height :
    ]
    top = max((plot.height - len(lines)) // 2, 0)
    for row in range(plot.height):
        text = lines[row - top] if top <= row < top + len(lines) else ""
        plot.rows.append([(text.center(plot.width)[plot.gutter :], ink(DIM))])
    return plot
