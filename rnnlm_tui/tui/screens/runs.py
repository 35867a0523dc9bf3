"""RunsScreen: the list of runs with details of one, and the first launch.

The run under the cursor is the open one: digits go to its panes. Marks, tags, notes, pins, names
and the trash are edited here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Resize, ScreenResume, ScreenSuspend
from textual.geometry import Size
from textual.timer import Timer

from rnnlm_tui import client, store
from rnnlm_tui.errors import RnnlmError, UnknownRunError
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.store.labels import MOST_NOTE_CHARACTERS, check_note, check_tags, edited_tags
from rnnlm_tui.store.paths import home
from rnnlm_tui.tui import WIDE_FROM, palette
from rnnlm_tui.tui.actions import Action, action, bindings_for
from rnnlm_tui.tui.deleted_runs import DeletedRuns, check_free, few_names
from rnnlm_tui.tui.screens.layout_keys import LayoutKeys
from rnnlm_tui.tui.screens.overlay import AskScreen, ConfirmScreen
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.screens.trash import TrashScreen
from rnnlm_tui.tui.settings import rename_view
from rnnlm_tui.tui.steering import SteersRuns
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.charts import perplexity_data
from rnnlm_tui.tui.views.compare import compared, validation_data
from rnnlm_tui.tui.views.queue import waiting_runs
from rnnlm_tui.tui.views.runs import ORDER_SETTING, RunFiltering, saved_order
from rnnlm_tui.tui.views.status import status_glyph
from rnnlm_tui.tui.widgets.chart import Chart, ChartData
from rnnlm_tui.tui.widgets.run_detail import RunDetail
from rnnlm_tui.tui.widgets.runs_table import FilterLine, FirstLaunch, RunsTable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rnnlm_tui.client.estimate import Estimate
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory

FOOTER = (
    "open_selected", "mark_run", "compare_runs", "new_run", "filter_runs", "sort_runs", "tag_run",
    "delete_run", "show_queue", "steer", "leave",
)  # fmt: skip
SETTLE_SECONDS = 0.15
"""How long the cursor rests on a run before its log is read; holding a key down opens
none."""
SHOWN_TAGS = 8
"""Tags in use that are shown below the input."""
FRAME_ROWS, TABLE_FRAME = 3, 3
"""Rows of the screen around its body, and of the table around its runs, heads included."""
LEAST_TABLE = 5
"""The fewest rows of the table."""


class RunsScreen(PaneScreen, SteersRuns):
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
        self._expected: str | None = None
        """The run that the cursor should move to: it was opened elsewhere, or is too new for the
        list."""
        self._settle: Timer | None = None
        """Runs until the cursor rests."""
        self._moved_from: RunDirectory | None = None
        """The open run when the cursor was last moved."""
        self._open_when_covered: str | None = None
        """The open run when an overlay opened; None if another screen was shown."""

    @cached_property
    def _layouts(self) -> LayoutKeys:
        return LayoutKeys(self.context, lambda: self.query_one(RunsTable), self._show_layout)

    @cached_property
    def _deleted(self) -> DeletedRuns:
        return DeletedRuns(self.context, self._expect)

    def _expect(self, run: RunDirectory) -> None:
        """Open a run that the list may not show yet; the cursor will go to it."""
        self._expected = run.name
        self.context.select_run(run)

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
        self._deleted.mark_restored(summaries or ())
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
                self._expected = next(
                    (run.run for run in summaries if run.status in LIVING), self._expected
                )
            opened = [run for run in summaries if run.run == self._expected]
            # it was opened elsewhere, and must not be hidden here
            if opened and not self._filtering.matching(opened):
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
        self.query_one(RunsTable).show(
            matching,
            among=fresh,
            marks=self.context.marks,
            waiting=waiting_runs(self.context.queue),
            choose=self._expected,
            empty="no run matches: esc shows them all",
            layout=self._layouts.layout,
        )
        self.query_one(FilterLine).show_outcome(
            self._filtering.outcome(len(matching), len(fresh)), self._filtering.problem
        )

    def _request_configs(self, summaries: Sequence[RunSummary]) -> None:
        """Read the configs that a filter or a layout needs, in a thread."""
        self._layouts.request_configs(summaries)
        if missing := self._filtering.wanted_configs(summaries):
            self.context.in_thread(
                lambda: self.context.watcher.runs.configs(missing), self._take_configs
            )

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
        chosen = self.chosen
        name = chosen.run if chosen is not None else ""
        shown = snapshot if snapshot is not None and snapshot.summary.run == name else None
        detail = self.query_one(RunDetail)
        if shown is None and chosen is not None and not chosen.unreadable and detail.shows_run:
            return
        if wide:
            marked = compared(self.context.marks, self.context.compared)
            alone = perplexity_data(shown, "step") if shown is not None else ChartData("", ())
            self.query_one("#run-chart", Chart).show(
                validation_data(marked, "step") if len(marked) > 1 else alone
            )
        problem = (
            "\n".join(filter(None, (chosen.message, chosen.hint)))
            if chosen is not None and chosen.unreadable
            else ""
        )
        detail.show(
            shown,
            name,
            with_curve=not wide,
            problem=problem,
            note=chosen.note if chosen is not None else "",
        )

    def show_machine(self) -> None:
        super().show_machine()
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
            words = (f" {running} running", f"bold {palette.TRAIN}")
            parts.append(Content.assemble(status_glyph("running"), words))
        waiting = waiting_runs(self.context.queue)
        if waiting:
            parts.append(Content.styled(f"{len(waiting)} waiting", palette.DIM))
        if self.context.marked:
            parts.append(
                Content.styled(f"{len(self.context.marked)} marked to compare", palette.DIM)
            )
        return Content.styled(", ", palette.DIM).join(parts)

    def footer_entries(self) -> Sequence[tuple[Action, str]]:
        if not self.context.summaries:
            names = ("open_selected", "new_run", "command_palette", "keys", "leave")
            words = {"open_selected": "Start demo", "new_run": "New run", "leave": "Quit"}
            return [(action(name), words.get(name, "")) for name in names]
        if self.query_one(FilterLine).typing:
            return [
                (action("open_selected"), "Keep the filter"),
                (action("leave_field"), "All runs"),
            ]
        several = len(self.targets)
        verbs = (
            {"tag_run": f"Tag {several}", "delete_run": f"Delete {several}"} if several > 1 else {}
        )
        # there is no room for all of them
        first = "show_queue" if waiting_runs(self.context.queue) else ""
        order = sorted(FOOTER, key=lambda name: name != first)
        return [(action(name), verbs.get(name, "")) for name in order]

    def _show_first_launch(self) -> None:
        self.query_one(FirstLaunch).show(self.context.machine, self._demo, self._estimate, home())
        if self._demo_wanted:
            self._demo_wanted = False
            self.context.in_thread(_demo, self._take_demo)

    def _take_demo(self, demo: RunConfig) -> None:
        self._demo = demo
        self._show_first_launch()
        self.context.in_thread(lambda: client.estimate.estimate(demo), self._estimated)

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
        return [
            (
                newest.model_copy(update={"tags": run.tags, "note": run.note, "pinned": run.pinned})
                if newest.run == run.run
                else run
            )
            for run in summaries
        ]

    def _fit_columns(self, size: Size) -> None:
        self.query_one("#run-below").set_class(size.width >= WIDE_FROM, "-wide")
        self._fit_rows(size)

    def _fit_rows(self, size: Size) -> None:
        """Give the table the rows that all runs need, at most half of the body.

        Hidden runs count too, so that a filter moves nothing.
        """
        table = self.query_one(RunsTable)
        rows = min(
            max(LEAST_TABLE, max(len(self.context.summaries or ()), len(table.rows)) + TABLE_FRAME),
            max(LEAST_TABLE, (size.height - FRAME_ROWS) // 2),
        )
        if table.styles.height is None or table.styles.height.value != rows:
            table.styles.height = rows

    # the cursor

    @property
    def chosen(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.query_one(RunsTable).chosen

    def on_screen_suspend(self, _event: ScreenSuspend) -> None:
        """Open the run under the cursor at once when a key leaves the screen while it moves."""
        opened = self.context.run_directory
        self._open_when_covered = (
            opened.name if opened is not None and self.app.current_mode == self.PANE else None
        )
        chosen = self.chosen
        if self._settle is not None and chosen is not None:
            self._stop_settling()
            self._find(chosen.run, self._open_behind, self._not_found)

    def _follow(self) -> None:
        """Open the run under the cursor, unless the cursor still moves or waits for a new run."""
        chosen = self.chosen
        opened = self.context.run_directory
        if (
            chosen is not None
            and self._expected is None
            and self._settle is None
            and (opened is None or opened.name != chosen.run)
        ):
            self._choose(chosen.run)

    def _choose_soon(self, name: str) -> None:
        self._stop_settling()
        self._moved_from = self.context.run_directory
        # not set_timer: a timer that starts late is never called
        self._settle = self.set_interval(SETTLE_SECONDS, partial(self._settled, name))

    def _settled(self, name: str) -> None:
        self._stop_settling()
        self._choose(name)

    def _stop_settling(self) -> None:
        if self._settle is not None:
            self._settle.stop()
        self._settle = None

    def _choose(self, name: str) -> None:
        self._find(name, self._open_found, self._not_found)

    def _find(
        self,
        name: str,
        then: Callable[[RunDirectory], None],
        failed: Callable[[RnnlmError | OSError], None] | None = None,
    ) -> None:
        self.context.in_thread(lambda: store.runs.find_run(name), then, failed)

    def _not_found(self, error: RnnlmError | OSError) -> None:
        """Report an error, except for a run that was just deleted or renamed."""
        if not isinstance(error, UnknownRunError):
            self.context.report_error(error)

    def _open_found(self, run: RunDirectory) -> None:
        """Open the run, unless the cursor or the user has moved on."""
        chosen = self.chosen
        if self.is_current and chosen is not None and chosen.run == run.name:
            self.context.select_run(run)

    def _open_behind(self, run: RunDirectory) -> None:
        """Open the run, unless the key has opened one itself, as `enter` does."""
        if self.context.run_directory is self._moved_from:
            self.context.select_run(run)

    # actions

    def on_sorted_table_highlighted(self) -> None:
        self._expected = None
        if self.chosen is not None:
            self._choose_soon(self.chosen.run)
        self._show_detail(self.snapshot)
        self.refresh_footer()  # on a marked run, keys act on all marked runs

    def on_sorted_table_sorted(self) -> None:
        table = self.query_one(RunsTable)
        self.context.settings[ORDER_SETTING] = [table.order, table.backwards]
        self.context.save_session()

    def on_filter_line_changed(self, message: FilterLine.Changed) -> None:
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
        if self.context.summaries:
            self.query_one(FilterLine).open()

    def action_move_in_list(self, by: int) -> None:
        """Move the list's cursor from the filter."""
        self.query_one(RunsTable).action_move(by)

    def action_leave_field(self) -> None:
        if self.context.summaries:
            self.query_one(FilterLine).clear()
            self.query_one(RunsTable).focus()

    async def on_sorted_table_opened(self) -> None:
        await self.action_open_selected()

    def steered_run(self) -> str | None:
        return self.chosen.run if self.chosen is not None else None

    async def action_open_selected(self) -> None:
        chosen = self.chosen
        if chosen is not None and self.context.summaries:
            self._find(chosen.run, self.context.open_run)
        elif self.context.summaries is not None and not self.context.summaries:
            await self.action_start_demo()

    @act
    async def action_start_demo(self) -> None:
        """Start the demo: at once on the first screen, else after a question."""
        question = ConfirmScreen(
            "Start the demo?", "A new run on the presidents' speeches.", "It begins at once.",
            "don't start it", "start the demo",
        )  # fmt: skip
        if self.context.summaries == () or await self.context.ask(question):
            await self.context.commands.start(await self.context.wait_for(_demo))

    @act
    async def action_new_run(self) -> None:
        """Configure a run based on the one under the cursor; without runs, the demo."""
        chosen = self.chosen if self.context.summaries else None
        if chosen is None:
            self.context.new_draft()
        else:
            await self.context.new_draft_from(chosen.run)

    def _show_layout(self) -> None:
        self.show_runs(self.context.summaries)
        self._fit_rows(self.app.size)

    def action_next_layout(self) -> None:
        self._layouts.next_layout()

    @act
    async def action_group_runs(self) -> None:
        await self._layouts.ask_keys()

    def action_fold_runs(self) -> None:
        self._layouts.fold()

    def action_unfold_runs(self) -> None:
        self._layouts.unfold()

    def action_sort_runs(self) -> None:
        self.query_one(RunsTable).next_sort()

    def action_reverse_runs(self) -> None:
        self.query_one(RunsTable).turn_around()

    # marks, labels and names

    def action_mark_run(self) -> None:
        if self.chosen is not None:
            self.context.mark(self.chosen.run)

    def action_compare_runs(self) -> None:
        """Compare the marked runs; with only one marked, also the one under the cursor."""
        if (
            len(self.context.marked) == 1
            and self.chosen is not None
            and self.chosen.run not in self.context.marked
        ):
            self.context.mark(self.chosen.run)
        self.context.open_pane("compare")

    @property
    def targets(self) -> list[RunSummary]:
        """The runs that a key acts on: the one under the cursor, or if marked, all marked ones."""
        chosen = self.chosen
        if chosen is None:
            return []
        if chosen.run not in self.context.marked:
            return [chosen]
        return [
            chosen,
            *(
                run
                for run in self.query_one(RunsTable).runs
                if run.run in self.context.marked and run.run != chosen.run
            ),
        ]

    @act
    async def action_tag_run(self) -> None:
        """Edit the run's tags in one line; for marked runs, the tags that all of them have."""
        runs = self.targets
        if not runs:
            return
        used = sorted({tag for summary in self.context.summaries or () for tag in summary.tags})
        shown = f"{'  '.join(used[:SHOWN_TAGS])}{' …' if len(used) > SHOWN_TAGS else ''}"
        about = f"in use: {shown}" if used else "separate tags with spaces"
        shared = tuple(tag for tag in runs[0].tags if all(tag in run.tags for run in runs))
        title = f"Tags of {safe_text(runs[0].run, limit=40)}"
        if len(runs) > 1:
            title = f"Tags of all {counted(len(runs), 'marked run')}"
            about = f"{about}; other tags are kept"

        def changed(run: RunSummary, text: str) -> tuple[str, ...]:
            wanted = edited_tags(text.split())
            return edited_tags(
                [*(tag for tag in run.tags if tag in wanted or tag not in shared), *wanted]
            )

        def check(text: str) -> None:
            for run in runs:
                check_tags(changed(run, text))

        before = "".join(f"{tag} " for tag in shared)
        text = await self.context.ask(AskScreen(title, before, check, about=about))
        if text is not None:
            await self._label({run.run: {"tags": changed(run, text)} for run in runs})
            if len(runs) > 1:
                names = few_names(run.run for run in runs)
                self.context.report(f"{counted(len(runs), 'run')} tagged: {names}")

    @act
    async def action_note_run(self) -> None:
        run = self.chosen
        if run is None:
            return
        title = f"Note on {safe_text(run.run, limit=40)}"
        about = "one line; leave empty to remove it"
        text = await self.context.ask(
            AskScreen(title, run.note, check_note, about=about, most=MOST_NOTE_CHARACTERS)
        )
        if text is not None:
            await self._label({run.run: {"note": text}})

    @act
    async def action_pin_run(self) -> None:
        if self.chosen is not None:
            await self._label({self.chosen.run: {"pinned": not self.chosen.pinned}})

    async def _label(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change labels of runs by name."""

        def label() -> None:
            for name, labels in changes.items():
                change = partial(replace, **labels)
                store.labels.change_labels(store.runs.find_run(name), change)

        await self.context.wait_for(label)
        self.context.watcher.poll_now()

    @act
    async def action_rename_run(self) -> None:
        run = self.chosen
        if run is None or self._deleted.report_if_alive(run):
            return
        former, watcher = run.run, self.context.watcher
        taken = {summary.run for summary in self.context.summaries or ()} - {former}
        about = "other runs keep referring to its old name"
        title = f"Rename {safe_text(former, limit=40)}"
        name = await self.context.ask(
            AskScreen(title, former, partial(check_free, taken=taken), about=about)
        )
        if name is None or name == former:
            return
        watcher.mark_removed(former)
        try:
            renamed = await self.context.wait_for(
                lambda: store.runs.rename_run(store.runs.find_run(former), name)
            )
        except (RnnlmError, OSError):
            watcher.unmark_removed(former)
            raise
        watcher.unmark_removed(renamed.name)
        rename_view(self.context.settings, former, renamed.name)
        self._expect(renamed)
        self.context.set_marks(self.context.marks.renamed(former, renamed.name))
        watcher.poll_now()

    @act
    async def action_delete_run(self) -> None:
        await self._deleted.delete(self.targets if self.context.summaries else [])

    @act
    async def action_undo_delete(self) -> None:
        await self._deleted.undo()

    @act
    async def action_show_queue(self) -> None:
        """Show the queue; its screen is imported only here, because it needs pydantic."""
        from rnnlm_tui.tui.screens.queue import QueueScreen

        name = await self.context.ask(QueueScreen(self.chosen))
        if name is not None:
            self._find(name, self.context.open_run)

    @act
    async def action_show_trash(self) -> None:
        if (wanted := await self.context.ask(TrashScreen())) is not None:
            await self._deleted.restore(wanted)


def _demo() -> RunConfig:
    from rnnlm_tui.schema.presets import DEMO

    return client.start.with_available_corpus(DEMO)
