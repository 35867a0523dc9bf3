"""TrainScreen: figures, charts, machine and samples of one run, arranged by the terminal's size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual import getters
from textual.app import ComposeResult
from textual.content import Content
from textual.events import Resize
from textual.geometry import Size

from rnnlm_tui.client.remaining import SteadyEta
from rnnlm_tui.schema.formatting import count
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.store.paths import listed_run
from rnnlm_tui.tui import WIDE_FROM, messages, palette
from rnnlm_tui.tui.actions import bindings_for
from rnnlm_tui.tui.screens.charts import ChartedScreen
from rnnlm_tui.tui.screens.pane import body_size
from rnnlm_tui.tui.screens.run_commands import SteersRuns
from rnnlm_tui.tui.text import safe_content, selected
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.charted_run import ChartedRun
from rnnlm_tui.tui.views.charts import (
    CHARTS,
    Runs,
    adjacent_evaluation,
    nearest_checkpoint,
    snapshot_until,
)
from rnnlm_tui.tui.views.compare import best_of_comparable
from rnnlm_tui.tui.views.health import health_legend, health_lines
from rnnlm_tui.tui.views.status import waiting_runs
from rnnlm_tui.tui.views.train import (
    EventEntry,
    entries_of,
    event_lines,
    event_within,
    figure_lines,
    nearest_entry,
    run_lines,
)
from rnnlm_tui.tui.widgets.chart import Chart, ChartData
from rnnlm_tui.tui.widgets.machine_panel import MachinePanel, MachineView, machine_view
from rnnlm_tui.tui.widgets.panel import Label, Line, LinesPanel, ScrolledPanel
from rnnlm_tui.tui.widgets.samples import (
    TROUBLE_STATUSES,
    content_key,
    drawn_by,
    lines_below,
    trouble_lines,
)
from rnnlm_tui.tui.widgets.train_layout import LOWER, Placed, Places, arrangement

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import CheckpointRow
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.tui.screens.samples import StoredSamples


FROM_TRAINING = ("sample", "checkpoint", "evaluate", "steer")
"""Actions that need training."""
FROM_POINTS = (
    "cursor_right", "zoom_in", "pan_left", "reset_view", "follow", "sample_history", "log_scale",
    "next_axis", "smoother", "next_chart",
)  # fmt: skip
"""Actions that need a first step."""
USUAL = (
    "pause", "sample", "checkpoint", "evaluate", "steer", "cursor_right", "zoom_in",
    "sample_history", "log_scale", "stop", "next_run", "next_axis", "smoother", "next_chart",
    "leave",
)  # fmt: skip
"""Most important first; the last one is always shown."""
ZOOMED = (
    "pause", "zoom_in", "pan_left", "reset_view", "cursor_right", "follow", "sample", "checkpoint",
    "log_scale", "next_run", "next_axis", "smoother", "leave",
)  # fmt: skip
"""The same, while only a part of the run is shown."""
IN_TROUBLE = (
    "pause", "stop", "new_from_run", "show_log", "discard_run", "next_run", "cursor_right",
    "zoom_in", "log_scale", "next_axis", "leave",
)  # fmt: skip
"""The same, for a run that prepares or is in trouble: one that failed or crashed can be retried, a
new run be started from it, or it can be discarded."""
AT_CURSOR = (
    "cursor_right", "cursor_far_right", "next_evaluation", "open_nearest", "zoom_in", "cursor_end",
    "next_axis", "leave_field",
)  # fmt: skip
"""The same, while there is a cursor."""
DISCARDED = ("failed", "crashed", "draft")
"""Statuses of runs that can be discarded here."""


class EventsPanel(ScrolledPanel):
    """The run's events, newest first; the one nearest to the cursor is highlighted."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Events", legend=Content.styled("step", palette.DIM), id=id)
        self._entries: list[EventEntry] = []
        self._made_of: object = None
        self._chosen: int | None = None

    def show(self, snapshot: RunSnapshot | None, at: float | None = None) -> None:
        """Show the events; highlight the one nearest to step `at` and scroll to it."""
        top, made_of, before = self.top, None, (self._made_of, self._chosen, self.top)
        if snapshot is not None:
            summary, rows = snapshot.summary, (snapshot.evaluations, snapshot.checkpoints)
            made_of = summary.run, summary.baseline, *rows, snapshot.events
        if made_of != self._made_of:
            newest, self._made_of = self._entries[:1], made_of
            self._entries = [] if snapshot is None else entries_of(snapshot)
            self.row_count = len(self._entries)
            if top and newest and newest[0] in self._entries:
                top += self._entries.index(newest[0])  # keep the scroll position
        chosen = None if at is None or not self._entries else nearest_entry(self._entries, at)
        if chosen is not None:
            height = max(1, self.inner_size.height)
            if chosen != self._chosen and not top <= chosen < top + height:
                top = chosen - height // 2
        elif self._chosen is not None:
            top = 0
        self._chosen = chosen
        if before != (made_of, chosen, top) or top > self.last_top:
            self.show_from(top)

    def legends(self) -> Iterable[Label]:
        """Return `step`, or how many newer events are hidden."""
        more = Content.styled(f"{self.top} newer", palette.DIM)
        return (more, self.legend) if self.top else (self.legend,)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the events in view."""
        shown = range(self.top, min(self.top + height, self.row_count))
        self.lines = [self._event(index, width) for index in shown]

    def _event(self, index: int, width: int) -> Content:
        entry, chosen = self._entries[index], index == self._chosen
        digits = max(5, len(count(self._entries[0].step)))
        step = (count(entry.step).rjust(digits), palette.BRIGHT if chosen else palette.DIM)
        style = palette.TEXT if entry.sign in "★c" else palette.BASELINE
        text = safe_content(entry.text, newlines="space", limit=max(1, width - digits - 3))
        line = Content.assemble(
            step, "›" if chosen else " ", (entry.sign, entry.colour), " ",
            text.stylize(f"bold {palette.BRIGHT}" if chosen else style),
        )  # fmt: skip
        return selected(line, width) if chosen else line


class HealthPanel(ScrolledPanel):
    """The net's health at the newest evaluation; what is out of its range comes first."""

    snapshot: RunSnapshot | None = None

    def prepare(self, width: int, height: int) -> None:
        """Lay out the figures in view."""
        lines = [] if self.snapshot is None else health_lines(self.snapshot, width)
        self.row_count = len(lines)
        self.top = min(self.top, self.last_top)
        self.hidden = self.top, self.row_count - self.top - height
        self.lines = lines[self.top :]

    def legends(self) -> Iterable[Label]:
        """Return how many figures are out of their range, and at which step."""
        return ("" if self.snapshot is None else health_legend(self.snapshot),)


