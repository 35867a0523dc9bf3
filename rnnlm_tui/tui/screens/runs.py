"""RunsScreen: the list of runs with details of one, and the first launch.

The run under the cursor is the open one: digits go to its panes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Resize, ScreenResume
from textual.geometry import Size

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.store.locations import home
from rnnlm_tui.tui.actions import Action, action, actions_for, bindings_for
from rnnlm_tui.tui.screens.bookkeeping import RunsBookkeeping
from rnnlm_tui.tui.sizes import WIDE_FROM
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.chart import Chart, ChartData
from rnnlm_tui.tui.widgets.compare_data import compared, validation_data
from rnnlm_tui.tui.widgets.filter_line import FilterLine
from rnnlm_tui.tui.widgets.first_launch import FirstLaunch
from rnnlm_tui.tui.widgets.run_detail import RunDetail
from rnnlm_tui.tui.widgets.run_filtering import RunFiltering
from rnnlm_tui.tui.widgets.run_order import ORDER_SETTING, saved_order
from rnnlm_tui.tui.widgets.runs_table import RunsTable
from rnnlm_tui.tui.widgets.status_line import status_glyph
from rnnlm_tui.tui.widgets.train_data import perplexity_data

if TYPE_CHECKING:
    from rnnlm_tui.contract.config import RunConfig
    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.supervisor.estimate import Estimate
    from rnnlm_tui.supervisor.machine import MachineFacts
    from rnnlm_tui.supervisor.monitor import RunSnapshot

FRAME_ROWS, TABLE_FRAME = 3, 3
"""Rows of the screen around its body, and of the table around its runs, heads included."""
LEAST_TABLE = 5
"""The fewest rows of the table."""


class RunsScreen(RunsBookkeeping):
    """All runs, or the first launch."""

    PANE = "runs"
    FIRST_FOCUS = "#runs"
    BINDINGS = bindings_for("runs")

    def __init__(self) -> None:
        super().__init__()
        self._demo: RunConfig | None = None
        self._estimate: Estimate | None = None
        self._demo_wanted = True
        self._filtering = RunFiltering()

    def compose_body(self) -> ComposeResult:
        yield FirstLaunch(id="first-launch")
        with Vertical(id="runs-list"):
            yield RunsTable(id="runs")
            yield FilterLine(id="filter")
            with Horizontal(id="run-below"):
                yield Chart(id="run-chart")
                yield RunDetail(id="run-detail")

    def on_mount(self) -> None:
        self._fit_columns(self.app.size)
        order, backwards = saved_order(self.context.settings)
        self.query_one(RunsTable).sort_by(order, backwards=backwards)
        self._show_open_run()

    def on_screen_resume(self, _event: ScreenResume) -> None:
        if self.is_ready:
            self._show_open_run()

    def on_resize(self, event: Resize) -> None:
        self._fit_columns(event.size)
        self.refresh_all()

    # what is shown

    def _show_open_run(self) -> None:
        """Move the cursor to the open run; cursor and filter stay as they were under an overlay."""
        opened = self.context.run_directory.name if self.context.run_directory is not None else None
        if opened is None or opened != self._open_when_covered:
            self._expected = opened
        self._open_when_covered = None
        self.show_runs(self.context.summaries)

    def show_runs(self, summaries: tuple[RunSummary, ...] | None) -> None:
        """Show the runs; None if they haven't been read yet."""
        self.mark_restored_runs(summaries or ())
        empty = summaries is not None and not summaries
        self.query_one(FirstLaunch).display = empty
        self.query_one("#runs-list").display = bool(summaries)
        if empty:
            self._show_first_launch()
        elif summaries:
            self._fit_rows(self.app.size)
            table = self.query_one(RunsTable)
            if self.context.prefer_running:
                self.context.prefer_running = False
                self._expected = next((run.run for run in summaries if run.status in LIVING), self._expected)
            opened = [run for run in summaries if run.run == self._expected]
            if opened and not self._filtering.matching(opened):  # it was opened elsewhere, and must not be hidden here
                self._filtering.read("")
                self.query_one(FilterLine).clear()
            self._show_table(summaries)
            if table.chosen is not None and table.chosen.run == self._expected:
                self._expected = None
            if not table.has_focus and self.focused is None:
                table.focus()
            self._follow()
            self._show_detail(self.snapshot)
            self._request_configs(summaries)
        self.refresh_frame()

    def _show_table(self, summaries: Sequence[RunSummary]) -> None:
        """Show the runs that match the filter."""
        fresh = self._fresh(summaries)
        matching = self._filtering.matching(fresh)
        self.query_one(RunsTable).show(matching, among=fresh, marks=self.context.marks, choose=self._expected, empty="no run matches: esc shows them all")
        self.query_one(FilterLine).show_outcome(self._filtering.outcome(len(matching), len(fresh)), self._filtering.problem)

    def _request_configs(self, summaries: Sequence[RunSummary]) -> None:
        """Read the configs that a filter needs, in a thread."""
        if missing := self._filtering.wanted_configs(summaries):
            self.context.in_thread(partial(self.context.services.configs, missing), self._take_configs)

    def _take_configs(self, configs: dict[str, RunConfig]) -> None:
        if configs:
            self._filtering.take_configs(configs)
            self.show_runs(self.context.summaries)

    def show_marks(self) -> None:
        """Show the letters of marked runs, and their number in line 1."""
        if self.context.summaries:
            self._show_table(self.context.summaries)
            self._show_detail(self.snapshot)
        self.refresh_frame()

    def show_compared(self) -> None:
        """Show the curves of the marked runs in the small chart."""
        if self.is_ready:
            self._show_detail(self.snapshot)

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:
        self._show_detail(snapshot)
        if snapshot is not None and self.context.summaries:
            self._show_table(self.context.summaries)

    def _show_detail(self, snapshot: RunSnapshot | None) -> None:
        """Show the run under the cursor.

        Until it has been read, the previous run stays, under its own name: clearing it first would
        send twice as many bytes for each move.
        """
        wide = self.app.size.width >= WIDE_FROM
        chosen = self.query_one(RunsTable).chosen
        name = chosen.run if chosen is not None else ""
        shown = snapshot if snapshot is not None and snapshot.summary.run == name else None
        detail = self.query_one(RunDetail)
        if shown is None and chosen is not None and not chosen.unreadable and detail.shows_run:
            return
        if wide:
            marked = compared(self.context.marks, self.context.compared)
            alone = perplexity_data(shown, "step") if shown is not None else ChartData("", ())
            self.query_one("#run-chart", Chart).show(validation_data(marked, "step") if len(marked) > 1 else alone)
        problem = "\n".join(filter(None, (chosen.message, chosen.hint))) if chosen is not None and chosen.unreadable else ""
        detail.show(shown, name, with_curve=not wide, problem=problem, note=chosen.note if chosen is not None else "")

    def show_machine(self, machine: MachineFacts) -> None:
        super().show_machine(machine)
        if self.query_one(FirstLaunch).display:
            self._show_first_launch()

    def identity(self, width: int) -> Content:  # noqa: ARG002 (the frame's)
        summaries = self.context.summaries
        if summaries is None:
            return Content("")
        if not summaries:
            return Content.styled("no runs yet", palette.DIM)
        running = sum(run.status in ("running", "preparing", "degraded") for run in summaries)
        parts = [Content.styled(counted(len(summaries), "run"), palette.DIM)]
        if running:
            glyph = status_glyph("running", ascii_only=self.context.ascii_only)
            parts.append(Content.assemble(glyph, (f" {running} running", f"bold {palette.TRAIN}")))
        if self.context.marked:
            parts.append(Content.styled(f"{len(self.context.marked)} marked to compare", palette.DIM))
        return Content.styled(", ", palette.DIM).join(parts)

    def footer_entries(self) -> Sequence[tuple[Action, str]]:
        if not self.context.summaries:
            names = ("open_selected", "new_run", "command_palette", "keys", "leave")
            words = {"open_selected": "Start demo", "new_run": "New run", "leave": "Quit"}
            return [(action(name), words.get(name, "")) for name in names]
        if self.query_one(FilterLine).typing:
            return [(action("open_selected"), "Keep the filter"), (action("leave_field"), "All runs")]
        several = len(self.targets)
        verbs = {"tag_run": f"Tag {several}", "delete_run": f"Delete {several}"} if several > 1 else {}
        return [(entry, verbs.get(entry.id, "")) for entry in actions_for(self.PANE) if entry.footer]

    def _show_first_launch(self) -> None:
        self.query_one(FirstLaunch).show(self.context.machine, self._demo, self._estimate, home())
        if self._demo_wanted:
            self._demo_wanted = False
            self.context.in_thread(self.context.services.demo, self._take_demo)

    def _take_demo(self, demo: RunConfig) -> None:
        self._demo = demo
        self._show_first_launch()
        self.context.in_thread(partial(self.context.services.estimate, demo), self._estimated)

    def _estimated(self, estimate: Estimate) -> None:
        self._estimate = estimate
        self._show_first_launch()

    def _fresh(self, summaries: Sequence[RunSummary]) -> list[RunSummary]:
        """Return the list with the open run's newest state.

        Its labels come from the list, because they have their own file.
        """
        newest = self.snapshot.summary if self.snapshot is not None else None
        if newest is None:
            return list(summaries)
        return [newest.model_copy(update={"tags": run.tags, "note": run.note, "pinned": run.pinned}) if newest.run == run.run else run for run in summaries]

    def _fit_columns(self, size: Size) -> None:
        self.query_one("#run-below").set_class(size.width >= WIDE_FROM, "-wide")
        self._fit_rows(size)

    def _fit_rows(self, size: Size) -> None:
        """Give the table the rows that all runs need, at most half of the body.

        Hidden runs count too, so that a filter moves nothing.
        """
        rows = min(max(LEAST_TABLE, len(self.context.summaries or ()) + TABLE_FRAME), max(LEAST_TABLE, (size.height - FRAME_ROWS) // 2))
        table = self.query_one(RunsTable)
        if table.styles.height is None or table.styles.height.value != rows:
            table.styles.height = rows

    # actions

    def on_runs_table_chosen(self, message: RunsTable.Chosen) -> None:
        super().on_runs_table_chosen(message)
        self._show_detail(self.snapshot)
        self.refresh_footer()  # on a marked run, keys act on all marked runs

    def on_runs_table_sorted(self) -> None:
        table = self.query_one(RunsTable)
        self.context.settings[ORDER_SETTING] = [table.order, table.backwards]
        self.context.save_session()

    def on_filter_line_changed(self, message: FilterLine.Changed) -> None:
        """Filter on each key."""
        self._filtering.read(message.text)
        table = self.query_one(RunsTable)
        before = table.chosen
        if self.context.summaries:
            self._show_table(self.context.summaries)
            self._request_configs(self.context.summaries)
        if table.chosen is not None and table.chosen != before:
            self._expected = None
            self._choose_soon(table.chosen.run)
        self._show_detail(self.snapshot)

    def on_filter_line_submitted(self) -> None:
        self.query_one(RunsTable).focus()

    def on_descendant_focus(self) -> None:
        self.refresh_footer()

    def action_filter_runs(self) -> None:
        """Go to the filter."""
        if self.context.summaries:
            self.query_one(FilterLine).open()

    def action_move_in_list(self, by: int) -> None:
        """Move the list's cursor from the filter."""
        self.query_one(RunsTable).action_move(by)

    def action_leave_field(self) -> None:
        """Clear the filter."""
        if self.context.summaries:
            self.query_one(FilterLine).clear()
            self.query_one(RunsTable).focus()

    def on_runs_table_opened(self) -> None:
        self.action_open_selected()

    def action_open_selected(self) -> None:
        chosen = self.query_one(RunsTable).chosen
        if chosen is not None and self.context.summaries:
            self.context.in_thread(partial(self.context.services.find, chosen.run), self.context.open_run)
        elif self.context.summaries is not None and not self.context.summaries:
            self.action_start_demo()

    def action_start_demo(self) -> None:
        self.context.in_thread(self.context.services.demo, self.context.start_run)

    def action_new_run(self) -> None:
        """Configure a run based on the one under the cursor; without runs, the demo."""
        chosen = self.query_one(RunsTable).chosen if self.context.summaries else None
        if chosen is None:
            self.context.new_draft()
        else:
            self.context.new_draft_from(chosen.run)

    def action_sort_runs(self) -> None:
        self.query_one(RunsTable).next_sort()

    def action_reverse_runs(self) -> None:
        self.query_one(RunsTable).turn_around()
