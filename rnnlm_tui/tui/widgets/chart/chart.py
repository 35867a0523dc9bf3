"""The chart: dots in a panel whose legend is the readout; one pass over the points, and only rows that changed are repainted."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual.content import Content
from textual.reactive import reactive
from textual.strip import Strip

from rnnlm_tui.tui.widgets import figures
from rnnlm_tui.tui.widgets.chart.data import ChartData, ChartSeries, MarksStyle
from rnnlm_tui.tui.widgets.chart.limits import settle_end
from rnnlm_tui.tui.widgets.chart.plot import Look, Memory, Plot, column_of, curve_at, draw, nearest, series_marker
from rnnlm_tui.tui.widgets.chart.raster import GRID
from rnnlm_tui.tui.widgets.chart.ticks import x_at, x_ticks
from rnnlm_tui.tui.widgets.palette import BACKGROUND, BRIGHT, DIM, ink
from rnnlm_tui.tui.widgets.panel import Label, Panel, padded, segments_of, width_of

DEFAULT_SMOOTHING = 0.95
LARGEST_ZOOM = 1000.0
"""The whole x range over the smallest part that can be shown."""


class Chart(Panel):
    """Curves over x in dots, after `show(data)`."""

    cursor: reactive[float | None] = reactive(None, init=False, repaint=False)
    """The x at which legends tell values; None: the newest values."""
    show_all: reactive[bool] = reactive(False, init=False, repaint=False)
    """Shows the steep start and all outliers as well."""
    marks_style: reactive[MarksStyle] = reactive("braille", init=False, repaint=False)
    """What dots are drawn with."""
    smoothing: reactive[float] = reactive(DEFAULT_SMOOTHING, init=False, repaint=False)
    """Weight of the past in the curves, 0 to 0.999."""
    log_y: reactive[bool] = reactive(False, init=False, repaint=False)
    """Whether y is logarithmic."""

    def __init__(self, data: ChartData | None = None, *, name: str | None = None, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.data = data or ChartData("", ())
        self._memory = Memory()
        self._end: float | None = None
        self._window: tuple[float, float] | None = None
        self._following = True
        self._plot = Plot(0, 0)
        self._look: Look | None = None
        self._log_chosen = False
        self.set_reactive(Chart.log_y, self.data.log_y)

    def show(self, data: ChartData) -> None:
        """Show other data; how it is looked at stays."""
        if data.title != self.data.title or data.x_label != self.data.x_label:
            self._memory, self._end, self._window, self._following = Memory(), None, None, True
        if not self._log_chosen or data.title != self.data.title:
            self.set_reactive(Chart.log_y, data.log_y)
        self.data = data
        self._move_with_the_tail()
        self.redraw()

    # How it is looked at

    def toggle_log(self) -> None:
        """Linear or logarithmic y; the choice outlives new data."""
        self._log_chosen = True
        self.log_y = not self.log_y

    def set_smoothing(self, value: float) -> None:
        """0 (the mean of each dot column) to 0.999."""
        self.smoothing = min(max(value, 0.0), 0.999)

    def zoom(self, factor: float) -> None:
        """Show 1/factor as much of x, around the cursor or, without one, up to the newest point."""
        whole = self._whole()
        start, end = self._window or whole
        length = min(max((end - start) / factor, (whole[1] - whole[0]) / LARGEST_ZOOM), whole[1] - whole[0])
        if length >= whole[1] - whole[0]:
            self.reset_window()
            return
        last = self._newest()
        if self.cursor is not None:
            share = (self.cursor - start) / (end - start)
            start = self.cursor - share * length
        elif self._following or not start <= last <= end:
            start = last - 0.9 * length
        else:
            start = (start + end - length) / 2
        self._show_window(start, length)

    def pan(self, columns: int) -> None:
        """Move the shown part by cells, to the right where positive; it no longer follows the newest point."""
        if self._window is None:
            return
        start, end = self._window
        self._following = False
        self._show_window(start + (end - start) * columns / max(self._plot.width - self._plot.gutter, 1), end - start)

    def follow(self) -> None:
        """Keep the newest point in the shown part."""
        self._following = True
        self._move_with_the_tail()
        self.redraw()

    def reset_window(self) -> None:
        """All of x."""
        self._window, self._following = None, True
        self.redraw()

    def reset(self) -> None:
        """All of x, the data's own y axis, the usual smoothing, no cursor."""
        self._memory, self._end, self._window, self._following, self._log_chosen = Memory(), None, None, True, False
        self.set_reactive(Chart.cursor, None)
        self.set_reactive(Chart.show_all, False)
        self.set_reactive(Chart.smoothing, DEFAULT_SMOOTHING)
        self.set_reactive(Chart.log_y, self.data.log_y)
        self.redraw()

    @property
    def following(self) -> bool:
        """Whether the newest point is kept in sight."""
        return self._following

    @property
    def window(self) -> tuple[float, float]:
        """The shown part of x."""
        return self._window or self._whole()

    @property
    def column_width(self) -> float:
        """How much of x one cell shows: a cursor's smallest step."""
        start, end = self.window
        return (end - start) / max(self._plot.width - self._plot.gutter, 1)

    # Drawing

    def prepare(self, width: int, height: int) -> None:
        """Draw the plot that `content_line` hands out."""
        start, end = self.window
        whole = self._whole()
        marks: MarksStyle = "ascii" if self.ascii_only else self.marks_style
        self._look = Look(
            start, end, whole[1] - whole[0], self.log_y, self.smoothing, self.show_all, marks, self.cursor, no_colour=bool(getattr(self.app, "no_color", False))
        )
        self._plot = draw(self.data, self._look, width, height, self._memory)
        title = self.data.title + (", log" if self.log_y and self.data.title else "")
        self.set_reactive(Chart.panel_title, title)

    def content_line(self, y: int, width: int) -> Strip:
        """A row: tick label, blank, dots."""
        plot = self._plot
        gutter = [Segment(f"{plot.labels.get(y, ''):>{plot.label_width}} ", ink(DIM))] if plot.gutter else []
        runs = plot.rows[y] if y < len(plot.rows) else []
        return padded([*gutter, *(Segment(text, style) for text, style in runs if text)], width)

    def legend_within(self, room: int) -> Label:
        """The fullest readout that fits: first the baselines go, then the names, then the later series."""
        for variant in self._legends():
            if width_of(segments_of(variant)) <= room:
                return variant
        return ""

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """The unit, the cursor's x and the ticks that touch neither."""
        look, plot = self._look, self._plot
        if look is None or width < 8:
            return []
        labels: list[tuple[int, Sequence[Segment]]] = []
        unit = self.data.x_label
        if unit and len(unit) + 10 <= width:
            labels.append((width - 3 - len(unit), segments_of(unit, DIM)))
        cells = max(plot.width - plot.gutter, 1)
        columns = cells * GRID[look.marks][0]

        def place(value: float, text: str) -> int:
            return 2 + plot.gutter + column_of(value, look, columns) // GRID[look.marks][0] - (len(text) - 1) // 2

        if look.cursor is not None and look.start <= look.cursor <= look.end:
            text = f" {x_at(look.cursor, self.data.x_format)} "
            at = min(max(place(look.cursor, text), 2), width - 3 - len(text))
            if labels and at + len(text) + 2 > labels[0][0]:
                labels.clear()
            labels.append((at, [Segment(text, ink(BACKGROUND, background=BRIGHT, bold=True))]))
        for value, text in x_ticks(look.start, look.end, cells, self.data.x_format):
            at = place(value, text)
            if all(at + len(text) + 2 < other or other + width_of(label) + 2 < at for other, label in labels):
                labels.append((at, segments_of(text, DIM)))
        return labels

    def _legends(self) -> list[Content]:
        series = self.data.series
        if not series:
            return []
        cursor = self._look is not None and self._look.cursor is not None
        lines = [] if cursor else [Content.assemble(("··" if not self.ascii_only else "..", DIM), " ", (line.label, DIM)) for line in self.data.baselines]
        full = [self._entry(index, True) for index in range(len(series))]
        bare = [self._entry(index, index > 0 and not series[0].name) for index in range(len(series))]
        head = self._at() if cursor else []
        choices = [[*head, *full, *lines], [*head, *full], full, bare, [self._entry(index, False) for index in range(len(series))], bare[:1]]
        gap = Content("  ")
        return [gap.join([part for part in choice if part]) for choice in choices]

    def _entry(self, index: int, named: bool) -> Content:
        series, look = self.data.series[index], self._look
        marker = series_marker(series, index, look) if look else ""
        value, place = self._value(index)
        alone = len(self.data.series) == 1 and not series.name and not self.data.baselines
        parts: list[tuple[str, str]] = [] if alone else [(marker or "━", series.colour)]
        if named and series.name:
            parts.append((series.name, DIM))
        if value:
            parts.append((value, f"bold {BRIGHT if index == 0 else series.colour}"))
        if place:
            parts.append((place, DIM))
        return Content(" ").join([Content.styled(text, style) for text, style in parts])

    def _value(self, index: int) -> tuple[str, str]:
        """The value in the legend and, where the point lies elsewhere than the cursor, its x."""
        series, look = self.data.series[index], self._look
        if look is None or look.cursor is None:
            return series.current, ""
        at = nearest(series, look.cursor)
        if at is None or not look.start <= look.cursor <= look.end:
            return figures.NOTHING, ""
        write = series.y_format or figures.figure
        if series.smooth and index < len(self._plot.drawn):
            columns = max(self._plot.width - self._plot.gutter, 1) * GRID[look.marks][0]
            return write(value) if (value := curve_at(self._plot.drawn[index], column_of(look.cursor, look, columns))) is not None else figures.NOTHING, ""
        away = abs(series.x[at] - look.cursor) > self.column_width
        return write(series.mean[at]), f"@{x_at(series.x[at], self.data.x_format)}" if away else ""

    def _at(self) -> list[Content]:
        """`at step 2,140  raw 72.6`."""
        if self._look is None or self._look.cursor is None:
            return []
        parts = [Content.assemble((f"at {self.data.x_label} ", DIM), (x_at(self._look.cursor, self.data.x_format), f"bold {BRIGHT}"))]
        first: ChartSeries | None = next((series for series in self.data.series if series.smooth), None)
        at = nearest(first, self._look.cursor) if first else None
        if first is not None and at is not None:
            parts.append(Content.assemble(("raw ", DIM), ((first.y_format or figures.figure)(first.mean[at]), "")))
        return parts

    # x

    def _newest(self) -> float:
        return max((series.x[-1] for series in self.data.series if len(series.x)), default=0.0)

    def _whole(self) -> tuple[float, float]:
        """From 0, or from the first point where that lies far from 0, to the planned end or a round value past the newest point."""
        first = min((series.x[0] for series in self.data.series if len(series.x)), default=0.0)
        last = self._newest()
        start = 0.0 if 0 <= first <= 0.25 * max(last, self.data.x_end or last) else first
        if self.data.x_end is not None and self.data.x_end > start:
            return start, max(self.data.x_end, last)
        self._end = settle_end(last, start, self._end)
        return start, self._end

    def _show_window(self, start: float, length: float) -> None:
        low, high = self._whole()
        start = min(max(start, low), high - length)
        self._window = (start, start + length)
        self.redraw()

    def _move_with_the_tail(self) -> None:
        """When the newest point has left a followed window, jump ahead by a part of it, so that it rests in between."""
        if self._window is None or not self._following:
            return
        start, end = self._window
        last = self._newest()
        if not start <= last <= end:
            length = end - start
            low, high = self._whole()
            start = min(max(last - 0.8 * length, low), high - length)
            self._window = (start, start + length)

    def watch_cursor(self) -> None:
        self.redraw()

    def watch_show_all(self) -> None:
        self._memory.limits = None
        self.redraw()

    def watch_marks_style(self) -> None:
        self.redraw()

    def watch_smoothing(self) -> None:
        self.redraw()

    def watch_log_y(self) -> None:
        self._memory.limits = None
        self.redraw()
