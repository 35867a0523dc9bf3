"""SteerScreen: a form that changes a live run, with the planned rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Resize
from textual.getters import query_one

from rnnlm_tui import client
from rnnlm_tui.errors import ConfigError, Problem, RnnlmError, in_one_sentence
from rnnlm_tui.schema.formatting import count, counted, scientific
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.schema.steering import STEERABLE, next_to_undo, settings_text, value_text
from rnnlm_tui.schema.validation import ConfigField
from rnnlm_tui.tui.messages import pin_hint
from rnnlm_tui.tui.palette import BAD, BASELINE, DIM, GOOD, TEXT, TRAIN, WARN
from rnnlm_tui.tui.screens.config_files import ask_value
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText, key_line
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.views.form import FIELDS, Draft, field_of
from rnnlm_tui.tui.widgets.chart import Chart
from rnnlm_tui.tui.widgets.form import Form
from rnnlm_tui.tui.widgets.panel import TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.client.steering import SteeringState
    from rnnlm_tui.schema.config import CheckpointConfig, RunConfig
    from rnnlm_tui.schema.protocol import CommandResult
    from rnnlm_tui.store.paths import RunDirectory

TITLES = {"evaluation.every": "evaluate every", "checkpoint.every": "save every"}
"""Labels of fields whose own title needs its section."""
STEER_FIELDS: tuple[ConfigField, ...] = tuple(
    FIELDS[path]._replace(title=TITLES.get(path, FIELDS[path].title)) for path in STEERABLE
)
"""The fields of the form, in its order."""
POINTS = 200
"""Steps at which the planned rates are computed."""


def plan_chart(state: SteeringState, changed: RunConfig) -> ChartData:
    """The learning rate from the run's step to its end: faint and dotted as it is planned now, and
    with the change."""
    lengths = (state.steps(state.config), state.steps(changed))
    ends = [end for end in lengths if end is not None]
    if not ends:
        return ChartData("Planned learning rate", (), note="the run's length is not known yet")

    def curve(config: RunConfig, name: str, colour: str) -> ChartSeries:
        first, last = state.position.step + 1, state.steps(config) or max(ends)
        stride = max(1, (last - first) // POINTS)
        steps = [*range(first, last, stride), max(first, last)]
        rates = state.rates(config, steps)
        return ChartSeries(
            name=name, colour=colour, x=steps, mean=rates, smooth=False, y_format=scientific,
            current=scientific(rates[0]), band=False,
        )  # fmt: skip

    series: tuple[ChartSeries, ...] = (curve(state.config, "now", BASELINE),)
    guides: tuple[ChartSeries, ...] = ()
    if changed != state.config:
        series, guides = (curve(changed, "new", TRAIN),), series
    return ChartData(
        "Planned learning rate", series, guides=guides, x_end=max(ends), x_format="whole",
        y_from_zero=True,
    )  # fmt: skip


def consequence(state: SteeringState, config: RunConfig) -> str:
    """What a change does, in one line: `at step 1,240, 4,754 → 6,000 steps, rate 8e-4 → 3e-4`."""
    step, both = state.position.step, (state.config, config)
    steps = [length for each in both if (length := state.steps(each)) is not None]
    if len(steps) < len(both):
        return f"at step {count(step)}"
    rates = [scientific(state.rates(each, [step + 1])[0]) for each in both]
    lengths, rate = (" → ".join(dict.fromkeys(texts)) for texts in (map(count, steps), rates))
    return f"at step {count(step)}, {lengths} steps, rate {rate}"


def confirmed_text(result: CommandResult, kept: CheckpointConfig) -> str:
    """`confirmed at step 1,241: optimizer.learning_rate 0.003 → 0.001; saved before it …`.

    Args:
        kept: decides how long the checkpoint stays that was saved before the change.
    """
    change = result.change
    if change is None:
        return f"confirmed at step {count(result.step)}"
    what = settings_text(change.settings)
    undone = "undone" if change.undoes else "confirmed"
    saved = f"; saved before it{hint}" if (hint := pin_hint(kept.stays(change.step))) else ""
    return f"{undone} at step {count(change.step)}: {what}{saved if result.checkpoint else ''}"


KEYS = (
    ("F5", "send"), ("↑ ↓", "field"), ("enter", "edit"), ("u", "reset field"),
    ("F6", "undo last change"), ("esc", "close"),
)  # fmt: skip
REFRESH_SECONDS = 1.0
"""Seconds between two reads of the run's step and settings, which another terminal may change."""


