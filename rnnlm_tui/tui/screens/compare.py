"""CompareScreen: curves, figures and differing settings of the marked runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from textual import getters
from textual.app import ComposeResult
from textual.content import Content
from textual.events import Resize
from textual.geometry import Region, Size

from rnnlm_tui.schema.formatting import NOTHING, counted
from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.screens.charts import ChartedScreen
from rnnlm_tui.tui.screens.pane import body_size
from rnnlm_tui.tui.text import line
from rnnlm_tui.tui.views.charts import COMPARED_CHARTS, Runs
from rnnlm_tui.tui.views.compare import compared, comparison
from rnnlm_tui.tui.widgets.chart import Chart, ChartData
from rnnlm_tui.tui.widgets.chart.scale import x_at
from rnnlm_tui.tui.widgets.compare import ComparedRunsPanel
from rnnlm_tui.tui.widgets.train_layout import CHART_LEAST, Placed, Places

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot

CHART_SHARE = 3 / 7
"""Share of the rows that the tables leave to the chart at least."""
TABLE_LEAST = 4
"""Fewest rows of a useful table."""


class CompareScreen(ChartedScreen):
    """The marked runs side by side."""

    PANE = "compare"
    BINDINGS = bindings_for("compare")
    CHARTS = COMPARED_CHARTS
    table = getters.query_one(ComparedRunsPanel)

    def compose_body(self) -> ComposeResult:
        yield Placed(
            *(Chart(id=name) for name in COMPARED_CHARTS),
            ComparedRunsPanel(id="compared-runs"),
            places=self._places(self.app.size),
            id="placed",
        )

    def on_resize(self, event: Resize) -> None:
        self.query_one(Placed).place(self._places(event.size))
        self.refresh_all()

    # what is shown

    def watch_snapshot(self) -> None:
        """Ignore the open run: if it is compared, it comes with the others."""

    def show_compared(self) -> None:
        self.refresh_all()

    show_marks = show_compared

    def charted_runs(self) -> Runs:
        return compared(self.context.marks, self.context.compared, self.axis)

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:  # noqa: ARG002
        placed, runs = self.query_one(Placed), self.charted_runs()
        if runs or not self.context.marks.names:
            placed.visible = True
        self.load_view()
        self.table.show(runs, comparison(runs) if runs else None)
        places = self._places(self.app.size)
        placed.place(places)
        note = "{key:mark_run} on the runs marks them, {key:compare_runs} compares them"
        self.show_charts(places, ChartData("", (), note=self.context.with_keys(note)))
        self.cursor_changed()

    def _places(self, size: Size) -> Places:
        """Place the chosen chart, and below it the tables as far as they need room."""
        width, height = body_size(size)
        lines = self.table.lines_in(width) if self.is_ready else 0
        tables = min(lines + 2, height - max(CHART_LEAST, round(height * CHART_SHARE)))
        if tables < TABLE_LEAST or self.shows_one_chart():
            return {self.chosen: Region(0, 0, width, height)}
        return {
            self.chosen: Region(0, 0, width, height - tables),
            "compared-runs": Region(0, height - tables, width, tables),
        }

    def identity(self, width: int) -> Content:
        """Return `comparing A plain-otter  B brisk-heron`."""
        runs = self.charted_runs()
        names = [line("{} {}", (run.letter, f"bold {run.colour}"), run.name) for run in runs]
        whole = Content("  ").join([line("comparing"), *names])
        if whole.cell_length <= width:
            return whole
        return line("comparing {}", counted(len(names), "run"))

    def footer_entries(self) -> dict[str, str]:
        alone = self.chart_position()
        order = (
            "next_chart", "leave_field", "log_scale", "next_axis", "smoother", "zoom_in",
            "cursor_right", "alone", "leave",
        )  # fmt: skip
        back = "Close cursor" if self.cursor is not None else "Back" if alone else "Runs"
        verbs = {"next_chart": f"Figure {alone}".rstrip(), "leave_field": back}
        return {name: verbs.get(name, "") for name in order}

    # the charts

    def cursor_changed(self) -> None:
        """Show all values in the table: the legend has no room for many runs."""
        self._show_values()
        if self.cursor is not None:
            # a chart that was just placed has its values only after its next paint
            self.call_after_refresh(self._show_values)

    def _show_values(self) -> None:
        """Show the values at the cursor, once the chart has them."""
        chart = self.chart(self.chosen)
        head = "" if self.cursor is None else f"at {x_at(self.cursor, chart.data.x_format)}"
        values = chart.values if head else []
        if head and chart.data.series and not values:
            return
        if self.cursor is not None and values:
            # a run that had ended before the cursor has no value there
            place = self.cursor - chart.column_width / 2
            ends = [run.places[-1] if len(run.places) else -math.inf for run in self.runs]
            pairs = zip(values, ends, strict=True)
            values = [value if place <= end else NOTHING for value, end in pairs]
        self.table.show_at(head, values)

    def view_key(self) -> str:
        return "=compare"  # no run can have this name

    def csv_name(self) -> str:
        return self.chosen

    def action_leave_field(self) -> None:
        """Remove the cursor, stop showing a chart alone, then go back to the runs."""
        if self.cursor is None and not self.shows_one_chart():
            self.context.open_pane("runs")
        else:
            super().action_leave_field()
