"""The chart widget: dots in a panel whose legend shows the values; repaints only changed rows.

`Window` is the visible part of x, which is zoomed, panned or follows the end; `legends` has the
newest values, or those at the cursor.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from rich.segment import Segment
from textual.content import Content
from textual.events import Click

from rnnlm_tui.schema import formatting
from rnnlm_tui.tui.palette import BACKGROUND, BRIGHT, DIM, TEXT, ink
from rnnlm_tui.tui.settings import DEFAULT_SMOOTHING
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.widgets.chart.plot import Plot, PlotOptions, PlottedSeries, draw
from rnnlm_tui.tui.widgets.chart.scale import settle_end, value_at_y, x_at, x_ticks
from rnnlm_tui.tui.widgets.panel import Label, Labels, Panel, segments_of, width_of

LARGEST_ZOOM = 1000.0
"""The whole x range over the smallest part that can be shown."""
AHEAD = 0.8
"""Where the newest point is in a following window after a jump; the window stays until the end."""

STILL_END = 0.01
"""An estimated end, as on the time axis, must move by this share of x to be redrawn."""


class Window:
    """Which part of x is visible, and the cursor; charts that show the same x share one."""

    def __init__(
        self,
        part: tuple[float, float] | None = None,
        cursor: float | None = None,
        *,
        following: bool = True,
    ) -> None:
        self.following = following
        """Whether the newest point is kept in view."""
        self.part = part
        """The visible part; None for all of x."""
        self.cursor = cursor
        """The x whose values the legends show; None for the newest values."""
        self.whole = (0.0, 1.0)
        """All of x."""
        self._newest = 0.0
        self._end: float | None = None

    @property
    def shown(self) -> tuple[float, float]:
        """The visible part of x."""
        return self.part or self.whole

    def fit(self, data: ChartData) -> None:
        """Take all of x from this data, and follow its newest point unless the cursor is in view.

        All of x is from 0 or the first point to the planned or a round end.
        """
        first = min((series.x[0] for series in data.series if len(series.x)), default=0.0)
        last = max((series.x[-1] for series in data.series if len(series.x)), default=0.0)
        start = 0.0 if 0 <= first <= 0.25 * max(last, data.x_end or last) else first
        if data.x_end is None or data.x_end <= start:
            self._end = settle_end(last, start, self._end)
        else:
            end = max(data.x_end, last)
            if (
                self._end is None
                or last > self._end
                or last == end
                or abs(end - self._end) > STILL_END * (end - start)
            ):
                self._end = end
        self.whole, self._newest = (start, self._end), last
        has_points = any(len(series.x) for series in data.series)
        if has_points and (self.cursor is None or not self._shows(self.cursor)):
            self._catch_up()

    def zoom(self, factor: float) -> None:
        """Zoom in by `factor` around the cursor, the newest point while following, or the middle.

        The cursor keeps its position, or is centred if out of view. Zooming away from the newest
        point stops following.
        """
        (low, high), (start, end), around = self.whole, self.shown, self.cursor
        length = max((end - start) / factor, (high - low) / LARGEST_ZOOM)
        if length >= high - low:
            self.part, self.following = None, True
            return
        if around is not None:
            share = (around - start) / (end - start)
            start = around - (share if 0 <= share <= 1 else 0.5) * length
        elif self.following or self.part is None:
            start = self._newest - 0.9 * length
        else:
            start = (start + end - length) / 2
        self._place(start, length)
        if around is not None and not self._shows(self._newest):
            self.following = False

    def pan(self, share: float) -> None:
        """Pan by a share of the length, to the right if positive; stops following.

        A cursor that this would leave behind moves along.
        """
        if self.part is not None:
            start, end = self.part
            self.following = False
            self._place(start + (end - start) * share, end - start)
            if self.cursor is not None:
                self.cursor = min(max(self.cursor, self.part[0]), self.part[1])

    def follow(self) -> None:
        """Keep the newest point in view from now on; remove a cursor that this leaves behind."""
        self.following = True
        self._catch_up()
        if self.cursor is not None and not self._shows(self.cursor):
            self.cursor = None

    def _catch_up(self) -> None:
        """Jump ahead if the newest point has left a following window."""
        if self.part is not None and self.following and not self._shows(self._newest):
            length = self.part[1] - self.part[0]
            self._place(self._newest - AHEAD * length, length)

    def _shows(self, place: float) -> bool:
        start, end = self.part or (-math.inf, math.inf)
        slack = 1e-3 * (end - start)  # on another axis, the newest place may be slightly further
        return start - slack <= place <= end + slack

    def _place(self, start: float, length: float) -> None:
        low, high = self.whole
        start = max(min(start, high - length), low)
        self.part = (start, start + length)


Entry = list[tuple[int, str, str]]
"""An entry of the legend in parts: which are dropped first, from the highest; text and style."""
LEVEL, RAW, PLACE, NAME, GUIDE, CURSOR, FIRST_NAME, OTHER_NAMES = range(107, 99, -1)


def legends(plot: Plot) -> Iterator[Content]:
    """Return the legends from longest to shortest; the later series are dropped last."""
    data, cursor = plot.data, plot.cursor
    entries: list[Entry] = []
    if cursor is not None and data.series:
        place = x_at(cursor, data.x_format)
        entries.append([(CURSOR, f"at {data.x_label}", DIM), (CURSOR, place, f"bold {BRIGHT}")])
        smooth = [series for series in data.series if series.smooth and len(series.x)]
        if smooth and not data.series[0].marker:
            raw = written(smooth[0], smooth[0].mean[nearest(smooth[0], cursor) or 0])
            entries.append([(RAW, "raw", DIM), (RAW, raw, TEXT)])
    entries += [_entry(plot, index) for index in range(len(data.series))]
    if data.series:
        levels = [] if cursor is not None else [level for level in data.baselines if level.label]
        entries += [[(LEVEL, f"·· {plot.level_words(level)}", DIM)] for level in levels]
        for guide in data.guides:
            value, place = value_of(plot, guide)
            words = " ".join(filter(None, ("··", guide.name, value)))
            entries.append([(GUIDE, words, DIM), (PLACE, place, DIM)])
    for most in sorted({rank for entry in entries for rank, _, _ in entry}, reverse=True):
        shown: list[str | tuple[str, str]] = []
        for entry in entries:
            gap = "  "
            for rank, text, style in entry:
                if text and rank <= most:
                    shown += [gap, (text, style)]
                    gap = " "
        yield Content.assemble(*shown[1:])


def nearest(series: ChartSeries, x: float) -> int | None:
    """Return the index of the last point up to x, or of the first point; None without points."""
    return max(bisect_right(series.x, x) - 1, 0) if len(series.x) else None


def written(series: ChartSeries, value: float | None) -> str:
    """Format a value as in the legend."""
    if value is None or value != value:
        return formatting.NOTHING
    if series.y_format is not None:
        return series.y_format(value)
    return formatting.short(value) if abs(value) >= 9999.5 else formatting.figure(value)


def _entry(plot: Plot, index: int) -> Entry:
    """Return `━ val 58.1 ★`; only the value for a single curve without a name."""
    data, series = plot.data, plot.data.series[index]
    value, place = value_of(plot, series)
    unnamed = not series.name and not any(level.label for level in data.baselines)
    sign = plot.marker(index) or "━" if len(data.series) > 1 or not unnamed else ""
    leads = index == 0 and not series.marker
    # at the cursor, a guide's value is worth more than names
    compared = plot.cursor is not None and data.guides
    name_rank = NAME if compared else FIRST_NAME if leads else OTHER_NAMES
    return [
        (index, sign, series.colour),
        (name_rank, series.name if series.name != series.marker else "", DIM),
        (index, value, f"bold {BRIGHT if leads else series.colour}"),
        (index, place, DIM),
    ]


def value_of(plot: Plot, series: ChartSeries) -> tuple[str, str]:
    """Return the value, and `@2,100` if its point is elsewhere than the cursor."""
    look, cursor = plot.look, plot.cursor
    smooth = next((it for it in plot.drawn if it.series is series and series.smooth), None)

    def on_curve(item: PlottedSeries, column: int) -> float | None:
        """The curve's value in a dot column, or the last before it; None before its start."""
        at = bisect_left(item.curve, column + 1, key=lambda point: point[0]) - 1
        return value_at_y(item.curve[at][1], look.log) if at >= 0 else None

    if cursor is None:
        newest = series.mean[-1] if len(series.mean) else math.nan
        raw = series.smooth and not look.smoothing and newest == newest
        if series.current is not None and not raw:
            return series.current, ""
        end = newest if raw or not smooth else on_curve(smooth, plot.columns - 1)
        return written(series, end) if len(series.x) and end is not None else "", ""
    at = nearest(series, cursor)
    if at is None or not look.shows(cursor):
        return formatting.NOTHING, ""
    half = 0.5 * (look.end - look.start) / max(plot.width - plot.gutter, 1)
    value = on_curve(smooth, plot.column_of(cursor)) if smooth else series.mean[at]
    away = cursor - series.x[-1] if smooth else abs(series.x[at] - cursor)
    return written(series, value), f"@{x_at(series.x[at], plot.data.x_format)}" * (away > half)