class SteerScreen(Overlay[None]):
    """The settings that can change while a run trains. It sends a change only when confirmed."""

    DEFAULT_CSS = """
    SteerScreen > Vertical { width: 104; max-width: 100%; height: 100%; max-height: 34;
        background: #121212; }
    SteerScreen Form { height: auto; max-height: 12; }
    SteerScreen Chart { height: 1fr; min-height: 5; }
    SteerScreen OverlayText { height: 1; }
    SteerScreen #steer-note { height: auto; max-height: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q", "leave"), ("up", "form('move', -1)"), ("down", "form('move', 1)"),
        ("enter", "form('edit')"), ("u", "form('reset')"), ("f5", "confirm"), ("f6", "undo"),
    ]  # fmt: skip

    form = query_one(Form)

    def __init__(self, run: RunDirectory, state: SteeringState) -> None:
        super().__init__()
        self._run = run
        self.state = state
        self.draft = Draft(state.config, "")
        """The change being made."""
        self.problems: tuple[Problem, ...] = ()
        """Of its values."""
        self._asked = False
        """A change was sent and isn't answered yet."""
        self._noted = ("", DIM)
        """The line about the request, and its style."""

    def compose(self) -> ComposeResult:
        title = f"Settings of {self._run.name}, while it trains"
        with Vertical():
            with TitledContainer(title=title, classes="-highlighted"):
                yield Form(self.draft, self.edit, STEER_FIELDS)
                yield OverlayText(id="steer-effect")
                yield OverlayText(id="steer-note")
            yield Chart(id="steer-plan")

    def on_mount(self) -> None:
        self.form.focus()
        self.query_one(Chart).show_all = True
        self.edit(self.draft)
        self.set_interval(REFRESH_SECONDS, self._refresh)

    def on_resize(self, _event: Resize) -> None:
        self.note(*self._noted)

    # what is shown

    def _show(self, changed: RunConfig) -> None:
        """Show the change and what it does; with problems, the rates as they are planned now."""
        draft, idle = self.draft, {}
        if "training.epochs" not in draft.changes and draft.value("training.max_steps") is not None:
            idle["training.epochs"] = "max steps decides"
        self.form.show(draft, self.problems, idle)
        self.query_one(Chart).show(plan_chart(self.state, changed))
        effect = Content.styled(counted(len(self.problems), "problem") + " to fix first", BAD)
        if not self.problems:
            effect = Content.styled(consequence(self.state, changed), TEXT)
        self.query_one("#steer-effect", OverlayText).update(effect)

    def note(self, text: str, style: str = DIM) -> None:
        """Show one line about the request; empty: the keys."""
        self._noted = (text, style)
        room = max(20, min(104, self.app.size.width) - 4)
        keys = [key for key in KEYS if key[0] != "F6" or self._can_undo]
        line = (
            safe_content(text, newlines="space").stylize(style).truncate(2 * room, ellipsis=True)
            if text
            else key_line(keys, room + 2, self.app)
        )
        self.query_one("#steer-note", OverlayText).update(line)

    @property
    def _can_undo(self) -> bool:
        """Whether a change of this run can be undone."""
        return next_to_undo(self.state.journal) is not None

    def _refresh(self) -> None:
        """Read the run again, unless an answer is awaited."""
        if self.is_open and not self._asked and self.app.screen is self:
            self.context.in_thread(
                lambda: client.steering.read_steering(self._run), self._take_state, lambda _: None
            )

    def _take_state(self, state: SteeringState) -> None:
        if not self.is_open or self._asked:
            return
        if state.summary.status not in LIVING:
            self.note(f"the run isn't training any more: {state.summary.status}", WARN)
        if state != self.state:
            self.state = state
            self._check(self.draft)

    def _check(self, draft: Draft) -> None:
        """Take a change, validated as the worker will do; the run's own values are no changes."""
        self.draft = Draft(self.state.config, "").with_values(draft.changes)
        self.problems, changed = (), self.state.config
        try:
            if self.draft.changes:
                changed = self.state.changed(self.draft.changes)
        except ConfigError as error:
            self.problems = error.problems
        self._show(changed)

    def edit(self, draft: Draft, _group: object = None) -> None:
        """Take another value of a field."""
        self._check(draft)
        if not self._asked:
            self.note("")

    @act
    async def on_form_edit_requested(self, event: Form.EditRequested) -> None:
        """Edit a list of texts in a dialog."""
        await ask_value(self.context, self.form, event.row, title="Prompts")

    # keys

    def action_leave(self) -> None:
        """Close; a request that was sent stays. Values that weren't sent are dropped by a second
        key."""
        unsent = len(self.draft.changes)
        words = f"{counted(unsent, 'change')} not sent: F5 sends, esc again drops"
        if unsent and not self._asked and self._noted[0] != words:
            self.note(words, WARN)
        else:
            self.dismiss(None)

    def action_form(self, method: str, *arguments: object) -> None:
        """Call a method of the form."""
        getattr(self.form, method)(*arguments)

    @act
    async def action_confirm(self) -> None:
        """Send the change, if it is valid."""
        self.form.keep_typed()
        changes = self.draft.changes
        if self.problems and not self._asked:
            self.form.go_to(field_of(self.problems[0]))
            self.note("✗ not sent: fix the problem first", BAD)
            return
        settings = (
            f"{path.rpartition('.')[2]} {value_text(path, value)}"
            for path, value in changes.items()
        )
        words = f"requested: {', '.join(settings)} …"
        refusal = "" if changes else "nothing is changed yet"
        await self._send(words, refusal, lambda: client.steering.steer(self._run, changes))

    @act
    async def action_undo(self) -> None:
        """Undo the newest change of the run."""
        words = "requested: undo the last change …"
        refusal = "" if self._can_undo else "no change to undo"
        await self._send(words, refusal, lambda: client.control.send(self._run, "undo"))

    async def _send(self, words: str, refusal: str, send: Callable[[], CommandResult]) -> None:
        """Send a change, unless there is a reason not to, and show the answer; on the pane once
        this is closed."""
        app, run = self.context, self._run
        if self._asked or refusal:
            busy = "requested already: waiting for the worker"
            self.note(busy if self._asked else refusal, WARN)
            return
        self._asked = True
        self.note(words, WARN)
        try:
            result = await app.wait_for(send)
            state = await app.wait_for(lambda: client.steering.read_steering(run))
        except (RnnlmError, OSError) as error:
            if not self.is_open:
                raise
            self.note(f"✗ {in_one_sentence(error)}", BAD)
            if isinstance(error, ConfigError):
                self.problems = error.problems
                self._show(self.state.config)
                self.note("✗ refused: see the field", BAD)
            return
        finally:
            self._asked = False
        words = confirmed_text(result, state.config.checkpoint)
        app.watcher.poll_now()
        if self.is_open:
            self._take_state(state)
            self.note(f"✓ {app.with_keys(words)}", GOOD)
        else:
            app.report(words)
