"""SteerScreen: a form that changes a live run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.events import Resize
from textual.getters import query_one

from rnnlm_tui import client
from rnnlm_tui.errors import ConfigError, RnnlmError, in_one_sentence
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui.palette import BAD, DIM, GOOD, TEXT, WARN
from rnnlm_tui.tui.screens.config_files import ask_value
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText, key_line
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.threads import act
from rnnlm_tui.tui.views.form import Draft, field_of
from rnnlm_tui.tui.views.steer import (
    STEER_FIELDS,
    checked,
    confirmed_text,
    consequence,
    plan_chart,
    request_text,
)
from rnnlm_tui.tui.widgets.chart import Chart
from rnnlm_tui.tui.widgets.form import Form
from rnnlm_tui.tui.widgets.panel import TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.client.steering import SteeringState
    from rnnlm_tui.schema.protocol import CommandResult
    from rnnlm_tui.store.paths import RunDirectory

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
        self.draft = checked(state, {})
        """The change being made."""
        self._asked = False
        """A change was sent and isn't answered yet."""
        self._noted = ("", DIM)
        """The line about the request, and its style."""

    def compose(self) -> ComposeResult:
        title = f"Settings of {self._run.name}, while it trains"
        with Vertical():
            with TitledContainer(title=title, classes="-highlighted"):
                yield Form(STEER_FIELDS, self.draft.form_draft, self.edit)
                yield OverlayText(id="steer-effect")
                yield OverlayText(id="steer-note")
            yield Chart(id="steer-plan")

    def on_mount(self) -> None:
        self.form.focus()
        self.query_one(Chart).show_all = True
        self._show()
        self.note("")
        self.set_interval(REFRESH_SECONDS, self._refresh)

    def on_resize(self, _event: Resize) -> None:
        self.note(*self._noted)

    # what is shown

    def _show(self) -> None:
        idle = {"training.epochs": "max steps decides"} if self.draft.epochs_idle else {}
        self.form.show(self.draft.form_draft, self.draft.problems, idle)
        self.query_one(Chart).show(plan_chart(self.draft))
        style = BAD if self.draft.problems else TEXT
        self.query_one("#steer-effect", OverlayText).update(
            safe_content(consequence(self.draft)).stylize(style)
        )

    def note(self, text: str, style: str = DIM) -> None:
        """Show one line about the request; empty: the keys."""
        self._noted = (text, style)
        room = max(20, min(104, self.app.size.width) - 4)
        keys = [key for key in KEYS if key[0] != "F6" or self.draft.can_undo]
        line = (
            safe_content(text, newlines="space").stylize(style).truncate(2 * room, ellipsis=True)
            if text
            else key_line(keys, room + 2, self.app)
        )
        self.query_one("#steer-note", OverlayText).update(line)

    def _refresh(self) -> None:
        """Read the run again, unless an answer is awaited."""
        if self.is_attached and not self._asked and self.app.screen is self:
            self.context.in_thread(
                lambda: client.steering.read_steering(self._run), self._take_state, lambda _: None
            )

    def _take_state(self, state: SteeringState) -> None:
        if not self.is_attached or self._asked:
            return
        if state.summary.status not in LIVING:
            self.note(f"the run isn't training any more: {state.summary.status}", WARN)
        if state != self.draft.state:
            self.draft = checked(state, self.draft.changes)
            self._show()

    def edit(self, draft: Draft, _group: str = "") -> None:
        """Take another value of a field; the run's own value is no change."""
        self.draft = checked(self.draft.state, draft.changes)
        self._show()
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
        draft = self.draft
        if draft.problems and not self._asked:
            self.form.go_to(field_of(draft.problems[0]))
            self.note("✗ not sent: fix the problem first", BAD)
            return
        words = f"requested: {request_text(draft)} …"
        refusal = "" if draft.changes else "nothing is changed yet"
        await self._send(words, refusal, lambda: client.steering.steer(self._run, draft.changes))

    @act
    async def action_undo(self) -> None:
        """Undo the newest change of the run."""
        words = "requested: undo the last change …"
        refusal = "" if self.draft.can_undo else "no change to undo"
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
            if not self.is_attached:
                raise
            self.note(f"✗ {in_one_sentence(error)}", BAD)
            if isinstance(error, ConfigError):
                self.draft = replace(self.draft, problems=error.problems, config=None)
                self._show()
                self.note("✗ refused: see the field", BAD)
            return
        finally:
            self._asked = False
        words = confirmed_text(result, state.config.checkpoint)
        app.watcher.poll_now()
        if self.is_attached:
            self._take_state(state)
            self.note(f"✓ {app.with_keys(words)}", GOOD)
        else:
            app.report(words)
