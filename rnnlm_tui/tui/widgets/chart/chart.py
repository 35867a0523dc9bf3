"""The chart: dots in a panel whose legend is the readout; one pass over the points, and only rows that changed are repainted."""

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
    """Curves over x in dots, after `show(data)`."""

    class Pointed(Message):
        """The mouse chose an x."""

        def __init__(self, x: float) -> None:
            super().__init__()
            self.x = x
            """In the unit of the chart's x."""

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
        """What is shown; set by `show`."""
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
        """Show other data; how it is looked at stays, as long as the title and the meaning of x do. With a lead it shows the part of x that the lead shows."""
        if data.title != self.data.title or data.x_label != self.data.x_label:
            self._memory, self._window, self._log_chosen = PlotState(), Window(), False
        if not self._log_chosen:
            self.set_reactive(Chart.log_y, data.log_y)
        self.data = data
        if lead is None or lead is self:
            self._window.lead(data, self.cursor)
        else:
            self._window.take(lead._window, lead.data)
        self.redraw()

    def look_as(self, lead: Chart) -> None:
        """Show the part of x that another chart shows."""
        if lead is not self and self._window.take(lead._window, lead.data):
            self.redraw()

    def show_part(self, part: tuple[float, float] | None, *, following: bool) -> None:
        """Show this part of x, or all of it."""
        self._window.put(part, following=following)
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
        self._window.zoom(self.data, factor, self.cursor)
        self.redraw()

    def pan(self, columns: int) -> None:
        """Move the shown part by cells, to the right where positive; it no longer follows the newest point."""
        self._window.pan(self.data, columns / self._cells)
        self.redraw()

    def follow(self) -> None:
        """Keep the newest point in the shown part."""
        self._window.follow(self.data)
        self.redraw()

    def reset(self) -> None:
        """All of x, the data's own y axis, the usual smoothing, no cursor."""
        self._memory, self._window, self._log_chosen = PlotState(), Window(), False
        self.set_reactive(Chart.cursor, None)
        self.set_reactive(Chart.show_all, False)
        self.set_reactive(Chart.smoothing, DEFAULT_SMOOTHING)
        self.set_reactive(Chart.log_y, self.data.log_y)
        self.redraw()

    @property
    def following(self) -> bool:
        """Whether the newest point is kept in sight."""
        return self._window.following

    @property
    def part(self) -> tuple[float, float] | None:
        """The shown part of x where it is not all."""
        return self._window.part

    @property
    def window(self) -> tuple[float, float]:
        """The shown part of x."""
        return self._window.shown(self.data)

    @property
    def column_width(self) -> float:
        """How much of x one cell shows."""
        start, end = self.window
        return (end - start) / self._cells

    @property
    def values(self) -> list[str]:
        """What the legend says of each series, were there room for all: its newest value, or that at the cursor. Empty while it is still to be drawn as it is now."""
        look = self._look
        if look is None or not self.size or self._drawn_for != self.size:
            return []
        return [value_of(self.data, look, self._plot, index)[0] for index in range(len(self.data.series))]

    # Drawing

    def prepare(self, width: int, height: int) -> None:
        """Draw the plot that `content_line` hands out."""
        start, end = self.window
        low, high = self._window.whole(self.data)
        marks: MarksStyle = "ascii" if self.ascii_only else self.marks_style
        no_colour = bool(getattr(self.app, "no_color", False))
        self._look = PlotOptions(start, end, high - low, self.log_y, self.smoothing, self.show_all, marks, self.cursor, no_colour)
        self._plot = draw(self.data, self._look, width, height, self._memory)
        self.set_reactive(Chart.panel_title, self.data.title + (", log" if self.log_y and self.data.title else ""))

    def row_key(self, y: int) -> object:
        """Its tick label and its dots."""
        plot = self._plot
        return (plot.gutter, plot.labels.get(y), plot.rows[y] if y < len(plot.rows) else None)

    def content_line(self, y: int, width: int) -> Strip:
        """A row: tick label, blank, dots."""
        plot = self._plot
        gutter = [Segment(f"{plot.labels.get(y, ''):>{plot.label_width}} ", ink(DIM))] if plot.gutter else []
        runs = plot.rows[y] if y < len(plot.rows) else []
        return padded([*gutter, *(Segment(text, style) for text, style in runs if text)], width)

    def legend_within(self, room: int) -> Label:
        """The fullest readout that fits."""
        variants = legends(self.data, self._look, self._plot) if self._look else []
        return next((variant for variant in variants if variant.cell_length <= room), "")

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """The unit, the cursor's x and the ticks that touch neither."""
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
        """Tell which x was meant; the app moves the cursors of all charts."""
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
