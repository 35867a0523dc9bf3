"""SteerScreen: a form that changes a live run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.events import Resize

from rnnlm_tui import client
from rnnlm_tui.errors import ConfigError, RnnlmError, in_one_sentence
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.schema.steering import value_of
from rnnlm_tui.tui.palette import BAD, DIM, GOOD, TEXT, WARN
from rnnlm_tui.tui.screens.choose import TextsScreen
from rnnlm_tui.tui.screens.overlay import Overlay, OverlayText, key_line
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.views.form import FormField, edited_value, value_at
from rnnlm_tui.tui.views.steer import (
    STEER_FIELDS,
    SteerDraft,
    checked,
    confirmed_text,
    consequence,
    plan_chart,
    request_text,
)
from rnnlm_tui.tui.widgets.chart import Chart
from rnnlm_tui.tui.widgets.form_row import FieldRow, FieldState
from rnnlm_tui.tui.widgets.panel import TitledContainer

if TYPE_CHECKING:
    from pydantic import JsonValue

    from rnnlm_tui.client.steering import SteeringState
    from rnnlm_tui.schema.protocol import CommandResult
    from rnnlm_tui.store.paths import RunDirectory

KEYS = (
    ("F5", "send"),
    ("↑ ↓", "field"),
    ("enter", "edit"),
    ("u", "reset field"),
    ("F6", "undo last change"),
    ("esc", "close"),
)
REFRESH_SECONDS = 1.0
"""Seconds between two reads of the run's step and settings, which another terminal may change."""


class SteerScreen(Overlay[None]):
    """The settings that can change while a run trains. It sends a change only when confirmed."""

    DEFAULT_CSS = """
    SteerScreen > Vertical { width: 104; max-width: 100%; height: 100%; max-height: 34;
        background: #121212; }
    SteerScreen TitledContainer { height: auto; background: #121212; }
    SteerScreen VerticalScroll { height: auto; max-height: 12; scrollbar-size-vertical: 1; }
    SteerScreen Chart { height: 1fr; min-height: 5; }
    SteerScreen OverlayText { height: 1; }
    SteerScreen #steer-note { height: auto; max-height: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", show=False),
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("enter", "edit", show=False),
        Binding("u", "reset", show=False),
        Binding("f5", "confirm", show=False),
        Binding("f6", "undo", show=False),
    ]

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
                with VerticalScroll(can_focus=False):
                    for field in STEER_FIELDS:
                        yield FieldRow(field, row_state(self.draft, field), self)
                yield OverlayText(id="steer-effect")
                yield OverlayText(id="steer-note")
            yield Chart(id="steer-plan")

    def on_mount(self) -> None:
        self._rows[0].focus()
        self.query_one(Chart).show_all = True
        self._show()
        self.note("")
        self.set_interval(REFRESH_SECONDS, self._refresh)

    def on_resize(self, _event: Resize) -> None:
        self.note(*self._noted)

    @property
    def _rows(self) -> list[FieldRow]:
        return list(self.query(FieldRow))

    @property
    def _current(self) -> FieldRow | None:
        focused = self.focused
        while focused is not None and not isinstance(focused, FieldRow):
            focused = cast("FieldRow | None", focused.parent)
        return focused

    # what is shown

    def _show(self) -> None:
        for row in self._rows:
            row.show(row_state(self.draft, row.field))
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
            self.draft = self.draft.with_state(state)
            self._show()

    # the rows' host

    def take_text(self, field: FormField, text: str) -> None:
        """Take the editor's text, on each key."""
        self._take(self.draft.with_text(field, text))

    def restore(self, field: FormField, value: object) -> None:
        """Restore the value from before the editor opened."""
        self._take(self.draft.with_value(field.path, value))

    def move(self, direction: int) -> None:
        """Move to the row above (-1) or below (1)."""
        rows, here = self._rows, self._current
        at = rows.index(here) + direction if here in rows else 0
        if 0 <= at < len(rows):
            self.set_focus(rows[at])

    def move_section(self, direction: int) -> None:
        """As `move`: there is one section."""
        self.move(direction)

    def edit(self) -> None:
        """Open the editor of the focused row; a list of texts has a dialog."""
        row = self._current
        if row is None or row.editing:
            return
        if row.field.kind != "list":
            row.open_editor()
        else:
            self.context.run_beside(self._edit_texts(row))

    async def _edit_texts(self, row: FieldRow) -> None:
        text = edited_value(row.field, row.state.value)
        answer = await self.context.ask(TextsScreen("Prompts", text))
        if answer is not None:
            self.take_text(row.field, answer)

    def _take(self, draft: SteerDraft) -> None:
        if draft != self.draft:
            self.draft = draft
            self._show()
            if not self._asked:
                self.note("")

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

    action_move, action_edit = move, edit

    def action_reset(self) -> None:
        """Take the focused field's change back."""
        row = self._current
        if row is not None:
            self.restore(row.field, value_of(self.draft.state.config, row.field.path))

    def action_confirm(self) -> None:
        """Send the change, if it is valid."""
        row = self._current
        if row is not None and row.editing:
            self.set_focus(row)
        if self._asked:
            self.note("requested already: waiting for the worker", WARN)
        elif self.draft.problems:
            path = self.draft.problems[0].path
            at = next((row for row in self._rows if path.startswith(row.field.path)), None)
            if at is not None:
                self.set_focus(at)
            self.note("✗ not sent: fix the problem first", BAD)
        elif not self.draft.changes:
            self.note("nothing is changed yet", WARN)
        else:
            words = f"requested: {request_text(self.draft)} …"
            self.context.run_beside(self._send(words, self.draft.changes))

    def action_undo(self) -> None:
        """Undo the newest change of the run."""
        if self._asked:
            self.note("requested already: waiting for the worker", WARN)
        elif not self.draft.can_undo:
            self.note("no change to undo", WARN)
        else:
            self.context.run_beside(self._send("requested: undo the last change …", None))

    async def _send(self, words: str, changes: Mapping[str, JsonValue] | None) -> None:
        """Send a change, or with None the undo, and show the answer; on the pane once closed."""
        app, run = self.context, self._run

        def work() -> CommandResult:
            if changes is None:
                return client.control.send(run, "undo")
            return client.steering.steer(run, changes)

        self._asked = True
        self.note(words, WARN)
        try:
            result = await app.wait_for(work)
        except (RnnlmError, OSError) as error:
            self._asked = False
            if not self.is_attached:
                raise
            self._show_refusal(error)
            return
        self._asked = False
        words = confirmed_text(result, self.draft.state.config.checkpoint)
        app.watcher.poll_now()
        if not self.is_attached:
            app.report(words)
            return
        self.note(f"✓ {words}", GOOD)
        self._refresh()

    def _show_refusal(self, error: RnnlmError | OSError) -> None:
        if isinstance(error, ConfigError):
            self.draft = self.draft.with_problems(error.problems)
            self._show()
            self.note("✗ refused: see the field", BAD)
        else:
            self.note(f"✗ {in_one_sentence(error)}", BAD)


def row_state(draft: SteerDraft, field: FormField) -> FieldState:
    """Return what the row of a field shows."""
    base = value_at(draft.state.config, field.path)
    changed = field.path in draft.changes
    idle = draft.epochs_idle and field.path == "training.epochs"
    return FieldState(
        value=draft.changes[field.path] if changed else base,
        base=base,
        changed=changed,
        problem=draft.problem_of(field.path),
        idle="max steps decides" if idle else "",
        allowed=field.allowed,
    )
