"""Draw a chart without a widget: limits, ticks, curves, notes and cursor, as styled text rows."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from rich.style import Style

from rnnlm_tui.tui.widgets.chart.bins import bins_of, lead_of, smoothed
from rnnlm_tui.tui.widgets.chart.data import ChartData, ChartSeries
from rnnlm_tui.tui.widgets.chart.guides import guide_layer, levels, value_at, write_name
from rnnlm_tui.tui.widgets.chart.limits import Limits, settle, wanted_range, with_baselines
from rnnlm_tui.tui.widgets.chart.notes import marks_row, write_baseline_labels, write_letters, write_marker, write_notes, write_star
from rnnlm_tui.tui.widgets.chart.picture import PaintedPlot, Plot, PlotOptions, PlotState, PlottedSeries, column_of, series_marker
from rnnlm_tui.tui.widgets.chart.raster import GRID, Raster, Scale, band_layer, curve_layer, dotted_layer
from rnnlm_tui.tui.widgets.chart.ticks import y_labels, y_ticks
from rnnlm_tui.tui.widgets.palette import BASELINE, BRIGHT, DIM, TEXT, band_of, ink

BAND_ROWS = 8
"""Rows from which raw points are shown under a curve; in fewer they would hide it."""
MARK_ROWS = 5
"""Rows needed before marks get one."""


def draw(data: ChartData, look: PlotOptions, width: int, height: int, memory: PlotState) -> Plot:
    """Draw into `width` × `height` cells, reading and updating `memory`."""
    bare, before_cursor = replace(look, cursor=None), memory.painted
    if before_cursor is not None and before_cursor.data is data and (before_cursor.look, before_cursor.width, before_cursor.height) == (bare, width, height):
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
        plot.drawn = [_drawn(series, look, columns, memory, raw=_shows_raw(series, height)) for series in data.series]
        plot.guides = [_drawn(series, look, columns, memory) for series in data.guides]
        memory.drawn = {id(item.series): item for item in (*plot.drawn, *plot.guides)}
        wanted = wanted_range([item.bins if item.raw else () for item in plot.drawn], [item.curve for item in plot.drawn], columns, look.log, look.show_all)
        wanted = wanted or _crossing(plot, columns, look.log)
        if wanted is None:
            return _empty(plot, data)
        newest = max(item.curve[-1][0] for item in plot.drawn if item.curve)
        beside = [level for item in plot.guides for level in levels(item.curve, newest, columns, look.show_all)]
        wanted = with_baselines(wanted, [*(line.value for line in data.baselines), *beside], look.log, data.y_from_zero)
        before = (
            memory.limits if memory.part == (look.start, look.end) else None
        )  # not for another part: the same data gets the same range, whichever way it was reached
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
    memory.painted = PaintedPlot(data, bare, width, height, plot, *_paint(plot, data, look, scale, limits, rows))
    return _with_cursor(memory.painted, look)


def _crossing(plot: Plot, columns: int, log: bool) -> tuple[float, float] | None:
    """Return the range of curves that cross the visible part without a point in it."""
    values = [value for item in plot.drawn for column in (0, columns - 1) if (value := value_at(item.curve, column)) is not None and math.isfinite(value)]
    values = [value for value in values if value > 0 or not log]
    return (min(values), max(values)) if values else None


def _place(scale: Scale, sub_rows: int, value: float) -> float:
    """Return a value's text row, 0.5 in the middle of the first."""
    return (scale.row(value) + 0.5) / sub_rows


def _shows_raw(series: ChartSeries, height: int) -> bool:
    """Whether raw points are shown: only under smooth curves, and not in small charts."""
    return series.band and (height >= BAND_ROWS or not (series.smooth or series.low is not None))


def _drawn(series: ChartSeries, look: PlotOptions, columns: int, memory: PlotState, *, raw: bool = True) -> PlottedSeries:
    shown = look.end - look.start
    smoothing = look.smoothing if series.smooth else 0.0
    seen = (look.start, look.end, look.whole, smoothing, columns, look.show_all)
    before = memory.drawn.get(id(series))
    if before is not None and before.series is series and before.seen == seen and before.raw == raw:
        return before
    points = series if look.show_all else series.drawn
    bins = bins_of(points, look.start, look.end, columns, lead_of(smoothing, look.whole, shown, columns))
    return PlottedSeries(series, bins, smoothed(bins, smoothing, columns * look.whole / shown, series.geometric, series.harmonic), seen, points, raw)


def _paint(plot: Plot, data: ChartData, look: PlotOptions, scale: Scale, limits: Limits, rows: int) -> tuple[Raster, list[Style]]:
    """Paint everything except the cursor; return the raster and its styles by number."""
    raster = Raster(plot.width - plot.gutter, rows, look.marks)
    styles: list[Style] = [ink(TEXT)]

    def number(style: Style) -> int:
        if style not in styles:
            styles.append(style)
        return styles.index(style)

    for line in data.baselines:
        raster.paint(dotted_layer(line.value, scale, raster.columns, raster.sub_columns), number(ink(BASELINE)), ".")
    for item in plot.drawn:
        if item.raw and (item.series.smooth or item.series.low is not None):
            raster.paint(band_layer(item.bins, scale, raster.columns), number(ink(band_of(item.series.colour))), ":")
    for item in plot.guides:
        raster.paint(guide_layer(item.curve, scale, raster.columns, raster.sub_columns), number(ink(BASELINE)), ".")
    curves = [
        (curve_layer(item.curve, scale, raster.columns), number(ink(item.series.colour)), series_marker(item.series, index, look) or "*")
        for index, item in enumerate(plot.drawn)
    ]
    raster.paint_curves(curves)
    write_baseline_labels(raster, data, scale, number(ink(DIM)), number(ink(BASELINE)))
    for item in plot.guides:
        write_name(raster, item.curve, item.series.name, scale, number(ink(DIM)), number(ink(BASELINE)))
    taken = {at for item in plot.drawn for at in write_star(raster, item, scale, number(ink(item.series.colour, bold=True)), look)}
    for index, item in enumerate(plot.drawn):
        if look.no_colour and look.marks != "ascii":
            write_letters(raster, item, series_marker(item.series, index, look), scale, number(ink(item.series.colour, bold=True)), index / len(plot.drawn))
        write_marker(raster, item, series_marker(item.series, index, look), scale, number(ink(item.series.colour, bold=True)), look, taken)
    write_notes(raster, plot, limits, number(ink(DIM)), {number(ink(band_of(item.series.colour))) for item in plot.drawn if item.raw})
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
                raster.write(row, column, "|" if look.marks == "ascii" else "│", len(styles) - 1)
    rows = [[(text, styles[style]) for text, style in raster.runs(row)] for row in range(raster.height)]
    if painted.height > raster.height:
        rows.append(marks_row(painted.data, look, raster))
    return replace(painted.plot, rows=rows)


def _empty(plot: Plot, data: ChartData) -> Plot:
    """Say that there are no points, and what will come."""
    elsewhere = any(len(series.x) for series in data.series)
    lines = ["no points in this range"] if elsewhere else ["no points yet", *([data.note] if data.note else [])]
    lines = [line for line in lines if len(line) <= plot.width - 2 * plot.gutter][-plot.height :]
    top = max((plot.height - len(lines)) // 2, 0)
    for row in range(plot.height):
        text = lines[row - top] if top <= row < top + len(lines) else ""
        plot.rows.append([(text.center(plot.width)[plot.gutter :], ink(DIM))])
    return plot
