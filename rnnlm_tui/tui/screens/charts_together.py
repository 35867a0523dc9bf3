"""ChartsTogether: charts that show the same part of the same x in the same way, and how that is kept for the next start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from rnnlm_tui.tui.actions import Group
from rnnlm_tui.tui.chart_view import ChartView, keep_view, kept_view
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.widgets.chart import Chart, ChartData


class ChartsTogether(PaneScreen):
    """What the screens with charts are made of; `ChartedScreen` adds the actions."""

    CHARTS: ClassVar[Sequence[str]] = ()
    """Ids of the charts, in the order that tab goes through."""
    AXES: ClassVar[Sequence[str]] = ("step",)
    """What `x` goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.view = ChartView()
        self.cursor: float | None = None
        """The x of the cursor that all charts share; None: no cursor."""
        self.visiting = False
        """The chosen chart has no place at this size: tab came to it, and it stands alone until tab goes on."""
        self._view_of: str | None = None
        self._led_by = ""
        self.part_to_come: tuple[tuple[float, float] | None, bool] | None = None
        """The part of x to show as soon as there is data, and whether it follows; None: the one that shows."""
        self._cursor_to_come: float | None = None
        """The kept cursor, for when there is data."""

    # what a screen gives

    def view_key(self) -> str:
        """Under which name the view is kept; another name is another view."""
        return self.PANE

    def show_view(self) -> None:
        """Lay out and show all charts anew, for what a person chose has changed."""
        self.refresh_all()

    def help_group(self) -> Group:
        """The keys of charts come first while one walks through them."""
        return "screen" if self.cursor is None and not self.stands_alone() else "charts"

    def ends(self) -> tuple[float, float] | None:
        """The x of the first and the newest point; None: there is no point yet."""
        return None

    def reachable_charts(self) -> Sequence[str]:
        """The charts that tab goes through."""
        return self.CHARTS

    def arranged_charts(self) -> Sequence[str]:
        """Those that show as long as none stands alone; the others are shown alone where tab comes to them."""
        return self.CHARTS

    def stands_alone(self) -> bool:
        """Whether the chosen chart has all the room."""
        return self.view.alone or self.visiting

    def alone_as(self) -> str:
        """Which of the charts stands alone, as `5 of 8`; empty: none does."""
        names = list(self.reachable_charts())
        return f"{names.index(self.chosen) + 1} of {len(names)}" if self.stands_alone() and self.chosen in names else ""

    def csv_name(self) -> str:
        """The name of a file with points of the chosen chart, without its ending."""
        return f"{self.view_key()}-{self.chosen}"

    def step_of_x(self, place: float) -> float | None:  # noqa: ARG002 (for screens that can tell)
        """The step at an x; None where that can't be told."""
        return None

    def x_of_step(self, step: float) -> float | None:  # noqa: ARG002
        """The x of a step; None where that can't be told."""
        return None

    def part_changed(self) -> None:
        """Another part of x shows."""

    def cursor_changed(self) -> None:
        """The cursor stands elsewhere, came or went."""

    def cursor_moved(self) -> None:
        """A person put the cursor elsewhere."""

    # what a screen calls

    @property
    def chosen(self) -> str:
        """Id of the chart that keys act on."""
        return self.view.chosen if self.view.chosen in self.CHARTS else self.CHARTS[0]

    def chart(self, name: str) -> Chart:
        """The chart of that id."""
        return self.query_one(f"#{name}", Chart)

    def charts(self) -> list[Chart]:
        """All of them, those that don't show as well."""
        return [self.chart(name) for name in self.CHARTS]

    def take_view(self) -> None:
        """Before anything is shown: the view that was kept for what the screen is about, where that is something else than before."""
        key = self.view_key()
        if key == self._view_of:
            return
        self._view_of = key
        self.view = kept_view(self.context.settings, key)
        if self.view.axis not in self.AXES:
            self.view = replace(self.view, axis=self.AXES[0], part=None, cursor=None)
        self.cursor, self.visiting = None, False
        self.part_to_come, self._cursor_to_come = (self.view.part, self.view.following), self.view.cursor
        for chart in self.charts():
            chart.set_reactive(Chart.cursor, None)
            chart.set_reactive(Chart.show_all, self.view.whole_range)
            chart.set_smoothing(self.view.smoothing)

    def show_charts(self, shown: Mapping[str, ChartData]) -> None:
        """Show the data of the charts that have a place; all of them show the part of x that the first one of CHARTS among them shows."""
        names = [name for name in self.CHARTS if name in shown]
        if not names:
            return
        lead = self.chart(names[0])
        if self.part_to_come is None and self._led_by not in ("", names[0]):
            before = self.chart(self._led_by)
            self.part_to_come = (before.part, before.following)
        self._led_by = names[0]
        for name in names:
            chart = self.chart(name)
            chart.show(shown[name], lead)
            if chart is lead and self.part_to_come is not None and shown[name].series:
                part, following = self.part_to_come
                self.part_to_come = None
                lead.show_part(part, following=following)
                self._take_kept_cursor()
            turned = name in self.view.turned and shown[name].can_be_log
            if chart.log_y == (shown[name].log_y == turned):
                chart.toggle_log()
            chart.cursor = self.cursor
            chart.highlighted = name == self.chosen
        self.part_changed()

    def _take_kept_cursor(self) -> None:
        """Where the run has a place for it."""
        ends, (place, self._cursor_to_come) = self.ends(), (self._cursor_to_come, None)
        if place is not None and ends is not None and self.cursor is None:
            self.cursor = max(place, ends[0])

    def keep_view(self) -> None:
        """Keep what a person chose until the next start; what waits for data is kept as it is."""
        if not self._view_of:
            return
        lead = self.lead
        if lead is not None and self.part_to_come is None:
            self.view = replace(self.view, part=lead.part, following=lead.following, cursor=self.cursor)
        if keep_view(self.context.settings, self._view_of, self.view):
            self.context.save_settings()

    def choose(self, **changes: object) -> None:
        """Look at the charts in another way, from now on and at the next start."""
        self.view = replace(self.view, **changes)  # type: ignore[arg-type]  # the caller names fields of the view
        self.show_view()
        self.keep_view()

    @property
    def lead(self) -> Chart | None:
        """The chart whose part of x all others show; None before anything shows."""
        return self.chart(self._led_by) if self._led_by else None
