"""RunsScreen: the list of runs with details of one, and the first launch.

The run under the cursor is the open one: digits go to its panes. Marks, tags, notes, pins, names
and the trash are edited here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from textual import getters
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Resize, ScreenResume, ScreenSuspend
from textual.timer import Timer
from textual.widgets import Input

from rnnlm_tui import client, store
from rnnlm_tui.client.arrangement import parse_group_keys
from rnnlm_tui.errors import InputError, RnnlmError
from rnnlm_tui.schema.filters import parse_filter
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.store.labels import check_tags, edited_tags
from rnnlm_tui.store.paths import listed_run
from rnnlm_tui.tui import WIDE_FROM, palette
from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.screens.overlay import AskScreen, ConfirmScreen, note_question
from rnnlm_tui.tui.screens.pane import body_size
from rnnlm_tui.tui.screens.run_commands import SteersRuns, start
from rnnlm_tui.tui.screens.trash import TrashScreen, check_free, few_names
from rnnlm_tui.tui.settings import rename_view
from rnnlm_tui.tui.text import line, safe_text
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.charted_run import ChartedRun
from rnnlm_tui.tui.views.charts import PERPLEXITY, compared_perplexities
from rnnlm_tui.tui.views.compare import compared
from rnnlm_tui.tui.views.status import status_glyph, waiting_runs
from rnnlm_tui.tui.widgets.chart import Chart, ChartData
from rnnlm_tui.tui.widgets.first_launch import FirstLaunch
from rnnlm_tui.tui.widgets.run_detail import RunDetail
from rnnlm_tui.tui.widgets.runs_table import (
    DEFAULT_KEYS,
    LAYOUT_SETTING,
    FilterLine,
    RunsTable,
    with_newest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.client.sweeps import Sweep
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


class RunsScreen(SteersRuns):
    """All runs, or the first launch."""

    PANE = "runs"
    FIRST_FOCUS = "#runs"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (WIDE_FROM, "-wide")]  # noqa: RUF012 (Textual's)
    table = getters.query_one(RunsTable)
    filter_line = getters.query_one(FilterLine)
    BINDINGS = bindings_for("runs")

    def __init__(self) -> None:
        super().__init__()
        self._filter = parse_filter("")
        self._filter_problem = ""
        """What is wrong with the filter as typed; empty if nothing."""
        self._expected: str | None = None
        """The run that the cursor should move to: it was opened elsewhere, or is too new for the
        list."""
        self._settle: Timer | None = None
        """Runs until the cursor rests."""
        self._moved_from: RunDirectory | None = None
        """The open run when the cursor was last moved."""
        self._open_when_covered: str | None = None
        """The open run when an overlay opened; None if another screen was shown."""

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
        empty = "no run matches: {key:leave_field} shows them all"
        self.table.empty = self.context.with_keys(empty)
        self._show_open_run()

    def on_screen_resume(self, _event: ScreenResume) -> None:
        if self.is_ready:
            self._show_open_run()

    def on_resize(self, _event: Resize) -> None:
        self.show_runs(self.context.summaries)

    # what is shown

    def _show_open_run(self) -> None:
        """Move the cursor to the open run; cursor and filter stay as they were under an overlay."""
        opened = self.context.run_directory.name if self.context.run_directory is not None else None
        if opened is None or opened != self._open_when_covered:
            self._expected = opened
        self._open_when_covered = None
        self.show_runs(self.context.summaries)

    def show_runs(self, summaries: tuple[RunSummary, ...] | None) -> None:
        first = self.query_one(FirstLaunch)
        if summaries == () and not first.display:
            self.context.run_beside(self._describe_demo(first))
        first.machine, first.display = self.context.machine, summaries == ()
        self.query_one("#runs-list").display = bool(summaries)
        if summaries:
            if self.context.prefer_running:
                self.context.prefer_running = False
                self._expected = next(
                    (run.run for run in summaries if run.status in LIVING), self._expected
                )
            opened = [run for run in summaries if run.run == self._expected]
            # it was opened elsewhere, and must not be hidden here
            if opened and not self._matching(opened):
                self._filter, self._filter_problem = parse_filter(""), ""
                self.filter_line.clear()
            self._show_table(summaries)
            if not self.table.has_focus and self.focused is None:
                self.table.focus()
            self._follow()
            self._show_detail(self.snapshot)
            self._request_configs(summaries)
        self.refresh_frame()

    def _show_table(self, summaries: Sequence[RunSummary]) -> None:
        """Show the runs that match the filter."""
        fresh = with_newest(summaries, self.snapshot)
        matching = self._matching(fresh)
        self.table.show(
            matching,
            among=fresh,
            marks=self.context.marks,
            waiting=waiting_runs(self.context.queue),
            choose=self._expected,
        )
        if self.chosen is not None and self.chosen.run == self._expected:
            self._expected = None
        # half of the body at most; hidden runs count too, so that a filter moves nothing
        rows = max(len(fresh), len(self.table.rows))
        self.table.fit(rows, body_size(self.app.size).height // 2)
        outcome = ""
        if self.filter_line.text and self.table.wanted and not self.table.configs:
            outcome = "reading the configs…"
        elif self.filter_line.text:
            outcome = f"{len(matching):,} of {counted(len(fresh), 'run')}"
        self.filter_line.show_outcome(outcome, self._filter_problem)

    def _matching(self, runs: Sequence[RunSummary]) -> Sequence[RunSummary]:
        """Return the runs that match the filter, in the same order."""
        return [run for run in runs if self._filter(run, self.table.config_of)]

    def _request_configs(self, summaries: Sequence[RunSummary]) -> None:
        """Read the configs that the filter or the layout needs, in a thread."""
        readable = {run.run for run in summaries if not run.unreadable}
        if names := self.table.wanted & readable:
            self.context.run_beside(self._read_configs(names))
        self.table.wanted.clear()

    async def _read_configs(self, names: Iterable[str]) -> None:
        configs = await self.context.wait_for(lambda: self.context.watcher.runs.configs(names))
        if configs:
            self.table.configs |= configs
            self.show_runs(self.context.summaries)

    def show_marks(self) -> None:
        """Show the letters of marked runs, and their number in line 1."""
        if self.context.summaries:
            self._show_table(self.context.summaries)
            self._show_detail(self.snapshot)
        self.refresh_frame()

    def show_compared(self) -> None:
        """Show the curves of the marked runs in the small chart."""
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
        shown = snapshot
        if chosen is None or snapshot is None or snapshot.summary.run != chosen.run:
            shown = None
        detail = self.query_one(RunDetail)
        if shown is None and chosen is not None and not chosen.unreadable and detail.snapshot:
            return
        if wide:
            marked = compared(self.context.marks, self.context.compared)
            alone = PERPLEXITY.chart([ChartedRun(shown)]) if shown else ChartData("", ())
            self.query_one("#run-chart", Chart).show(
                compared_perplexities(marked) if len(marked) > 1 else alone
            )
        detail.show(shown, chosen)

    def show_machine(self) -> None:
        super().show_machine()
        self.query_one(FirstLaunch).machine = self.context.machine

    def identity(self, width: int) -> Content:  # noqa: ARG002 (the frame's)
        summaries = self.context.summaries
        if summaries is None:
            return Content("")
        if not summaries:
            return Content.styled("no runs yet", palette.DIM)
        running = sum(run.status in ("running", "preparing", "degraded") for run in summaries)
        words = (f" {running} running", f"bold {palette.TRAIN}")
        trains = Content.assemble(status_glyph("running"), words)
        waiting, marked = len(waiting_runs(self.context.queue)), len(self.context.marks.names)
        parts = [
            line(counted(len(summaries), "run")),
            trains if running else Content(""),
            line(f"{waiting} waiting" if waiting else ""),
            line(f"{marked} marked to compare" if marked else ""),
        ]
        return line(", ").join(filter(None, parts))

    def footer_entries(self) -> dict[str, str]:
        if not self.context.summaries:
            verbs = {"open_selected": "Start demo", "new_run": "New run", "command_palette": ""}
            return verbs | {"keys": "", "leave": "Quit"}
        if self.filter_line.typing:
            return {"open_selected": "Keep the filter", "leave_field": "All runs"}
        several = len(self.targets)
        verbs = (
            {"tag_run": f"Tag {several}", "delete_run": f"Delete {several}"} if several > 1 else {}
        )
        # there is no room for all of them
        first = "show_queue" if waiting_runs(self.context.queue) else ""
        order = sorted(FOOTER, key=lambda name: name != first)
        return {name: verbs.get(name, "") for name in order}

    async def _describe_demo(self, first: FirstLaunch) -> None:
        """Show what the demo trains, and how long that takes here."""
        demo = await self.context.wait_for(_demo)
        first.estimate = await self.context.wait_for(lambda: client.estimate.estimate(demo))

    # the cursor

    @property
    def chosen(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.table.row.run if self.table.row is not None else None

    def on_screen_suspend(self, _event: ScreenSuspend) -> None:
        """Open the run under the cursor at once when a key leaves the screen while it moves."""
        opened = self.context.run_directory
        self._open_when_covered = (
            opened.name if opened is not None and self.app.current_mode == self.PANE else None
        )
        if self._settle is not None:
            self._stop_settling()
            # unless the key opens a run itself, as `enter` does
            if opened is self._moved_from:
                self._open_chosen()

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
            self._open_chosen()

    def _choose_soon(self) -> None:
        self._stop_settling()
        self._moved_from = self.context.run_directory
        # not set_timer: a timer that starts late is never called
        self._settle = self.set_interval(SETTLE_SECONDS, self._open_chosen)

    def _stop_settling(self) -> None:
        if self._settle is not None:
            self._settle.stop()
        self._settle = None

    def _open_chosen(self) -> None:
        """Open the run under the cursor."""
        self._stop_settling()
        if self.chosen is not None:
            self.context.select_run(listed_run(self.chosen.run))

    # actions

    def on_list_panel_highlighted(self) -> None:
        self._expected = None
        if self.chosen is not None:
            self._choose_soon()
        self._show_detail(self.snapshot)
        self.refresh_footer()  # on a marked run, keys act on all marked runs

    def on_input_changed(self, message: Input.Changed) -> None:
        """Filter the list with each key."""
        try:
            self._filter, self._filter_problem = parse_filter(message.value), ""
        except InputError as error:
            self._filter_problem = "; ".join(filter(None, (error.message, error.hint)))
            with suppress(InputError):  # the last word is perhaps unfinished
                self._filter = parse_filter(message.value.strip().rpartition(" ")[0])
        before = self.chosen
        if self.context.summaries:
            self._show_table(self.context.summaries)
            self._request_configs(self.context.summaries)
        if self.chosen is not None and self.chosen != before:
            self._expected = None
            self._choose_soon()
        self._show_detail(self.snapshot)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Keep the filter, and go back to the list."""
        self.filter_line.set_class(bool(message.value.strip()), "-open")
        self.table.focus()

    def on_descendant_focus(self) -> None:
        self.refresh_footer()

    def action_filter_runs(self) -> None:
        if self.context.summaries:
            self.filter_line.open()

    def action_leave_field(self) -> None:
        if self.context.summaries:
            self.filter_line.clear()
            self.table.focus()

    def steered_run(self) -> str | None:
        return self.chosen.run if self.chosen is not None else None

    @act
    async def action_open_selected(self) -> None:
        chosen = self.chosen
        if chosen is not None and self.context.summaries:
            self.context.open_run(listed_run(chosen.run))
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
            await start(self.context, await self.context.wait_for(_demo))

    @act
    async def action_new_run(self) -> None:
        """Configure a run based on the one under the cursor; without runs, the demo."""
        chosen = self.chosen if self.context.summaries else None
        if chosen is None:
            self.context.new_draft()
        else:
            await self.context.new_draft_from(chosen.run)

    # the layout

    def action_next_layout(self) -> None:
        """Go from the list to the tree, to groups, and back."""
        self.table.arrangement.next()
        self._save_layout()
        words = {"list": "all runs in one list", "tree": "forks below their parents"}
        grouped = f"grouped {self.table.arrangement.legend()}: {{key:group_runs}} changes the keys"
        self.context.report(words.get(self.table.arrangement.name, grouped))

    @act
    async def action_group_runs(self) -> None:
        """Ask for the keys to group by."""
        about = "figures or config keys, such as hidden_size,cell"
        keys = self.table.arrangement.keys_text or DEFAULT_KEYS
        text = await self.context.ask(AskScreen("Group by", keys, parse_group_keys, about=about))
        if text is not None and self.table.arrangement.group_by(text):
            self.table.arrangement.name = "groups"
            self._save_layout()

    def _save_layout(self) -> None:
        self.context.settings[LAYOUT_SETTING] = self.table.arrangement.setting()
        self.context.save_session()
        self.show_runs(self.context.summaries)

    def action_fold(self, fold: int) -> None:
        """Fold the row under the cursor, or the one that it belongs to; or unfold it."""
        if self.table.arrangement.name == "list" or self.table.row is None:
            words = "lays the runs out as a tree or in groups, which can be folded"
            self.context.report(f"{{key:next_layout}} {words}")
        elif self.table.fold() if fold else self.table.unfold():
            self.show_runs(self.context.summaries)

    # marks, labels and names

    def action_mark_run(self) -> None:
        if self.chosen is not None:
            self.context.mark(self.chosen.run)

    def action_compare_runs(self) -> None:
        """Compare the marked runs; with only one marked, also the one under the cursor."""
        if (
            len(self.context.marks.names) == 1
            and self.chosen is not None
            and self.chosen.run not in self.context.marks.names
        ):
            self.context.mark(self.chosen.run)
        self.context.open_pane("compare")

    @property
    def targets(self) -> list[RunSummary]:
        """The runs that a key acts on: the one under the cursor, or if marked, all marked ones."""
        chosen, marked = self.chosen, self.context.marks.names
        if chosen is None or chosen.run not in marked:
            return [] if chosen is None else [chosen]
        listed = self.table.runs
        return [chosen, *(run for run in listed if run.run in marked and run.run != chosen.run)]

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
        text = await self.context.ask(note_question(title, run.note))
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
                store.labels.change_labels(listed_run(name), change)

        await self.context.wait_for(label)
        self.context.watcher.poll_now()

    @act
    async def action_rename_run(self) -> None:
        run = self.chosen
        if run is None or self.context.deleted.report_if_alive(run):
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
        watcher.removed.add(former)
        marks = self.context.marks  # which lose the former name as soon as the list is read
        try:
            renamed = await self.context.wait_for(partial(_rename, listed_run(former), name))
        except (RnnlmError, OSError):
            watcher.removed.discard(former)
            raise
        watcher.removed.discard(renamed.name)
        rename_view(self.context.settings, former, renamed.name)
        self._expect(renamed)
        self.context.marks = marks.renamed(former, renamed.name)
        watcher.poll_now()

    @act
    async def action_delete_run(self) -> None:
        await self.context.deleted.delete(self.targets if self.context.summaries else [])
        self._follow()  # a run that couldn't be moved wasn't opened while it was to go

    @act
    async def action_undo_delete(self) -> None:
        await self.context.deleted.undo(self._expect)

    @act
    async def action_show_queue(self) -> None:
        """Show the queue; its screen is imported only here, because it needs pydantic."""
        from rnnlm_tui.tui.screens.queue import QueueScreen

        name = await self.context.ask(QueueScreen(self.chosen))
        if name is not None:
            self.context.open_run(listed_run(name))

    @act
    async def action_show_sweep(self) -> None:
        """Show the sweep of the run under the cursor, or the newest one."""
        from rnnlm_tui.tui.screens.sweep import SweepScreen

        def read() -> Sweep | None:
            sweeps, configs = client.sweeps, self.context.watcher.runs.configs
            known = sweeps.sweeps_in(self.context.summaries or ())
            name = next(iter((*sweeps.sweeps_in(filter(None, [self.chosen])), *known)), None)
            if name is None:
                return None
            return sweeps.read_sweep(name, known[name], configs(run.run for run in known[name]).get)

        found = await self.context.wait_for(read)
        if found is None:
            self.context.report("no sweeps yet: `rnnlm-tui train --sweep KEY=A,B` starts one")
            return
        name = await self.context.ask(SweepScreen(found, waiting_runs(self.context.queue)))
        if name is not None:
            self.context.open_run(listed_run(name))

    @act
    async def action_show_trash(self) -> None:
        if (wanted := await self.context.ask(TrashScreen())) is not None:
            await self.context.deleted.restore([wanted], self._expect)


def _demo() -> RunConfig:
    from rnnlm_tui.schema.presets import DEMO

    return DEMO


def _rename(run: RunDirectory, name: str) -> RunDirectory:
    client.slurm.check_no_job(run)
    return store.runs.rename_run(run, name)
