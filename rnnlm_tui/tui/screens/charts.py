"""ChartedScreen: a pane whose charts share one x range and one cursor, and are explored by keys.

A subclass

    class CompareScreen(ChartedScreen):
        PANE = "compare"
        CHARTS = COMPARED_CHARTS  # by id of its Chart widgets, in the order of tab

        def view_key(self) -> str: ...      # the name under which the view is saved
        def charted_runs(self) -> Runs: ...

* All charts show the same `window` of x and its cursor. It fits the lead, the first of CHARTS that
  is shown.
* `self.view` (a ChartView) holds the user's choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import ClassVar, cast

from textual.events import Click

from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.settings import SMOOTHINGS, ChartView, save_view, saved_view
from rnnlm_tui.tui.views.chart_data import AXES, Axis, points_csv
from rnnlm_tui.tui.views.charted_run import ChartedRun
from rnnlm_tui.tui.views.charts import Charts, Runs
from rnnlm_tui.tui.widgets.chart import Chart, ChartData, Window


class ChartedScreen(PaneScreen):
    """The base of the screens with charts."""

    CHARTS: ClassVar[Charts] = {}
    """Chart id to its data of the shown runs, in the order of tab."""

    def __init__(self) -> None:
        super().__init__()
        self.view = ChartView()
        self.runs: Runs = ()
        """What the charts show."""
        self._data: dict[tuple[str, bool], ChartData] = {}
        """Charts of `runs`, by their ids and whether y is turned: kept, so that a key draws only
        what it changes."""
        self.window = Window()
        """The part of x that all charts show, and their cursor."""
        self.visiting = False
        """Whether the chosen chart has no place at this size, and is shown alone until tab goes
        on."""
        self._view_of: str | None = None

    # for a screen to override

    def charted_runs(self) -> Runs:
        """Return the runs to show, on the axis of the charts."""
        return ()

    def view_key(self) -> str:
        """Return the name under which the view is saved."""
        return self.PANE

    def arranged_charts(self) -> Sequence[str]:
        """Return the charts that have a place beside others; tab shows the rest alone."""
        return tuple(self.CHARTS)

    def csv_name(self) -> str:
        """Return the name of the chosen chart's CSV file, without its suffix."""
        return f"{self.view_key()}-{self.chosen}"

    def cursor_changed(self) -> None:
        """Handle a cursor that was moved, set or removed."""

    def cursor_moved(self) -> None:
        """Handle a cursor that the user moved."""

    # for a screen to call

    @property
    def chosen(self) -> str:
        """The id of the chart that keys act on."""
        return self.view.chosen if self.view.chosen in self.CHARTS else next(iter(self.CHARTS))

    @property
    def cursor(self) -> float | None:
        """The x of the cursor that all charts share, if any."""
        return self.window.cursor

    @property
    def axis(self) -> Axis:
        """The x axis of all charts."""
        return cast(Axis, self.view.axis)

    @property
    def longest(self) -> ChartedRun | None:
        """The longest run: each run has its own step at an x."""
        return max(self.runs, key=lambda run: run.snapshot.summary.step, default=None)

    def ends(self) -> tuple[float, float] | None:
        """Return x of the first and the newest step of any run; None if no run has a step."""
        ends = [(run.places[0], run.places[-1]) for run in self.runs if len(run.places)]
        return (min(first for first, _ in ends), max(last for _, last in ends)) if ends else None

    def shows_one_chart(self) -> bool:
        """Whether the chosen chart is shown alone."""
        return self.view.alone or self.visiting

    def chart_position(self) -> str:
        """Return which chart is shown alone, as `5 of 8`; empty if none is."""
        names = self._chart_order()
        return f"{names.index(self.chosen) + 1} of {len(names)}" if self.shows_one_chart() else ""

    def _chart_order(self) -> list[str]:
        """Return the charts in the order of tab."""
        arranged = self.arranged_charts()
        return [*arranged, *(name for name in self.CHARTS if name not in arranged)]

    def chart(self, name: str) -> Chart:
        """Return the chart with this id."""
        return self.query_one(f"#{name}", Chart)

    def charts(self) -> list[Chart]:
        """Return all charts, hidden ones too."""
        return [self.chart(name) for name in self.CHARTS]

    def load_view(self) -> None:
        """Load the saved view if the screen is about another run than before."""
        key = self.view_key()
        if key == self._view_of:
            return
        self._view_of = key
        self.view = saved_view(self.context.settings, key)
        if self.axis not in AXES:
            self.view = self.view._replace(axis=AXES[0], part=None, cursor=None)
        self.window = Window(self.view.part, self.view.cursor, following=self.view.following)
        self.visiting = False

    def show_charts(self, places: Collection[str], empty: ChartData) -> None:
        """Show the charts that have a place, `empty` ones without a run.

        The first of CHARTS among them decides the x range of all.
        """
        self._take_runs()
        names = [name for name in self.CHARTS if name in places]
        if not names:
            return
        shown = {name: self._data_of(name) if self.runs else empty for name in names}
        self.window.fit(shown[names[0]])
        for name, data in shown.items():
            chart = self.chart(name)
            chart.smoothing, chart.show_all = self.view.smoothing, self.view.whole_range
            chart.set_reactive(Chart.highlighted, name == self.chosen)
            chart.show(data, self.window)
        self._part_changed()

    def _take_runs(self) -> None:
        """Take the runs to show, and keep their charts if they are the same."""
        runs = self.charted_runs()
        if [run.shown for run in runs] != [run.shown for run in self.runs]:
            self.runs = runs
            self._data.clear()

    def _data_of(self, name: str) -> ChartData:
        key = name, name in self.view.turned
        if key not in self._data:
            data = self.CHARTS[name](self.runs)
            turned = data.can_be_log and name in self.view.turned
            self._data[key] = data._replace(log_y=data.log_y != turned)
        return self._data[key]

    def _part_changed(self) -> None:
        """Read the shown range at full resolution, and show the keys for it."""
        part, steps = self.window.part, {}
        if part is not None:
            for run in self.runs:
                first, last = map(run.step_of_x, part)
                steps[run.snapshot.summary.run] = math.floor(first), math.ceil(last)
        self.context.watcher.look_at(steps)
        self.refresh_footer()

    def save_view(self) -> None:
        """Save the view for the next start."""
        part, following = self.window.part, self.window.following
        self.view = self.view._replace(part=part, following=following, cursor=self.cursor)
        if self._view_of and save_view(self.context.settings, self._view_of, self.view):
            self.context.save_settings()

    def choose(self, **changes: object) -> None:
        """Change fields of the view, and save it."""
        # the caller names fields of the view
        self.view = self.view._replace(**changes)  # type: ignore[arg-type]
        self.refresh_all()
        self.save_view()

    @property
    def lead(self) -> Chart | None:
        """The chart that decides the x range of all; None if no chart has a place."""
        return next((chart for chart in self.charts() if chart.display), None)

    # the chosen chart

    def action_step_chart(self, by: int) -> None:
        """Choose the chart `by` places after the chosen one."""
        names = self._chart_order()
        name = names[(names.index(self.chosen) + by) % len(names)]
        self.visiting = name not in self.arranged_charts()
        self.choose(chosen=name)

    def action_alone(self) -> None:
        """Show the chosen chart alone, or among the others again."""
        if self.visiting:
            self.visiting = False
            self.choose(chosen="", alone=False)
        else:
            self.choose(alone=not self.view.alone)

    # axes

    def action_next_axis(self) -> None:
        """Show the same steps on the next x axis, as far as possible."""
        part, before = self.window.part, self.longest
        following = part is None or self.window.following
        places = (*(part or (None, None)), self.cursor)
        self.view = self.view._replace(axis=AXES[(AXES.index(self.axis) + 1) % len(AXES)])
        self._take_runs()
        after = self.longest

        def moved(place: float | None) -> float | None:
            if place is None or before is None or after is None:
                return None
            return after.x_of_step(before.step_of_x(place))

        start, end, cursor = map(moved, places)
        shown = (start, end) if start is not None and end is not None else None
        self.window = Window(shown, cursor, following=following)
        self.choose()

    def action_log_scale(self) -> None:
        data = self.chart(self.chosen).data
        if not data.can_be_log:
            self.context.report(f"{data.title} stays linear: y is a percentage")
            return
        self.choose(turned=self.view.turned ^ {self.chosen})

    def action_whole_range(self) -> None:
        self.choose(whole_range=not self.view.whole_range)

    def action_smooth(self, by: int) -> None:
        """Smooth all charts by so many degrees more, or less."""
        degree = SMOOTHINGS.index(self.view.smoothing) + by
        value = SMOOTHINGS[max(0, min(len(SMOOTHINGS) - 1, degree))]
        self.choose(smoothing=value)
        self.context.report(f"smoothing {value:g}" if value else "no smoothing")

    # the x range

    def action_zoom(self, factor: float) -> None:
        """Zoom in, or out if the factor is below 1."""
        if self.ends() is not None:
            self._change(lambda: self.window.zoom(factor))

    def action_follow(self) -> None:
        """Follow the newest step."""
        self._change(self.window.follow)

    def action_reset_view(self) -> None:
        """Show all of x with default settings; the chosen chart stays chosen if it has a place."""
        chosen, self.visiting = "" if self.visiting else self.view.chosen, False
        self.view = ChartView(axis=AXES[0], chosen=chosen, hidden=self.view.hidden)
        self.window = Window()
        self.choose()

    def action_pan(self, share: float) -> None:
        if self.window.part is None:
            self.context.report(f"the whole range is shown: {self.key_of('zoom_in')} zooms in")
            return
        start, end = self.window.part
        by = share * (end - start)
        if self.cursor is not None and not start <= self.cursor <= end:
            by = self.cursor - (start + end) / 2
        self._pan(by)

    def _pan(self, by: float, more: int = 0) -> None:
        """Pan by so much of x in whole cells of the lead, and by some more cells."""
        if self.lead is not None:
            (start, end), cell = self.window.shown, self.lead.column_width
            share = (round(by / cell) + more) * cell / (end - start)
            self._change(lambda: self.window.pan(share))

    def _change(self, change: Callable[[], None]) -> None:
        """Change the x range or the cursor that all charts show."""
        window = self.window
        before, cursor = (window.part, window.following), window.cursor
        change()
        moved = cursor != window.cursor
        if not moved and before == (window.part, window.following):
            return
        with self.app.batch_update():
            for chart in self.charts():
                chart.redraw()
            if moved:
                self.cursor_changed()
        self._part_changed()
        self.save_view()
        if moved and window.cursor is not None:
            self.cursor_moved()

    # the cursor

    def on_click(self, event: Click) -> None:
        """Set the cursor where the mouse clicked on a chart."""
        place = event.widget.x_of(event) if isinstance(event.widget, Chart) else None
        if place is not None and self.ends() is not None:
            self._set_cursor(place)

    def action_cursor_to_end(self, end: int) -> None:
        """Put the cursor on the first (0) or the newest step (1)."""
        ends = self.ends()
        if ends is not None:
            self.move_cursor_to(ends[end])

    def action_move_cursor(self, cells: int) -> None:
        """Move the cursor by cells of the lead.

        The first press puts it on the newest point that is shown.
        """
        lead, ends = self.lead, self.ends()
        if lead is None or ends is None:
            return
        start, end = self.window.shown
        if self.cursor is None or not start <= self.cursor <= end:
            self._set_cursor(min(max(ends[1], start), end))
            return
        first, last = (start, end) if self.window.part is None else ends
        self.move_cursor_to(min(max(self.cursor + cells * lead.column_width, first), last))

    def move_cursor_to(self, place: float) -> None:
        """Move the cursor to an x, and pan to it if it isn't shown."""
        start, end = self.window.shown
        if self.window.part is not None and not start <= place <= end:
            self._pan(place - end, 1) if place > end else self._pan(place - start, -1)
            start, end = self.window.shown
        self._set_cursor(min(max(place, start), end))

    def _set_cursor(self, place: float | None) -> None:
        self._change(lambda: setattr(self.window, "cursor", place))

    def action_leave_field(self) -> None:
        """Remove the cursor, then stop showing a chart alone."""
        if self.cursor is not None:
            self._set_cursor(None)
        elif self.shows_one_chart():
            self.action_alone()

    # files

    def action_write_chart(self) -> None:
        """Write the chosen chart's points in the shown x range to a CSV file."""
        chart = self.chart(self.chosen)
        if not chart.data.series:
            self.context.report("no points yet")
            return
        from rnnlm_tui.tui import folders  # not before the first paint

        text, points = points_csv(chart.data, self.window.part)

        def write() -> str:
            return str(folders.save_text(self.csv_name(), text, ".csv"))

        self.context.in_thread(
            write, lambda path: self.context.report(f"{counted(points, 'point')} written to {path}")
        )
