"""Draw a chart without a widget: limits, ticks, curves, notes and cursor, as styled text rows.

Notes are the text among the dots: level names, series letters, stars, off-scale values and marks.
Guides are reference curves, dotted behind a chart's own.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Sequence
from itertools import compress
from typing import NamedTuple, TypeGuard

from rich.segment import Segment
from rich.style import Style

from rnnlm_tui.schema import formatting
from rnnlm_tui.tui.palette import BASELINE, BRIGHT, DIM, TEXT, band_of, ink
from rnnlm_tui.tui.views.chart_data import Baseline, ChartData, ChartSeries, MarksStyle
from rnnlm_tui.tui.widgets.chart.raster import (
    GRID,
    Bin,
    Raster,
    Scale,
    band_layer,
    bins_of,
    curve_layer,
    lead_of,
    smoothed,
)
from rnnlm_tui.tui.widgets.chart.scale import (
    BELOW,
    Limits,
    settle,
    value_at_y,
    wanted_range,
    with_levels,
    y_labels,
    y_of,
    y_ticks,
)

Curve = Sequence[tuple[int, float]]
"""(dot column, y), ascending."""


def y_at(curve: Curve, column: int) -> float | None:
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


ASCII_SIGNS = "*o+x"
ARROWS = "↓↑"
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
BAND_ROWS = 8
"""Rows from which raw points are shown under a curve; in fewer they would hide it."""
MARK_ROWS = 5
"""Rows needed before marks get one."""


class PlotOptions(NamedTuple):
    """How the data is shown: range, scale, smoothing and characters."""

    start: float
    end: float
    whole: float
    """Length of the whole x range, which smoothing refers to."""
    log: bool
    smoothing: float
    show_all: bool
    marks: MarksStyle
    no_colour: bool = False

    def shows(self, x: float | None) -> TypeGuard[float]:
        """Whether this x is visible."""
        return x is not None and self.start <= x <= self.end


class PlottedSeries(NamedTuple):
    """One series in the visible part, in dot columns and y."""

    series: ChartSeries
    bins: list[Bin]
    curve: list[tuple[int, float]]
    raw: bool
    """Whether raw points are drawn and widen the range."""


class Plot:
    """A plot of a chart in `width` × `height` cells."""

    def __init__(
        self,
        data: ChartData,
        look: PlotOptions,
        width: int,
        height: int,
        before: "Plot | None" = None,
    ) -> None:
        """Draw everything except the cursor; `before` keeps limits and labels stable."""
        self.data, self.look, self.width, self.height = data, look, width, height
        self.shape = data.title, data.x_label, width, height
        """Plots of the same shape keep each other's limits and labels."""
        self.cursor: float | None = None
        self.drawn: list[PlottedSeries] = []
        self.guides: list[PlottedSeries] = []
        self.limits: Limits | None = None
        self.labels: dict[int, str] = {}
        """Row to y tick label."""
        self.rows: list[list[tuple[str, Style]]] = []
        """The rows with the cursor, once it is drawn."""
        least = 0 if width < 12 else 4 if width >= 34 else 3
        self.label_width: int = max(least, before.label_width if before else 0)
        self._styles = [ink(TEXT)]
        """By their numbers in the raster."""
        marked = bool(data.marks or data.evaluated) and height > MARK_ROWS
        if width > 0 and height > 0:
            # for the same part only: it has the same range, whichever way it was reached
            known = before.limits if before and before.look == look else None
            self._measure(height - marked, known)
        rows = height if self.limits is None else height - marked
        self._raster = Raster(max(width - self.gutter, 0), rows, look.marks)
        if self.limits is None:
            self._write_what_comes()
        else:
            self._paint(Scale(*self.limits, self._raster.rows), self.limits)

    @property
    def gutter(self) -> int:
        """Cells left of the dots: labels and a blank."""
        return self.label_width + 1 if self.label_width else 0

    @property
    def columns(self) -> int:
        """Dot columns."""
        return max(self.width - self.gutter, 1) * GRID[self.look.marks][0]

    def column_of(self, x: float) -> int:
        """Return the dot column of x."""
        share = (x - self.look.start) / (self.look.end - self.look.start)
        return math.floor(share * (self.columns - 1) + 0.5)

    def cell_of(self, x: float) -> int:
        """Return the cell of x, 0 for the first right of the gutter."""
        return self.column_of(x) // GRID[self.look.marks][0]

    def row(self, y: int) -> list[Segment]:
        """Return a row: tick label, blank, dots."""
        label = f"{self.labels.get(y, ''):>{self.label_width}} " if self.gutter else ""
        dots = self.rows[y] if y < len(self.rows) else []
        parts = [(label, ink(DIM)), *dots]
        return [Segment(text, style) for text, style in parts if text]

    def marker(self, index: int) -> str:
        """Return the letter or symbol of a series without colour; empty if colour identifies it."""
        series = self.data.series[index]
        if series.marker:
            return series.marker
        if self.look.marks == "ascii":
            return ASCII_SIGNS[index % len(ASCII_SIGNS)]
        return series.name[:1].upper() if self.look.no_colour else ""

    def level_words(self, level: Baseline) -> str:
        """Return a level's label, with an arrow if it is outside the view."""
        y, (low, high) = y_of(level.value, self.look.log), self.limits or (-math.inf, math.inf)
        return level.label if low <= y <= high else f"{level.label} {ARROWS[y > high]}"

    def draw_cursor(self, cursor: float | None) -> None:
        """Draw the cursor over empty cells and baselines."""
        self.cursor, raster = cursor, self._raster
        if self.look.shows(cursor) and self.limits is not None:
            raster, bright, free = raster.copy(), self._ink(BRIGHT), (0, self._ink(BASELINE))
            at = self.cell_of(cursor)
            for row in range(raster.height):
                if raster.inks[row][at] in free:
                    raster.write(row, at, "│", bright)
        self.rows = [
            [(text, self._styles[style]) for text, style in raster.runs(row)]
            for row in range(raster.height)
        ]
        if raster.height < self.height:
            self.rows.append(self._marks_row())

    def _ink(self, colour: str, *, bold: bool = False) -> int:
        style = ink(colour, bold=bold)
        if style not in self._styles:
            self._styles.append(style)
        return self._styles.index(style)

    def _bold(self, item: PlottedSeries) -> int:
        return self._ink(item.series.colour, bold=True)

    # limits and ticks

    def _measure(self, rows: int, known: Limits | None) -> None:
        """Find the series in dot columns, the limits, and the labels of y."""
        data, look = self.data, self.look
        from_zero = data.y_from_zero and not look.log
        for _ in range(2):  # twice, if the labels turn out wider than the room kept for them
            self.drawn = [self._plotted(one, raw=self._shows_raw(one)) for one in data.series]
            self.guides = [self._plotted(one) for one in data.guides]
            wanted = self._wanted()
            if wanted is None:
                return
            wanted = with_levels(wanted, self._levels(), from_zero)
            limits = self.limits = settle(wanted, look.log, from_zero, known)
            ticks = y_ticks(limits, rows, GRID[look.marks][1], look.log)
            texts = y_labels([value for _, value in ticks], look.log, data.y_unit)
            longest = max(map(len, texts), default=0)
            if not self.label_width or longest <= self.label_width or longest > self.width // 3:
                break
            self.label_width = longest
        self.labels = {
            row: text
            for (row, _), text in zip(ticks, texts, strict=True)
            if len(text) <= self.label_width
        }

    def _plotted(self, series: ChartSeries, *, raw: bool = True) -> PlottedSeries:
        """Bin and smooth the visible part of a series."""
        look, columns = self.look, self.columns
        shown = look.end - look.start
        smoothing = look.smoothing if series.smooth else 0.0
        points = series if look.show_all else series.drawn
        lead = lead_of(smoothing, look.whole, shown, columns)
        bins = bins_of(points, look.start, look.end, columns, lead)
        whole = columns * look.whole / shown
        curve = smoothed(bins, smoothing, whole, series.average)
        if look.log:
            curve = [(column, y_of(value, True)) for column, value in curve]
            bins = [
                Bin(column, y_of(mean, True), y_of(low, True), y_of(high, True), *rest)
                for column, mean, low, high, *rest in bins
            ]
        if not raw:
            bins = [Bin(column, y, y, y, 0, 0) for column, y in curve]
        return PlottedSeries(series, bins, curve, raw)

    def _shows_raw(self, series: ChartSeries) -> bool:
        """Whether raw points are shown: only under smooth curves, and not in small charts."""
        alone = not (series.smooth or series.low is not None)
        return series.band and (self.height >= BAND_ROWS or alone)

    def _wanted(self) -> Limits | None:
        """Return the range of what is visible; None if nothing is."""
        bands = [item.bins if item.raw else () for item in self.drawn]
        curves = [item.curve for item in self.drawn]
        wanted = wanted_range(bands, curves, self.columns, self.look.log, self.look.show_all)
        if wanted is not None:
            return wanted
        # of curves that cross the visible part without a point in it
        ends = (y_at(curve, column) for curve in curves for column in (0, self.columns - 1))
        crossing = [y for y in ends if y is not None and math.isfinite(y) and y > BELOW]
        return Limits(min(crossing), max(crossing)) if crossing else None

    def _levels(self) -> list[float]:
        """Return y of baselines and guides that the range includes if they are near.

        A guide counts beside the newest point and at its end, or all of it if everything is shown.
        Its steep start is left out, like that of the other curves.
        """
        levels = [y_of(line.value, self.look.log) for line in self.data.baselines]
        newest = max(item.curve[-1][0] for item in self.drawn if item.curve)
        for item in self.guides:
            end = last_column(item.curve, self.columns)
            if end is not None:
                at = range(end + 1) if self.look.show_all else (min(newest, self.columns - 1), end)
                ys = (y_at(item.curve, column) for column in at)
                levels += [y for y in ys if y is not None]
        return levels

    # dots and text

    def _row_of(self, y: float) -> int:
        """Return the text row of a y, which may be outside."""
        return round(self._scale.row(y)) // self._raster.sub_rows

    def _paint(self, scale: Scale, limits: Limits) -> None:
        """Paint everything except the cursor."""
        self._scale, raster = scale, self._raster
        columns, spacing = raster.columns, raster.sub_columns
        dim, dotted = self._ink(DIM), self._ink(BASELINE)

        def paint_dotted(curve: Curve) -> None:
            layer = curve_layer(curve, scale, columns)
            layer = [0 if column % spacing else bits for column, bits in enumerate(layer)]
            raster.paint(layer, dotted, ".")

        for level in self.data.baselines:
            if math.isfinite(level.value):
                y = y_of(level.value, self.look.log)
                paint_dotted([(0, y), (columns - 1, y)])
        bands = set[int]()
        for item in self.drawn:
            if item.raw and (item.series.smooth or item.series.low is not None):
                bands.add(band := self._ink(band_of(item.series.colour)))
                raster.paint(band_layer(item.bins, scale, columns), band, ":")
        for item in self.guides:
            paint_dotted(item.curve)
        markers = [self.marker(index) for index in range(len(self.drawn))]
        raster.paint_curves(
            [
                (curve_layer(item.curve, scale, columns), self._ink(item.series.colour), it or "*")
                for item, it in zip(self.drawn, markers, strict=True)
            ]
        )
        self._write_names(limits, dim, dotted)
        taken = {at for item in self.drawn for at in self._write_star(item)}
        for index, (item, marker) in enumerate(zip(self.drawn, markers, strict=True)):
            if marker and self.look.no_colour and self.look.marks != "ascii":
                self._write_letters(item, marker, index / len(self.drawn))
            if item.series.marker or (marker and self.look.marks != "ascii"):
                self._write_marker(item, marker, taken)
        self._write_notes(limits, dim, bands)

    def _place(
        self, spots: Iterable[tuple[int, int, str]], style: int, over: Collection[int] = ()
    ) -> bool:
        """Write the first text of (row, column, text) with room for it and a blank on each side.

        Cells of the inks `over` count as empty, and so does what is right of the plot.
        """
        raster = self._raster
        for row, first, text in spots:
            end = first + len(text)
            room = row, first - 1, min(end, raster.width - 1)
            if end <= raster.width and raster.free(*room, over):
                raster.write(row, first - 1, " ", 0)
                raster.write(row, first, text, style)
                return True
        return False

    def _write_names(self, limits: Limits, dim: int, dotted: int) -> None:
        """Write the names of levels at the right end and of guides at their own, if there is room.

        A level outside the view has its name at the edge.
        """
        raster = self._raster
        names = [
            (self.level_words(level), y_of(level.value, self.look.log), raster.width)
            for level in self.data.baselines
            if level.label and math.isfinite(level.value)
        ]
        names = [(text, min(max(y, limits.low), limits.high), at) for text, y, at in names]
        for item in self.guides:
            end = last_column(item.curve, raster.columns)
            y = y_at(item.curve, end) if end is not None else None
            if end is not None and y is not None and math.isfinite(y):
                names.append((item.series.name, y, end // raster.sub_columns + 2))
        for text, y, at in names:
            first = min(at, raster.width - len(text))
            if first >= LEAST_ROOM:
                self._place([(self._row_of(y), first, text)], dim, [dotted])

    def _write_star(self, item: PlottedSeries) -> list[tuple[int, int]]:
        """Draw ★ at the series' best point; return its cell if visible."""
        x, value = item.series.star or (math.nan, math.nan)
        if not self.look.shows(x) or not math.isfinite(value):
            return []
        row, at = self._row_of(y_of(value, self.look.log)), self.cell_of(x)
        if not 0 <= row < self._raster.height:
            return []
        self._raster.write(row, at, "★", self._bold(item))
        return [(row, at)]

    def _write_letters(self, item: PlottedSeries, marker: str, share: float) -> None:
        """Repeat the series' letter along its curve, which has no colour.

        `share` shifts the letters so that those of several series don't coincide.
        """
        raster, points = self._raster, [point for point in item.curve if point[1] == point[1]]
        first = LETTER_CELLS // 4 + round(share * LETTER_CELLS)
        for cell in range(first, raster.width, LETTER_CELLS):
            y = y_at(points, cell * raster.sub_columns)
            if y is not None and len(points) > 1:
                raster.write(self._row_of(y), cell, marker, self._bold(item))

    def _write_marker(self, item: PlottedSeries, marker: str, taken: set[tuple[int, int]]) -> None:
        """Write the series' letter at its end, avoiding the `taken` cells, and add its own."""
        raster, points = self._raster, [point for point in item.curve if point[1] == point[1]]
        end = last_column(points, raster.columns)
        if end is None:
            return
        shown = [point for point in points if 0 <= point[0] < raster.columns]
        for column, y in [(end, y_at(points, end)), *shown[-1:]]:
            row = -1 if y is None else self._row_of(y)
            if 0 <= row < raster.height:
                at = min(column // raster.sub_columns + 1, raster.width - len(marker))
                beside = ((row + down, at + right) for down, right in BESIDE)
                free = (cell for cell in beside if raster.has(*cell) and cell not in taken)
                cell = next(free, (row, at))
                taken.add(cell)
                raster.write(*cell, marker, self._bold(item))
                return

    def _write_notes(self, limits: Limits, dim: int, bands: Collection[int]) -> None:
        """Write how far curves leave the view.

        `↑ from 2,003` stands beside the cell where a steep start enters it. Without one, `↓ to 0.4`
        for later outliers stands at the right edge, over raw bands too.
        """
        raster, gap = self._raster, 2 if self._raster.width > 60 else 1
        for up, rows in ((True, (0, 1)), (False, (raster.height - 1, raster.height - 2))):
            start: list[Bin] = []
            later: list[Bin] = []
            for item in self.drawn:
                shown = [bin for bin in item.bins if 0 <= bin.column < raster.columns]
                shown = [bin for bin in shown if bin.mean == bin.mean]
                out = [bin.high > limits.high if up else bin.low < limits.low for bin in shown]
                steep = [*out, False].index(False)
                start += shown[:steep]
                later += compress(shown[steep:], out[steep:])
            if not (bins := start or later):
                continue
            y = max(bin.high for bin in bins) if up else min(bin.low for bin in bins)
            value = formatting.figure(value_at_y(y, self.look.log))
            text = f"{ARROWS[up]} {'from' if start else 'to'} {value}"
            places = [raster.width - len(text)]
            if start:
                enters = max(bin.column for bin in bins) // raster.sub_columns
                inks = raster.inks[rows[0]][: enters + 7]
                beside = [at for at, found in enumerate(inks) if found] or [enters]
                places = [max(beside) + gap, min(beside) - len(text) - gap + 1]
            spots = [(row, at, text) for at in places for row in rows]
            self._place(spots, dim, () if start else bands)

    def _marks_row(self) -> list[tuple[str, Style]]:
        """Return the row of marks; evaluations that would crowd it appear only when zoomed in."""
        look, evaluated = self.look, self.data.evaluated
        cells: list[tuple[str, Style]] = [(" ", ink(TEXT))] * self._raster.width
        if look.shows(self.cursor):
            cells[self.cell_of(self.cursor)] = ("│", ink(BRIGHT))
        taken: set[int] = set()
        for mark in self.data.marks:
            if look.shows(mark.x):
                cells[self.cell_of(mark.x)] = (mark.glyph, ink(mark.colour))
                taken.add(self.cell_of(mark.x))
        shown = evaluated[bisect_left(evaluated, look.start) : bisect_right(evaluated, look.end)]
        if len(shown) <= self._raster.width // EVALUATION_CELLS:
            for at in map(self.cell_of, shown):
                if not taken & {at - 1, at, at + 1}:
                    cells[at] = ("e", ink(DIM))
        return cells

    def _write_what_comes(self) -> None:
        """Say that the chart has no points yet, and what comes next."""
        elsewhere = any(len(series.x) for series in self.data.series)
        lines = ["no points in this range"] if elsewhere else ["no points yet", self.data.note]
        room = self.width - 2 * self.gutter
        lines = [line for line in lines if line and len(line) <= room][-self.height :]
        for row, line in enumerate(lines, (self.height - len(lines)) // 2):
            words = line.center(self.width)[self.gutter :]
            self._raster.write(row, 0, words, self._ink(DIM))


def draw(
    data: ChartData,
    look: PlotOptions,
    width: int,
    height: int,
    before: Plot | None = None,
    *,
    cursor: float | None = None,
) -> Plot:
    """Draw into `width` × `height` cells.

    The previous plot of the same chart and size keeps limits and labels stable. If only the cursor
    moved, it is drawn again.
    """
    if before and before.shape != (data.title, data.x_label, width, height):
        before = None
    plot = before
    if plot is None or plot.data is not data or plot.look != look:
        plot = Plot(data, look, width, height, before)
    plot.draw_cursor(cursor)
    return plot
