"""The train screen: figures, charts, machine and samples of one run, arranged by the size of the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.content import Content
from textual.events import Resize
from textual.geometry import Size

from rnnlm_tui.contract.computing import arithmetic, others_words
from rnnlm_tui.contract.status import LIVING, RunSummary
from rnnlm_tui.tui import steering
from rnnlm_tui.tui.actions import Action, actions_for, bindings_for
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.sizes import WIDE_FROM
from rnnlm_tui.tui.widgets import palette, train_data
from rnnlm_tui.tui.widgets.axes import AXES, Axis, places_on
from rnnlm_tui.tui.widgets.chart import Chart, ChartData
from rnnlm_tui.tui.widgets.identity import device_name, machine_label
from rnnlm_tui.tui.widgets.machine_panel import MachinePanel
from rnnlm_tui.tui.widgets.run_lists import EventsPanel, OtherRuns
from rnnlm_tui.tui.widgets.samples import SampleLines, SamplesPanel, trouble_lines
from rnnlm_tui.tui.widgets.train_figures import TrainFigures
from rnnlm_tui.tui.widgets.train_layout import Placed, Places, arrangement

if TYPE_CHECKING:
    from rnnlm_tui.supervisor.machine import MachineFacts
    from rnnlm_tui.supervisor.monitor import RunSnapshot

SMOOTHINGS = (0.0, 0.8, 0.9, 0.95, 0.98, 0.99)
"""What + and - go through."""
USUAL_SMOOTHING = 0.95
CHARTS: dict[str, Callable[[RunSnapshot, Axis], ChartData]] = {
    "perplexity": train_data.perplexity_data,
    "loss": train_data.loss_data,
    "speed": train_data.speed_data,
    "gradient": train_data.gradient_data,
    "rate": train_data.rate_data,
    "score": train_data.score_data,
}
"""Id of a chart to what it shows, in the order that tab goes through."""
FROM_TRAINING = ("sample", "checkpoint", "evaluate")
"""Actions that need a model to train."""
FROM_WORKER = (*FROM_TRAINING, "stop")
"""Actions that need a worker that lives."""
OLD_READING_SECONDS = 10.0
"""A run that can't store anything has no newer reading of its machine than this."""