class Chart(Panel):
    """Curves over x, drawn with dots; call `show(data)`."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.data = ChartData("", ())
        """The data shown; set by `show`."""
        self.range = Window()
        """The visible part of x."""
        self.show_all = False
        """Whether the steep start and all outliers are shown, too; for the next drawing."""
        self.smoothing = DEFAULT_SMOOTHING
        """Weight of the past in the curves, 0 to 0.999; for the next drawing."""
        self._plot = Plot(self.data, PlotOptions(0.0, 1.0, 1.0, False, 0.0, False, "braille"), 0, 0)

    def show(self, data: ChartData, window: Window | None = None) -> None:
        """Show other data; the x range is kept while the title and the x axis stay the same.

        With a `window`, show the part of x that it has.
        """
        if (data.title, data.x_label) != (self.data.title, self.data.x_label):
            self.range = Window()
        self.data = data
        if window is None:
            self.range.fit(data)
        else:
            self.range = window
        self.redraw()

    @property
    def column_width(self) -> float:
        """How much of x one cell shows."""
        start, end = self.range.shown
        return (end - start) / self._cells

    @property
    def values(self) -> list[str]:
        """Each series' value as in the legend, newest or at the cursor; empty if not drawn yet."""
        if not self.size or self._drawn_for != self.size:
            return []
        return [value_of(self._plot, series)[0] for series in self._plot.data.series]

    # Drawing

    def prepare(self, width: int, height: int) -> None:
        """Draw the plot."""
        data, (start, end), (low, high) = self.data, self.range.shown, self.range.whole
        look = PlotOptions(
            start,
            end,
            high - low,
            data.log_y,
            self.smoothing if any(one.smooth for one in (*data.series, *data.guides)) else 0.0,
            self.show_all,
            getattr(self.app, "marks_style", "braille"),
            no_colour=bool(getattr(self.app, "no_color", False)),
        )
        self._plot = draw(data, look, width, height, self._plot, cursor=self.range.cursor)
        log = ", log" if data.log_y and data.title else ""
        self.set_reactive(Chart.panel_title, data.title + log)
        self.lines = [self._plot.row(y) for y in range(height)]

    def legends(self) -> Iterable[Label]:
        """Return the legends from longest to shortest."""
        return legends(self._plot)

    def bottom_labels(self, width: int) -> Labels:
        """Return the unit, the cursor's x, and the ticks that touch neither."""
        data, look, plot = self.data, self._plot.look, self._plot
        if width < 8:
            return []
        labels: list[tuple[int, Sequence[Segment]]] = []
        if data.x_label and len(data.x_label) + 10 <= width:
            labels.append((width - 3 - len(data.x_label), segments_of(data.x_label, DIM)))

        def centred(x: float, text: str) -> int:
            return 2 + plot.gutter + plot.cell_of(x) - (len(text) - 1) // 2

        if look.shows(cursor := plot.cursor):
            text = x_at(cursor, data.x_format)
            at = max(min(centred(cursor, text), width - 3 - len(text)), 2)
            if labels and at + len(text) + 2 > labels[0][0]:
                labels.clear()
            labels.append((at, [Segment(text, ink(BACKGROUND, background=BRIGHT, bold=True))]))
        for x, text in x_ticks(look.start, look.end, self._cells, data.x_format):
            at = centred(x, text)
            if all(
                at + len(text) + 2 < other or other + width_of(label) + 2 < at
                for other, label in labels
            ):
                labels.append((at, segments_of(text, DIM)))
        return labels

    @property
    def _cells(self) -> int:
        """Cells for x; before the chart is first drawn, about as many as it will have."""
        return max((self._plot.width or self.app.size.width) - self._plot.gutter, 1)

    def x_of(self, event: Click) -> float | None:
        """Return the x of a click; None beside the dots."""
        column, (start, end) = event.x - 2 - self._plot.gutter, self.range.shown
        inside = 0 <= column < self._cells and 0 < event.y < self.size.height - 1
        return start + (end - start) * (column + 0.5) / self._cells if inside else None
