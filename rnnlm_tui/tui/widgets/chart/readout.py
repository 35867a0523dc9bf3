"""A chart's legend: the newest values, or those at the cursor."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from textual.content import Content

from rnnlm_tui.contract import figures
from rnnlm_tui.tui.widgets.chart.data import Baseline, ChartData, ChartSeries
from rnnlm_tui.tui.widgets.chart.picture import Plot, PlotOptions, PlottedSeries, column_of, series_marker
from rnnlm_tui.tui.widgets.chart.raster import GRID
from rnnlm_tui.tui.widgets.chart.ticks import x_at
from rnnlm_tui.tui.widgets.palette import BRIGHT, DIM, TEXT


def legends(data: ChartData, look: PlotOptions, plot: Plot) -> list[Content]:
    """Return the legends from longest to shortest.

    Baselines are dropped first, then the raw value, the guides, the names, and the later series.
    """
    series = data.series
    if not series:
        return []
    dots = ".." if look.marks == "ascii" else "··"
    lines = [] if look.cursor is not None else [Content.assemble((f"{dots} {level_words(line, look, plot)}", DIM)) for line in data.baselines if line.label]
    guides, brief = ([_guide(data, look, guide, dots, placed=placed) for guide in data.guides] for placed in (True, False))
    head = _head(data, look) if look.cursor is not None else []
    entries = [(_entry(data, look, plot, index, named=True), _entry(data, look, plot, index, named=False)) for index in range(len(series))]
    full, bare = [entry[0] for entry in entries], [entry[1] for entry in entries]
    choices = [
        [*head, *full, *lines, *guides],
        [*head, *full, *guides],
        [*head[:1], *full, *guides],
        [*head[:1], *full, *brief],
        *([[*head[:1], *bare, *brief]] if head and brief else []),
        [*head, *full],
        full,
        *([[*bare[:1], *full[1:]]] if not series[0].marker else []),
        *(bare[:some] for some in range(len(bare), 0, -1)),
    ]
    gap = Content("  ")
    return [gap.join([part for part in choice if part]) for choice in choices]


def level_words(line: Baseline, look: PlotOptions, plot: Plot) -> str:
    """Return a level's label, with an arrow if it is outside the view."""
    limits, arrows = plot.limits, "v^" if look.marks == "ascii" else "↓↑"
    if limits is None or limits.low <= line.value <= limits.high:
        return line.label
    return f"{line.label} {arrows[line.value > limits.high]}"


def nearest(series: ChartSeries, x: float) -> int | None:
    """Return the index of the last point up to x, or of the first point; None without points."""
    return max(bisect_right(series.x, x) - 1, 0) if len(series.x) else None


def curve_at(item: PlottedSeries, column: int) -> float | None:
    """Return the curve's value in a dot column, or the last before it; None before its start."""
    at = bisect_left(item.curve, column + 1, key=lambda point: point[0]) - 1
    return item.curve[at][1] if at >= 0 else None


def written(series: ChartSeries, value: float | None) -> str:
    """Format a value as in the legend."""
    if value is None or value != value:
        return figures.NOTHING
    if series.y_format is not None:
        return series.y_format(value)
    return figures.short(value) if abs(value) >= 9999.5 else figures.figure(value)


def _head(data: ChartData, look: PlotOptions) -> list[Content]:
    """Return `at step 2,140  raw 72.6`; no raw value with several runs."""
    if look.cursor is None:
        return []
    parts = [Content.assemble((f"at {data.x_label} ", DIM), (x_at(look.cursor, data.x_format), f"bold {BRIGHT}"))]
    for series in data.series[: 0 if data.series[0].marker else None]:
        at = nearest(series, look.cursor) if series.smooth else None
        if at is not None:
            parts.append(Content.assemble(("raw ", DIM), (written(series, series.mean[at]), TEXT)))
            break
    return parts


def _entry(data: ChartData, look: PlotOptions, plot: Plot, index: int, *, named: bool) -> Content:
    """Return `━ val 58.1 ★`; only the value for a single curve without a name."""
    series = data.series[index]
    value, place = value_of(data, look, plot, index)
    alone = len(data.series) == 1 and not series.name and not any(line.label for line in data.baselines)
    parts = [] if alone else [(series_marker(series, index, look) or "━", series.colour)]
    if named and series.name and series.name != series.marker:
        parts.append((series.name, DIM))
    if value:
        parts.append((value, f"bold {BRIGHT if index == 0 and not series.marker else series.colour}"))
    if place:
        parts.append((place, DIM))
    return Content(" ").join([Content.styled(text, style) for text, style in parts])


def _guide(data: ChartData, look: PlotOptions, guide: ChartSeries, dots: str, *, placed: bool) -> Content:
    """Return `·· reference 72.4`; at the cursor, the last point before it with its x."""
    if look.cursor is None:
        return Content.styled(" ".join(part for part in (dots, guide.name, guide.current) if part), DIM)
    at = nearest(guide, look.cursor)
    value = written(guide, guide.mean[at]) if at is not None and guide.x[at] <= look.cursor <= guide.x[-1] else figures.NOTHING
    place = f" @{x_at(guide.x[at], data.x_format)}" if placed and at is not None and value != figures.NOTHING else ""
    return Content.styled(f"{dots} {guide.name} {value}{place}", DIM)


def value_of(data: ChartData, look: PlotOptions, plot: Plot, index: int) -> tuple[str, str]:
    """Return the value, and `@2,100` if its point is elsewhere than the cursor."""
    series = data.series[index]
    if look.cursor is None:
        raw = series.smooth and not look.smoothing and len(series.mean) and series.mean[-1] == series.mean[-1]
        if series.legend_from_curve and series.smooth and not raw and index < len(plot.drawn):
            end = curve_at(plot.drawn[index], max(plot.width - plot.gutter, 1) * GRID[look.marks][0] - 1)
            return (series.current if end is None else written(series, end)), ""
        return written(series, series.mean[-1]) if raw else series.current, ""
    at = nearest(series, look.cursor)
    if at is None or not look.start <= look.cursor <= look.end:
        return figures.NOTHING, ""
    cells = max(plot.width - plot.gutter, 1)
    half = 0.5 * (look.end - look.start) / cells
    place = f"@{x_at(series.x[at], data.x_format)}"
    if series.smooth and index < len(plot.drawn):
        value = curve_at(plot.drawn[index], column_of(look.cursor, look, cells * GRID[look.marks][0]))
        return written(series, value), place if look.cursor - series.x[-1] > half else ""
    return written(series, series.mean[at]), place if abs(series.x[at] - look.cursor) > half else ""