class TrainScreen(PaneScreen):
    """One run while it trains, and after."""

    PANE = "train"
    BINDINGS = bindings_for("train")

    def __init__(self) -> None:
        super().__init__()
        self._chosen = "perplexity"
        self._alone = False
        self._axis: Axis = "step"
        self._smoothing = USUAL_SMOOTHING

    def compose_body(self) -> ComposeResult:
        yield Placed(
            TrainFigures(id="figures"),
            *(Chart(id=name) for name in CHARTS),
            MachinePanel(id="machine"),
            SampleLines(id="sample-lines"),
            SamplesPanel(id="samples"),
            OtherRuns(id="other-runs"),
            EventsPanel(id="events"),
            places=arrangement(body_size(self.app.size)),
            id="placed",
        )

    def on_mount(self) -> None:
        kept = self.lab.settings
        self._axis = next((axis for axis in AXES if axis == kept.get("axis")), "step")
        self._smoothing = next((value for value in SMOOTHINGS if value == kept.get("smoothing")), USUAL_SMOOTHING)
        for chart in self.query(Chart):
            chart.set_smoothing(self._smoothing)

    def on_resize(self, event: Resize) -> None:
        self._arrange(event.size)
        self.show_snapshot(self.snapshot)

    # showing

    def show_snapshot(self, snapshot: RunSnapshot | None) -> None:
        if snapshot is not None:
            self._placed.uncover()
        self._arrange(self.app.size)
        ascii_only, width = self.lab.ascii_only, self.app.size.width
        places = self._placed.places
        if figures := places.get("figures"):
            self.query_one(TrainFigures).show(snapshot, rows=figures.height, width=figures.width, ascii_only=ascii_only, smooth=self._smoothing > 0)
        for name, data in CHARTS.items():
            if name in places:
                chart = self.query_one(f"#{name}", Chart)
                chart.show(data(snapshot, self._axis) if snapshot is not None else ChartData("", ()))
                chart.highlighted = name == self._chosen
        if "machine" in places:
            self._show_machine_panel(snapshot, wide=width >= WIDE_FROM or places["machine"].width >= 40)
        if region := places.get("sample-lines"):
            self.query_one(SampleLines).show(snapshot, (region.width, region.height), ascii_only=ascii_only)
        if "samples" in places:
            self.query_one(SamplesPanel).show(snapshot)
        if "events" in places:
            self.query_one(EventsPanel).show(snapshot)
        if "other-runs" in places:
            self.show_runs(self.lab.summaries or ())

    def show_runs(self, summaries: tuple[RunSummary, ...]) -> None:
        if "other-runs" not in self._placed.places:
            return
        fresh = self.snapshot.summary if self.snapshot else None
        runs = [fresh if fresh is not None and fresh.run == run.run else run for run in summaries]
        self.query_one(OtherRuns).show(runs, fresh.run if fresh else "")

    def show_machine(self, machine: MachineFacts) -> None:
        super().show_machine(machine)
        self.show_snapshot(self.snapshot)

    def _show_machine_panel(self, snapshot: RunSnapshot | None, *, wide: bool) -> None:
        machine = self.lab.machine
        rows = snapshot.hardware if snapshot is not None else ()
        status = snapshot.summary.status if snapshot is not None else None
        ended = bool(rows) and status not in LIVING
        label = machine_label(machine, wide=wide) if machine is not None else Content("")
        if ended:
            label = Content.styled("as the run ended", palette.DIM)
        elif rows and status == "degraded" and time() - rows[-1].time > OLD_READING_SECONDS:
            label = Content.styled("as last stored", palette.DIM)
        self.query_one(MachinePanel).show(
            rows,
            label.stylize(palette.DIM),
            cores=machine.cpu_count if machine is not None else 0,
            alarm=status in ("stalled", "degraded"),
            device=device_name(machine, wide=False, device=snapshot.summary.device) if machine is not None and snapshot is not None and not ended else "",
            arithmetic=arithmetic(snapshot.summary) if snapshot is not None else "",
            others=others_words(snapshot.summary) if snapshot is not None else "",
        )

    def _arrange(self, size: Size) -> None:
        """Places for this size."""
        places = self._places(size, self._chosen if self._alone else None)
        if self._chosen not in places:
            self._chosen = "perplexity"
        self._placed.place(places)

    def _places(self, size: Size, alone: str | None = None) -> Places:
        """Places for this size; a run in trouble has room to say all of it."""
        places = arrangement(body_size(size), alone)
        if self.snapshot is None:
            return places
        region, frame = (places["samples"], 2) if "samples" in places else (places.get("sample-lines"), 0)
        if region is None:
            return places
        told = trouble_lines(self.snapshot, region.width - 2 - frame, ascii_only=self.lab.ascii_only)
        return arrangement(body_size(size), alone, below=len(told) + frame) if told else places

    def footer_entries(self) -> Sequence[tuple[Action, str]]:
        status = self.snapshot.summary.status if self.snapshot else None
        living = status in LIVING
        entries: list[tuple[Action, str]] = []
        for entry in actions_for(self.PANE):
            if not entry.footer or (entry.id in FROM_WORKER and not living) or (entry.id in FROM_TRAINING and status in ("preparing", "stalled")):
                continue
            if entry.id == "pause":
                again = self.snapshot is not None and self.snapshot.summary.diverged
                verb = steering.PAUSE_VERBS.get(status, "") if status and not again else ""
                entries += [(entry, verb)] if verb else []
            else:
                entries.append((entry, ""))
        if self._cursor is not None:
            order = ("cursor_right", "leave_field", "log_scale", "next_axis", "leave")
            found = {entry.id: entry for entry in actions_for(self.PANE)}
            return [(found[name], {"cursor_right": "Move", "leave_field": "Close cursor"}.get(name, "")) for name in order]
        return entries

    # looking

    @property
    def _placed(self) -> Placed:
        return self.query_one(Placed)

    @property
    def _cursor(self) -> float | None:
        return self.query_one(f"#{self._chosen}", Chart).cursor

    def _shown_charts(self) -> list[str]:
        return [name for name in CHARTS if name in self._places(self.app.size)]

    def _step_chart(self, by: int) -> None:
        shown = self._shown_charts()
        index = (shown.index(self._chosen) if self._chosen in shown else 0) + by
        self._chosen = shown[index % len(shown)]
        if self._alone:
            self._arrange(self.app.size)
        self.refresh_all()

    def action_next_chart(self) -> None:
        self._step_chart(1)

    def action_previous_chart(self) -> None:
        self._step_chart(-1)

    def action_alone(self) -> None:
        self._alone = not self._alone
        self._arrange(self.app.size)
        self.refresh_all()

    def action_log_scale(self) -> None:
        self.query_one(f"#{self._chosen}", Chart).toggle_log()

    def action_whole_range(self) -> None:
        for chart in self.query(Chart):
            chart.show_all = not chart.show_all

    def action_next_axis(self) -> None:
        self._axis = AXES[(AXES.index(self._axis) + 1) % len(AXES)]
        self._set_cursor(None)
        self.lab.settings["axis"] = self._axis
        self.refresh_all()

    def action_smoother(self) -> None:
        self._smooth(min(len(SMOOTHINGS) - 1, SMOOTHINGS.index(self._smoothing) + 1))

    def action_rougher(self) -> None:
        self._smooth(max(0, SMOOTHINGS.index(self._smoothing) - 1))

    def action_raw(self) -> None:
        self._smooth(0)

    def _smooth(self, index: int) -> None:
        self._smoothing = SMOOTHINGS[index]
        self.lab.settings["smoothing"] = self._smoothing
        for chart in self.query(Chart):
            chart.set_smoothing(self._smoothing)
        self.refresh_all()
        self.lab.say(f"smoothing {self._smoothing:g}" if self._smoothing else "no smoothing")

    def action_cursor_right(self) -> None:
        self._move_cursor(1)

    def action_cursor_left(self) -> None:
        self._move_cursor(-1)

    def _move_cursor(self, columns: int) -> None:
        """By cells of the chosen chart; the first press puts it on the newest step. All charts have it at the same place."""
        chart = self.query_one(f"#{self._chosen}", Chart)
        if self.snapshot is None or not len(self.snapshot.series.step):
            return
        newest = places_on(self.snapshot.series, self._axis)[-1]
        start, end = chart.window
        place = newest if chart.cursor is None else chart.cursor + columns * chart.column_width
        self._set_cursor(min(max(place, start), end))

    def _set_cursor(self, place: float | None) -> None:
        before = self._cursor
        with self.app.batch_update():
            for chart in self.query(Chart):
                chart.cursor = place
        if (before is None) != (place is None):
            self.refresh_footer()

    def action_leave_field(self) -> None:
        """`esc`: the cursor goes, then the chart that stands alone is one of many again."""
        if self._cursor is not None:
            self._set_cursor(None)
        elif self._alone:
            self.action_alone()


def body_size(terminal: Size) -> Size:
    """What the frame leaves."""
    return Size(terminal.width, max(0, terminal.height - 3))
