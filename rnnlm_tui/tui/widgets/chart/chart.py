"""The chart widget: dots in a panel whose legend shows the values; repaints only changed rows."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip

from rnnlm_tui.tui.widgets.chart.data import ChartData, MarksStyle
from rnnlm_tui.tui.widgets.chart.picture import Plot, PlotOptions, PlotState, column_of
from rnnlm_tui.tui.widgets.chart.plot import draw
from rnnlm_tui.tui.widgets.chart.raster import GRID
from rnnlm_tui.tui.widgets.chart.readout import legends, value_of
from rnnlm_tui.tui.widgets.chart.ticks import x_at, x_ticks
from rnnlm_tui.tui.widgets.chart.window import Window
from rnnlm_tui.tui.widgets.palette import BACKGROUND, BRIGHT, DIM, ink
from rnnlm_tui.tui.widgets.panel import Label, Panel, padded, segments_of, width_of

DEFAULT_SMOOTHING = 0.9


class Chart(Panel):
    """Curves over x, drawn with dots; call `show(data)`."""

    class Pointed(Message):
        """An x was clicked."""

        def __init__(self, x: float) -> None:
            super().__init__()
            self.x = x
            """In the unit of the x axis."""

    cursor: reactive[float | None] = reactive(None, init=False, repaint=False)
    """The x whose values the legend shows; None shows the newest values."""
    show_all: reactive[bool] = reactive(False, init=False, repaint=False)
    """Also show the steep start and all outliers."""
    marks_style: reactive[MarksStyle] = reactive("braille", init=False, repaint=False)
    """The characters used for dots."""
    smoothing: reactive[float] = reactive(DEFAULT_SMOOTHING, init=False, repaint=False)
    """Weight of the past in the curves, 0 to 0.999."""
    log_y: reactive[bool] = reactive(False, init=False, repaint=False)
    """Whether y is logarithmic."""

    def __init__(self, data: ChartData | None = None, *, name: str | None = None, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self.data = data or ChartData("", ())
        """The data shown; set by `show`."""
        self._window = Window()
        self._memory = PlotState()
        self._plot = Plot(0, 0)
        self._look: PlotOptions | None = None
        self._log_chosen = False
        self.set_reactive(Chart.log_y, self.data.log_y)

    def on_mount(self) -> None:
        """Take the app's choice of dots."""
        self.set_reactive(Chart.marks_style, getattr(self.app, "marks_style", self.marks_style))

    def show(self, data: ChartData, lead: Chart | None = None) -> None:
        """Show other data; view settings are kept while the title and the x axis stay the same.

        With a `lead` chart, show the same part of x.
        """
        if data.title != self.data.title or data.x_label != self.data.x_label:
            self._memory, self._window, self._log_chosen = PlotState(), Window(), False
        if not self._log_chosen:
            self.set_reactive(Chart.log_y, data.log_y)
        self.data = data
        if lead is None or lead is self:
            self._window.lead(data, self.cursor)
        else:
            self._window.take(lead._window, lead.data)  # noqa: SLF001 (another chart)
        self.redraw()

    def look_as(self, lead: Chart) -> None:
        """Show the same part of x as another chart."""
        if lead is not self and self._window.take(lead._window, lead.data):
            self.redraw()

    def show_part(self, part: tuple[float, float] | None, *, following: bool) -> None:
        """Show this part of x, or all of it."""
        self._window.put(part, following=following)
        self.redraw()

    # View settings

    def toggle_log(self) -> None:
        """Switch between linear and logarithmic y; the choice is kept for new data."""
        self._log_chosen = True
        self.log_y = not self.log_y

    def set_smoothing(self, value: float) -> None:
        """Set the smoothing, from 0 (mean of each dot column) to 0.999."""
        self.smoothing = min(max(value, 0.0), 0.999)

    def zoom(self, factor: float) -> None:
        """Zoom in by `factor`, around the cursor or, without one, keeping the newest point."""
        self._window.zoom(self.data, factor, self.cursor)
        self.redraw()

    def pan(self, columns: int) -> None:
        """Pan by cells, to the right if positive; stops following the newest point."""
        self._window.pan(self.data, columns / self._cells)
        self.redraw()

    def follow(self) -> None:
        """Keep the newest point in view."""
        self._window.follow(self.data)
        self.redraw()

    def reset(self) -> None:
        """Reset zoom, y axis, smoothing and cursor."""
        self._memory, self._window, self._log_chosen = PlotState(), Window(), False
        self.set_reactive(Chart.cursor, None)
        self.set_reactive(Chart.show_all, False)
        self.set_reactive(Chart.smoothing, DEFAULT_SMOOTHING)
        self.set_reactive(Chart.log_y, self.data.log_y)
        self.redraw()

    @property
    def following(self) -> bool:
        """Whether the newest point is kept in view."""
        return self._window.following

    @property
    def part(self) -> tuple[float, float] | None:
        """The visible part of x; None if all is visible."""
        return self._window.part

    @property
    def window(self) -> tuple[float, float]:
        """The visible part of x."""
        return self._window.shown(self.data)

    @property
    def column_width(self) -> float:
        """How much of x one cell shows."""
        start, end = self.window
        return (end - start) / self._cells

    @property
    def values(self) -> list[str]:
        """Each series' value as in the legend, newest or at the cursor; empty if not drawn yet."""
        look = self._look
        if look is None or not self.size or self._drawn_for != self.size:
            return []
        return [value_of(self.data, look, self._plot, index)[0] for index in range(len(self.data.series))]

    # Drawing

    def prepare(self, width: int, height: int) -> None:
        """Draw the plot that `content_line` returns."""
        start, end = self.window
        low, high = self._window.whole(self.data)
        marks: MarksStyle = "ascii" if self.ascii_only else self.marks_style
        no_colour = bool(getattr(self.app, "no_color", False))
        self._look = PlotOptions(start, end, high - low, self.log_y, self.smoothing, self.show_all, marks, self.cursor, no_colour)
        self._plot = draw(self.data, self._look, width, height, self._memory)
        self.set_reactive(Chart.panel_title, self.data.title + (", log" if self.log_y and self.data.title else ""))

    def row_key(self, y: int) -> object:
        """Return the row's tick label and dots."""
        plot = self._plot
        return (plot.gutter, plot.labels.get(y), plot.rows[y] if y < len(plot.rows) else None)

    def content_line(self, y: int, width: int) -> Strip:
        """Return a row: tick label, blank, dots."""
        plot = self._plot
        gutter = [Segment(f"{plot.labels.get(y, ''):>{plot.label_width}} ", ink(DIM))] if plot.gutter else []
        runs = plot.rows[y] if y < len(plot.rows) else []
        return padded([*gutter, *(Segment(text, style) for text, style in runs if text)], width)

    def legend_within(self, room: int) -> Label:
        """Return the longest legend that fits."""
        variants = legends(self.data, self._look, self._plot) if self._look else []
        return next((variant for variant in variants if variant.cell_length <= room), "")

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """Return the unit, the cursor's x, and the ticks that touch neither."""
        look, plot, unit = self._look, self._plot, self.data.x_label
        if look is None or width < 8:
            return []
        labels: list[tuple[int, Sequence[Segment]]] = []
        if unit and len(unit) + 10 <= width:
            labels.append((width - 3 - len(unit), segments_of(unit, DIM)))
        cells, sub_columns = self._cells, GRID[look.marks][0]

        def centred(value: float, text: str) -> int:
            return 2 + plot.gutter + column_of(value, look, cells * sub_columns) // sub_columns - (len(text) - 1) // 2

        if look.cursor is not None and look.start <= look.cursor <= look.end:
            text = x_at(look.cursor, self.data.x_format)
            at = max(min(centred(look.cursor, text), width - 3 - len(text)), 2)
            if labels and at + len(text) + 2 > labels[0][0]:
                labels.clear()
            labels.append((at, [Segment(text, ink(BACKGROUND, background=BRIGHT, bold=True))]))
        for value, text in x_ticks(look.start, look.end, cells, self.data.x_format):
            at = centred(value, text)
            if all(at + len(text) + 2 < other or other + width_of(label) + 2 < at for other, label in labels):
                labels.append((at, segments_of(text, DIM)))
        return labels

    @property
    def _cells(self) -> int:
        return max(self._plot.width - self._plot.gutter, 1)

    def on_click(self, event: Click) -> None:
        """Report the clicked x; the app moves the cursors of all charts."""
        column = event.x - 2 - self._plot.gutter
        start, end = self.window
        if 0 <= column < self._cells and 0 < event.y < self.size.height - 1:
            self.post_message(self.Pointed(start + (end - start) * (column + 0.5) / self._cells))

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
