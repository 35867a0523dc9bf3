"""ChartsTogether: charts that share one x range, and how that is kept for the next start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from rnnlm_tui.tui.actions import Group
from rnnlm_tui.tui.chart_view import ChartView, save_view, saved_view
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.widgets.chart import Chart, ChartData


class ChartsTogether(PaneScreen):
    """The state of screens with charts; `ChartedScreen` adds the actions."""

    CHARTS: ClassVar[Sequence[str]] = ()
    """Ids of the charts, in the order of tab."""
    AXES: ClassVar[Sequence[str]] = ("step",)
    """The x axes, in the order of `x`."""

    def __init__(self) -> None:
        super().__init__()
        self.view = ChartView()
        self.cursor: float | None = None
        """The x of the cursor that all charts share, if any."""
        self.visiting = False
        """Whether the chosen chart has no place at this size, and is shown alone until tab goes
        on."""
        self._view_of: str | None = None
        self._led_by = ""
        self.pending_range: tuple[tuple[float, float] | None, bool] | None = None
        """The x range to show once there is data, and whether to follow the newest step; None: the
        current one."""
        self._pending_cursor: float | None = None
        """The saved cursor, until there is data."""

    # for a screen to override

    def view_key(self) -> str:
        """Return the name under which the view is saved."""
        return self.PANE

    def show_view(self) -> None:
        """Arrange and show all charts again, after a change of the view."""
        self.refresh_all()

    def help_group(self) -> Group:
        """List the keys of charts first while a cursor is shown or a chart is alone."""
        return "screen" if self.cursor is None and not self.shows_one_chart() else "charts"

    def ends(self) -> tuple[float, float] | None:
        """Return the x of the first and the newest point, None if there are no points."""
        return None

    def reachable_charts(self) -> Sequence[str]:
        """Return the charts that tab goes through."""
        return self.CHARTS

    def arranged_charts(self) -> Sequence[str]:
        """Return the charts that have a place beside others; tab shows the rest alone."""
        return self.CHARTS

    def shows_one_chart(self) -> bool:
        """Whether the chosen chart is shown alone."""
        return self.view.alone or self.visiting

    def chart_position(self) -> str:
        """Return which chart is shown alone, as `5 of 8`; empty if none is."""
        names = list(self.reachable_charts())
        return f"{names.index(self.chosen) + 1} of {len(names)}" if self.shows_one_chart() and self.chosen in names else ""

    def csv_name(self) -> str:
        """Return the name of the chosen chart's CSV file, without its suffix."""
        return f"{self.view_key()}-{self.chosen}"

    def step_of_x(self, place: float) -> float | None:  # noqa: ARG002 (for subclasses)
        """Return the step at an x, None if unknown."""
        return None

    def x_of_step(self, step: float) -> float | None:  # noqa: ARG002
        """Return the x of a step, None if unknown."""
        return None

    def part_changed(self) -> None:
        """Handle another x range."""

    def cursor_changed(self) -> None:
        """Handle a cursor that was moved, set or removed."""

    def cursor_moved(self) -> None:
        """Handle a cursor that the user moved."""

    # for a screen to call

    @property
    def chosen(self) -> str:
        """The id of the chart that keys act on."""
        return self.view.chosen if self.view.chosen in self.CHARTS else self.CHARTS[0]

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
        if self.view.axis not in self.AXES:
            self.view = replace(self.view, axis=self.AXES[0], part=None, cursor=None)
        self.cursor, self.visiting = None, False
        self.pending_range, self._pending_cursor = (self.view.part, self.view.following), self.view.cursor
        for chart in self.charts():
            chart.set_reactive(Chart.cursor, None)
            chart.set_reactive(Chart.show_all, self.view.whole_range)
            chart.set_smoothing(self.view.smoothing)

    def show_charts(self, shown: Mapping[str, ChartData]) -> None:
        """Show the data of the charts that have a place.

        The first of CHARTS among them decides the x range of all.
        """
        names = [name for name in self.CHARTS if name in shown]
        if not names:
            return
        lead = self.chart(names[0])
        if self.pending_range is None and self._led_by not in ("", names[0]):
            before = self.chart(self._led_by)
            self.pending_range = (before.part, before.following)
        self._led_by = names[0]
        for name in names:
            chart = self.chart(name)
            chart.show(shown[name], lead)
            if chart is lead and self.pending_range is not None and shown[name].series:
                part, following = self.pending_range
                self.pending_range = None
                lead.show_part(part, following=following)
                self._restore_cursor()
            turned = name in self.view.turned and shown[name].can_be_log
            if chart.log_y == (shown[name].log_y == turned):
                chart.toggle_log()
            chart.cursor = self.cursor
            chart.highlighted = name == self.chosen
        self.part_changed()

    def _restore_cursor(self) -> None:
        """Set the saved cursor, if the run has points."""
        ends, (place, self._pending_cursor) = self.ends(), (self._pending_cursor, None)
        if place is not None and ends is not None and self.cursor is None:
            self.cursor = max(place, ends[0])

    def save_view(self) -> None:
        """Save the view for the next start; what waits for data is saved unchanged."""
        if not self._view_of:
            return
        lead = self.lead
        if lead is not None and self.pending_range is None:
            self.view = replace(self.view, part=lead.part, following=lead.following, cursor=self.cursor)
        if save_view(self.context.settings, self._view_of, self.view):
            self.context.save_settings()

    def choose(self, **changes: object) -> None:
        """Change fields of the view, and save it."""
        self.view = replace(self.view, **changes)  # type: ignore[arg-type]  # the caller names fields of the view
        self.show_view()
        self.save_view()

    @property
    def lead(self) -> Chart | None:
        """The chart that decides the x range of all; None before anything is shown."""
        return self.chart(self._led_by) if self._led_by else None