class TrainScreen(ChartedScreen, SteersRuns):
    """A run, while it trains and after."""

    PANE = "train"
    BINDINGS = bindings_for("train")
    CHARTS = CHARTS
    _placed = getters.query_one(Placed)

    def __init__(self) -> None:
        super().__init__()
        self._eta = SteadyEta()
        self._shows_health = False
        self._samples: StoredSamples | None = None
        self._sampled: tuple[object, ...] = ()
        """What the shown samples depend on."""

    def compose_body(self) -> ComposeResult:
        yield Placed(
            Line(id="figures"),
            *(Chart(id=name) for name in CHARTS),
            MachinePanel(id="machine"),
            Line(id="sample-lines"),
            LinesPanel("Samples", id="samples"),
            LinesPanel("Runs", id="other-runs"),
            EventsPanel(id="events"),
            HealthPanel(title="Health", id="health"),
            places=arrangement(body_size(self.app.size)),
            id="placed",
        )

    def on_resize(self, event: Resize) -> None:
        if event.size != self._painted_size:  # else it was shown for this size
            self._arrange(event.size)
            self.show_snapshot(self.snapshot)

    # what is shown

    def view_key(self) -> str:
        return self.context.run_directory.name if self.context.run_directory is not None else ""

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:
        self.load_view()
        self._arrange(self.app.size)
        places, figures = self._placed.places, list[Content]()
        if snapshot is not None:
            self._placed.visible = True
            eta = self._eta.of(snapshot.summary, snapshot.eta_margin)
            figures = figure_lines(snapshot, eta, places["figures"].width)
        self.query_one("#figures", Line).put(*figures)
        self.show_charts(places, ChartData("", ()))
        if self._shows_health:
            panel = self.query_one(HealthPanel)
            panel.snapshot = snapshot
            panel.redraw()
        self.show_readings()
        self.show_runs(self.context.summaries or ())
        self.cursor_changed()

    def cursor_changed(self) -> None:
        """Show the event, samples and checkpoint nearest to the cursor, or the newest ones."""
        snapshot, step, places = self.snapshot, self.cursor_step, self._placed.places
        if "events" in places:
            self.query_one(EventsPanel).show(snapshot, step)
        run = self.context.run_directory
        if snapshot is not None and step is not None and run is not None:
            from rnnlm_tui.tui.screens.samples import StoredSamples  # not before the first paint

            if self._samples is None or self._samples.run != run:
                self._samples = StoredSamples(self.context, run, self.cursor_changed)
            snapshot = snapshot_until(snapshot, step, self._samples.until(snapshot, step))
        sampled = (content_key(snapshot), places.get("samples"), places.get("sample-lines"))
        if sampled != self._sampled:  # else the texts would be wrapped again
            self._sampled = sampled
            self._show_samples(snapshot)
        if step is not None:  # the footer names the nearest checkpoint
            self.refresh_footer()

    def _show_samples(self, snapshot: RunSnapshot | None) -> None:
        places, lines = self._placed.places, partial(lines_below, snapshot, self.context.with_keys)
        if region := places.get("sample-lines"):
            shown = (Content(" ") + line for line in lines(region.width - 2, region.height))
            self.query_one("#sample-lines", Line).put(*shown)
        if "samples" in places:
            legend = "" if snapshot is None else drawn_by(snapshot.config)
            self.query_one("#samples", LinesPanel).show(lines, legend)

    def show_runs(self, summaries: tuple[RunSummary, ...] | None) -> None:
        if "other-runs" in self._placed.places:
            fresh = self.snapshot.summary.run if self.snapshot else ""
            runs, queue = self._in_order(summaries), waiting_runs(self.context.queue)
            key, legend = self.key_of("show_runs"), Content.styled("val ppl", palette.DIM)
            lines = partial(run_lines, runs, fresh, self.context.marks, queue, key)
            self.query_one("#other-runs", LinesPanel).show(lines, legend)

    def _in_order(self, summaries: Sequence[RunSummary] | None) -> Sequence[RunSummary]:
        """Return the runs in the order of the list, the open one with its newest state."""
        if not summaries:
            return ()
        from rnnlm_tui.tui.widgets.runs_table import (  # not before the first paint
            ORDER_SETTING,
            SORT_KEYS,
            sorted_runs,
            with_newest,
        )
        from rnnlm_tui.tui.widgets.table import saved_order

        runs = with_newest(summaries, self.snapshot)
        order, backwards = saved_order(self.context.settings, ORDER_SETTING, SORT_KEYS)
        return sorted_runs(runs, order, backwards=backwards, best=best_of_comparable(runs))

    def show_machine(self) -> None:
        super().show_machine()
        self.show_readings()

    def show_readings(self) -> None:
        """Update only the machine panel: no chart shows these readings."""
        if region := self._placed.places.get("machine"):
            wide = self.app.size.width >= WIDE_FROM or region.width >= 40
            facts = self.context.machine, self.context.readings
            view = (
                machine_view(self.snapshot, *facts, wide=wide) if self.snapshot else MachineView()
            )
            self.query_one(MachinePanel).show(view)

    def _arrange(self, size: Size) -> None:
        """Arrange the panels for this size. A chart without a place is no longer the chosen one."""
        if not self.shows_one_chart() and self.chosen not in self._places(size):
            self.view = self.view._replace(chosen="")
        alone = self.chosen if self.shows_one_chart() else None
        self._placed.place(self._places(size, "health" if self._shows_health else alone))

    def _places(self, size: Size, alone: str | None = None) -> Places:
        """Return the panels' places for this size; a run in trouble gets room for its message."""
        body, hidden = body_size(size), self.view.hidden
        if self.snapshot is None:
            return arrangement(body, alone, hidden=hidden)
        panel = arrangement(body, hidden=hidden - {LOWER}).get("samples") if alone is None else None
        width, frame = (panel.width - 4, 2) if panel is not None else (size.width - 2, 0)
        trouble = len(trouble_lines(self.snapshot, self.context.with_keys, width))
        below, rows = trouble + frame if trouble else 0, self.snapshot.hardware
        living = self.snapshot.summary.status in LIVING
        cards = len(rows[-1].other_gpus) if living and rows else 0
        if ranks := self.snapshot.summary.running_ranks:
            cards = len(ranks) - 2  # a table has room for two
        return arrangement(body, alone, below=below, hidden=hidden, cards=cards)

    def footer_entries(self) -> dict[str, str]:
        """Return the keys that help now, most important first."""
        if self.cursor is not None:
            row = self._nearest()
            verbs = {
                "cursor_right": "Move",
                "next_evaluation": "Evaluation",
                "open_nearest": f"Sample @{count(row.step)}" if row is not None else "",
                "leave_field": "Close cursor",
            }
            order = [name for name in AT_CURSOR if row is not None or name != "open_nearest"]
            return {name: verbs.get(name, "") for name in order}
        if self._shows_health:
            return {"health": "Back", "older_events": "Scroll", "next_run": "", "leave": ""}
        if self.snapshot is None:
            return {"leave": ""}
        run, alone, points = self.snapshot.summary, self.chart_position(), self.ends() is not None
        pauses = not run.diverged and run.status in messages.PAUSE_VERBS
        trains = run.status in LIVING and run.status not in ("preparing", "stalled")
        ended_badly = run.status in ("failed", "crashed")
        possible = {
            **dict.fromkeys(FROM_TRAINING, trains),
            **dict.fromkeys(FROM_POINTS, points),
            "pause": pauses,
            "stop": run.status in LIVING,
            "follow": points and not self.window.following,
            "next_run": len(self.context.summaries or ()) > 1,
            "new_from_run": ended_badly,
            "discard_run": ended_badly,
        }
        verbs = {"new_from_run": "New from it", "discard_run": "Discard"}
        verbs["pause"] = messages.PAUSE_VERBS.get(run.status, "")
        usual: Sequence[str] = ZOOMED if self.window.part is not None else USUAL
        if run.status in TROUBLE_STATUSES or (run.status == "preparing" and not points):
            usual = IN_TROUBLE
        order = [name for name in usual if possible.get(name, True)]
        if alone:
            verbs |= {"next_chart": alone, "leave_field": "Back"}
            order = list(dict.fromkeys(("next_chart", "leave_field", *order)))
        return {name: verbs.get(name, "") for name in order}

    # the charts

    @property
    def cursor_step(self) -> float | None:
        """The step at the cursor, at most the newest one; None without a cursor."""
        run, ends = self.longest, self.ends()
        if self.cursor is None or run is None or ends is None:
            return None
        return run.step_of_x(min(self.cursor, ends[1]))

    def charted_runs(self) -> Runs:
        return [ChartedRun(self.snapshot, self.axis)] if self.snapshot is not None else ()

    def arranged_charts(self) -> Sequence[str]:
        places = self._places(self.app.size)
        return [name for name in CHARTS if name in places]

    # at the cursor

    def cursor_moved(self) -> None:
        """Show what happened at the cursor in full, at every size, until the next key."""
        lead, run = self.lead, self.longest
        if run is None or self.cursor is None or lead is None:
            return
        half = lead.column_width / 2
        first, last = (run.step_of_x(self.cursor + side) for side in (-half, half))
        if event := event_within(run.snapshot, first, last):
            self.context.report(event)

    def action_to_evaluation(self, by: int) -> None:
        """Move to the next evaluation, from the cursor or the newest step."""
        step, run = self.cursor_step, self.longest
        if run is None:
            return
        place = (math.inf, -1) if step is None else (step, by)
        row = adjacent_evaluation(run, *place)
        if row is None:
            where = "yet" if step is None else "after this one" if by > 0 else "before this one"
            self.context.report(f"no evaluation {where}")
        else:
            self.move_cursor_to(run.x_of_step(row.step, row.time))

    def _nearest(self) -> CheckpointRow | None:
        if self.snapshot is None or (step := self.cursor_step) is None:
            return None
        return nearest_checkpoint(self.snapshot, step)

    def action_open_nearest(self) -> None:
        """Open the prompt with the checkpoint nearest to the cursor."""
        row = self._nearest()
        if row is not None:
            self.context.selected_checkpoint = row.path
            self.context.open_pane("prompt")
        elif self.cursor_step is None:
            self.context.report(
                f"{self.key_of('cursor_left')} sets a cursor; {{key:open_nearest}} then samples"
                " from the checkpoint nearest to it"
            )
        else:
            self.context.report("no checkpoint yet: press {key:checkpoint} to save one")

    @act
    async def action_sample_history(self) -> None:
        """Open the samples step by step, beginning at the cursor."""
        if self.snapshot is None or self.context.run_directory is None or not self.snapshot.samples:
            self.context.report("no samples yet: press {key:sample}")
            return
        from rnnlm_tui.tui.screens.samples import SampleHistoryScreen  # not before the first paint

        step = await self.context.ask(
            SampleHistoryScreen(self.context.run_directory, self.snapshot, self.cursor_step)
        )
        if step is not None and self.longest is not None:
            self.move_cursor_to(self.longest.x_of_step(step))

    def action_scroll_events(self, pages: int) -> None:
        """Scroll to older events, or with -1 to newer ones; or the net's health."""
        if self._shows_health:
            health = self.query_one(HealthPanel)
            health.scroll_lines(pages * max(1, health.inner_size.height - 1))
        elif "events" in self._placed.places:
            events = self.query_one(EventsPanel)
            events.scroll_lines(pages * max(1, events.inner_size.height - 1))
        elif self.snapshot is not None:
            from rnnlm_tui.tui.screens.log import LinesOverlay

            title = f"Events, {self.snapshot.summary.run}"
            self.app.push_screen(LinesOverlay(title, event_lines(self.snapshot)))

    # the net's health

    def action_health(self) -> None:
        """Show the net's health in place of the charts, or the charts again."""
        self._shows_health = not self._shows_health
        self.refresh_all()

    def choose(self, **changes: object) -> None:
        """Change the view of the charts, which are shown again."""
        self._shows_health = False
        super().choose(**changes)

    def action_leave_field(self) -> None:
        if self._shows_health:
            self.action_health()
        else:
            super().action_leave_field()

    def action_zoom(self, factor: float) -> None:
        """Zoom in, or out if the factor is below 1; the net's health is scrolled."""
        if self._shows_health:
            self.query_one(HealthPanel).scroll_lines(-1 if factor > 1 else 1)
        else:
            super().action_zoom(factor)

    # after a run that failed

    @act
    async def action_new_from_run(self) -> None:
        """Configure a new run based on this one."""
        if self.snapshot is not None:
            await self.context.new_draft_from(self.snapshot.summary.run)

    @act
    async def action_discard_run(self) -> None:
        """Move the run to the trash if it failed, crashed or never started."""
        run, snapshot = self.context.run_directory, self.snapshot
        if run is None or snapshot is None:
            return
        if snapshot.summary.status not in DISCARDED:
            words = "only a failed run can be discarded here: {key:delete_run} on Runs deletes any"
            self.context.report(words)
            return
        # the list has the labels, such as the pin
        listed = [one for one in self.context.summaries or () if one.run == run.name]
        await self.context.deleted.delete(listed or [snapshot.summary])

    # other runs

    def action_to_run(self, by: int) -> None:
        """Open the run `by` places after the open one."""
        opened = self.context.run_directory
        here = opened.name if opened is not None else ""
        names = [run.run for run in self._in_order(self.context.summaries)]
        if here not in names:
            self.context.report("still reading the list of runs")
            return
        at = names.index(here) + by
        if not 0 <= at < len(names):
            which = "last" if by > 0 else "first"
            self.context.report(f"this is the {which} run in the list")
            return
        self.context.select_run(listed_run(names[at]))

    # sidebars

    def action_toggle_sidebar(self, sidebar: str) -> None:
        """Hide or show a sidebar."""
        size, hidden = body_size(self.app.size), self.view.hidden
        if arrangement(size, hidden=hidden - {sidebar}) == arrangement(
            size, hidden=hidden | {sidebar}
        ):
            self.context.report("this terminal is too small for that sidebar")
            return
        self.choose(hidden=hidden ^ {sidebar})
