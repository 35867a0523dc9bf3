"""A row of the config form: label, value, problem or note, and an editor in the value's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeVar, cast

from textual.app import RenderResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.widget import Widget
from textual.widgets import Input

from rnnlm_tui.errors import Problem
from rnnlm_tui.tui import palette
from rnnlm_tui.tui._textual import OrderedKeys
from rnnlm_tui.tui.text import safe_content
from rnnlm_tui.tui.views.form import (
    EMPTY_WORDS,
    PATH_FIELDS,
    FormField,
    edited_value,
    fold_words,
    read_value,
    short_message,
    shown_value,
    with_titles,
)
from rnnlm_tui.tui.widgets.text_field import SafeInput

if TYPE_CHECKING:
    from rnnlm_tui.tui.app import RnnlmApp

LEAD, MARK, LABEL, CURSOR, BOX = 14, 2, 15, 1, 13
"""Widths of a row's parts: section (wide form only), change mark, label, `›`, value."""
KEY_COLUMN, KEY_GAP = 60, 2
"""A row with as many cells, without the section, may have its key name at the right edge, so many
cells behind its notes."""


@dataclass(frozen=True, slots=True)
class FieldState:
    """What a row shows of its field."""

    value: object
    base: object
    changed: bool = False
    problem: Problem | None = None
    locked: bool = False
    """The run exists, so nothing can be changed."""
    idle: str = ""
    """Why the field has no effect in this config, `sentence mode only`; empty if it has one."""
    fact: str = ""
    """What is known about the value: `57 addresses, 1.9 MB`."""
    allowed: str = ""
    """A number's bounds, given the rest of the config."""
    heads: bool = False
    """Whether it is its section's first visible field, which shows the section's name."""
    other: tuple[str, object] | None = None
    """Name and value of the config that the draft is compared with; None: it isn't."""
    related: tuple[str, ...] = ()
    """Titles of the fields that this one depends on, or that depend on it."""
    advice: str = ""
    """What the key for adjustments would change: `hidden size 256`; empty: nothing."""


class FieldHost(Protocol):
    """The form that contains the rows: takes their values and moves between them."""

    def take(self, path: str, value: object) -> None:
        """Take the editor's value, on each key, or that from before the editor opened."""

    def move(self, direction: int) -> None:
        """Move to the row above (-1) or below (1)."""

    def move_section(self, direction: int) -> None:
        """Move to the previous (-1) or next (1) section."""

    def edit(self) -> None:
        """Handle enter or a second click on the focused row."""


class FieldEditor(OrderedKeys, SafeInput, can_focus=True):
    """The editor in a row's place: enter and arrow keys keep the text, escape restores it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "keep", show=False, id="edit_field"),
        Binding("up", "keep('move', -1)", show=False),
        Binding("down", "keep('move', 1)", show=False),
        Binding("tab", "complete", show=False),
        Binding("shift+tab", "keep('move_section', -1)", show=False),
        Binding("escape", "give_up", show=False, id="leave_field"),
    ]

    def __init__(self, row: FieldRow, text: str) -> None:
        super().__init__(text, classes="-wide-value" if row.field.kind == "text" else None)
        self._row = row

    def action_keep(self, move: str = "", by: int = 0) -> None:
        """Close, keep the text, and move on by a method of the form."""
        self._row.close_editor(self.value)
        if move:
            getattr(self._row.host, move)(by)

    async def action_complete(self) -> None:
        """Complete a path. Elsewhere, and with nothing to complete, keep the text and move on."""
        words = PATH_FIELDS.get(self._row.field.path)
        at_end = self.value and self.cursor_position == len(self.value)
        if words is None or not at_end or not await self.complete(words):
            self.action_keep("move_section", 1)

    def action_give_up(self) -> None:
        """Close without keeping the text."""
        self._row.close_editor(None)


class FormRow(OrderedKeys, Widget, can_focus=True):
    """A row of a form that the arrow keys visit."""

    def __init__(self, section: str, host: FieldHost, *, id: str) -> None:
        super().__init__(id=id)
        self.section = section
        self.host = host

    @property
    def _lead(self) -> int:
        return LEAD if self.has_class("-lead") else 0

    def on_click(self, event: Click) -> None:
        if event.chain > 1:
            self.host.edit()


RowT = TypeVar("RowT", bound=FormRow)


def focused_row(focused: Widget | None, kind: type[RowT]) -> RowT | None:
    """Return the row of this kind that has the focus, itself or in its editor."""
    nodes = [] if focused is None else focused.ancestors_with_self
    return next((node for node in nodes if isinstance(node, kind)), None)


class FieldRow(FormRow):
    """A field in one line, with its help below while it has the focus."""

    DEFAULT_CSS = """
    FieldRow { height: 1; layout: horizontal; }
    FieldRow FieldEditor { width: 13; margin: 0 0 0 18; padding: 0 1; background: #303030;
        color: #eeeeee; }
    FieldRow FieldEditor.-wide-value { width: 1fr; }
    FieldRow.-lead FieldEditor { margin: 0 0 0 32; }
    """

    def __init__(self, field: FormField, state: FieldState, host: FieldHost) -> None:
        super().__init__(field.section, host, id=f"field-{field.path.replace('.', '-')}")
        self.field = field
        self.state = state
        self._editor: FieldEditor | None = None
        self._before: object = None
        """The value when the editor opened."""
        self._candidates = ""
        """Names that complete the path in the editor."""

    @property
    def editing(self) -> bool:
        """Whether the editor is open."""
        return self._editor is not None

    def show(self, state: FieldState) -> None:
        """Show another state; draw nothing if it is the same."""
        if state != self.state:
            self.state = state
            self._fit()

    def open_editor(self) -> None:
        """Open the editor and focus it at once, so that the next keys go to it."""
        if self._editor is None and not self.state.locked:
            self._before = self.state.value
            self._editor = FieldEditor(self, edited_value(self.field, self.state.value))
            self.mount(self._editor)
            self.screen.set_focus(self._editor)

    def close_editor(self, text: str | None) -> None:
        """Close the editor with its text, or restore the old value (None); focus the row."""
        if self._editor is None:
            return
        editor, self._editor, self._candidates = self._editor, None, ""
        if self.screen.focused is editor:
            self.screen.set_focus(self)
        editor.remove()
        if text is None:
            self.host.take(self.field.path, self._before)
        else:
            self._take(text)
        self._fit()

    def _take(self, text: str) -> None:
        """Give the form the editor's text, unless it still means the shown value."""
        if text != edited_value(self.field, self.state.value):
            self.host.take(self.field.path, read_value(self.field, text))

    def keep_typed(self) -> None:
        """Close the editor, if it is open, with its text."""
        if self._editor is not None:
            self.close_editor(self._editor.value)

    def on_safe_input_candidates(self, event: SafeInput.Candidates) -> None:
        """Show the names that complete the path, below the editor; empty: none."""
        event.stop()
        self._candidates = event.names if self.editing else ""
        self._fit()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if event.input is self._editor:
            self._candidates = ""
            self._take(event.value)

    def watch_has_focus(self, has_focus: bool) -> None:
        """Show the help while the row has the focus."""
        super().watch_has_focus(has_focus)
        self._fit()

    def on_descendant_blur(self) -> None:
        if self.screen.focused is not self._editor and self.app.screen is self.screen:
            self.keep_typed()

    def on_resize(self) -> None:
        self._fit()

    @property
    def _active(self) -> bool:
        return self.has_focus or self.editing

    def _fit(self) -> None:
        """Draw again, with as many lines as there are to show."""
        self.refresh()
        before, height = self.styles.height, 1 + len(self._lines_below())
        self.styles.height = height
        if self._active and (before is None or before.value != height):
            self.call_after_refresh(
                self.scroll_visible, animate=False
            )  # after the help has its lines

    def _lines_below(self) -> list[Content]:
        """Return the problem if it doesn't fit beside the value; with the focus, the help too."""
        field, state, problem = self.field, self.state, self.state.problem
        width = max(20, self.size.width - self._lead - MARK)
        if not self.size.width:
            return []
        if not self._active:
            if problem is None or self._fits_beside(problem):
                return []
            return list(_wrong(short_message(problem)).wrap(width))
        in_help = len(field.choices) < 2 or all(choice in field.help for choice in field.choices)
        allowed = state.allowed if in_help else ", ".join(field.choices)
        related = f"depends on {', '.join(state.related)}" if state.related else ""
        facts = (allowed, "" if self._key_fits else field.path, related)
        tail = "  ".join(filter(None, facts))
        whole = f"{field.help} {tail}".strip()
        words = [whole] if len(whole) <= width else [field.help, tail]
        lines = [Content.styled(text, palette.DIM) for text in words if text]
        if problem is not None:
            said = state.advice or not problem.hint or problem.hint == state.allowed
            hint = "" if said else f"; {problem.hint}"
            if state.advice:
                key = cast("RnnlmApp", self.app).with_keys("{key:adjust_field}")
                advice = (f" sets {state.advice}", palette.TEXT)
                lines.insert(0, Content.assemble((key, f"bold {palette.BRIGHT}"), advice))
            lines.insert(0, _wrong(with_titles(problem.message + hint)))
        if self._candidates:
            lines.insert(0, safe_content(self._candidates).stylize(palette.TEXT))
        return [wrapped for line in lines for wrapped in line.wrap(width)]

    def render(self) -> RenderResult:
        heads = self.section.capitalize() if self.state.heads else ""
        lead = (heads[: self._lead].ljust(self._lead), f"bold {palette.BRIGHT}")
        indent = " " * (self._lead + MARK)
        lines = [Content.assemble(lead, self._line()).truncate(self.size.width, ellipsis=True)]
        lines += [Content(indent) + line for line in self._lines_below()]
        return Content("\n").join(lines)

    def _line(self) -> Content:
        state, active = self.state, self._active
        bold = f"bold {palette.BRIGHT}"
        label_style = bold if active else palette.BASELINE if state.idle else palette.LABEL
        line = Content.assemble(
            ("● ", palette.WARN) if state.changed else "  ",
            (self.field.title[:LABEL].ljust(LABEL), label_style),
            ("›", f"bold {palette.TRAIN}") if active else " ",
            self._box(),
            self._notes(),
        )
        if not self._key_fits:
            return line
        gap = self.size.width - self._lead - line.cell_length - len(self.field.path) - 1
        colour = palette.DIM if active else palette.FAINT
        return line + Content(" " * gap) + Content.styled(self.field.path, colour)

    @property
    def _key_fits(self) -> bool:
        """Whether the key name of the command line has room at the row's right edge."""
        return (
            self.size.width - self._lead >= KEY_COLUMN
            and self._notes().cell_length + len(self.field.path) + KEY_GAP <= self._room
        )

    def _box(self) -> Content:
        state, field, active = self.state, self.field, self._active
        shown = shown_value(field, state.value)
        bold = f"bold {palette.BRIGHT}" if active else palette.TEXT
        colour = palette.BAD if state.problem else palette.DIM if state.idle or not shown else bold
        background = palette.SELECTED if active else palette.FIELD
        opens = field.kind == "choice" and len(field.choices) > 1 and not state.locked
        room = BOX - 3 if opens else BOX - 1
        text = safe_content(shown or self._shown(None)).plain.replace("\n", " ")
        if len(text) > room:
            is_text = field.kind == "text"
            text = f"…{text[len(text) - room + 1 :]}" if is_text else f"{text[: room - 1]}…"
        return Content.assemble(
            (f" {text.ljust(room)}", f"{colour} on {background}"),
            (" ▾" if opens else "", f"{palette.TEXT} on {background}"),
        )

    def _shown(self, value: object) -> str:
        """Return a value of this field, or what an empty one means."""
        return shown_value(self.field, value) or EMPTY_WORDS.get(self.field.path, "empty")

    @property
    def _room(self) -> int:
        """Cells to the right of the value."""
        return max(0, self.size.width - self._lead - MARK - LABEL - CURSOR - BOX - 1)

    def _fits_beside(self, problem: Problem) -> bool:
        return _wrong(short_message(problem)).cell_length <= self._room

    def _notes(self) -> Content:
        state, room = self.state, self._room
        unit = Content.styled(self.field.unit, palette.DIM) if self.field.unit else Content("")
        note = Content("")
        if state.problem is not None:
            if not self._active and self._fits_beside(state.problem):
                note = _wrong(short_message(state.problem))
        else:
            text = state.idle or state.fact
            if state.other is not None:
                text = f"{state.other[0]} {self._shown(state.other[1])}"
            elif state.changed:
                text = f"was {self._shown(state.base)}"
            note = safe_content(text, newlines="space").stylize(palette.DIM)
        if not note.plain:
            return Content(" ") + unit
        gap = 2 if len(unit.plain) + 2 + note.cell_length <= room else 1
        if not unit.plain or unit.cell_length + gap + note.cell_length > room:
            return Content(" ") + note.truncate(room, ellipsis=True)
        return Content(" ") + unit + Content(" " * gap) + note


def _wrong(words: str) -> Content:
    return Content.styled("✗ ", palette.BAD) + safe_content(words).stylize(palette.BAD)


class FoldRow(FormRow):
    """A row for a section's fields without effect: their number and why. Enter unfolds them."""

    DEFAULT_CSS = "FoldRow { height: 1; }"

    def __init__(self, section: str, host: FieldHost) -> None:
        super().__init__(section, host, id=f"fold-{section}")
        self._reasons: Sequence[str] = ()
        self._is_open = False
        self.display = False

    def show(self, reasons: Sequence[str], *, is_open: bool) -> None:
        """Show why each of the fields has no effect; hide the row if there are none."""
        self.display = bool(reasons)
        if (reasons, is_open) != (self._reasons, self._is_open):
            self._reasons, self._is_open = reasons, is_open
            self.refresh()

    def watch_has_focus(self, has_focus: bool) -> None:
        super().watch_has_focus(has_focus)
        self.refresh()

    def render(self) -> RenderResult:
        lead = " " * (self._lead + MARK)
        words = fold_words(self._reasons, self.size.width - len(lead) - 2, open=self._is_open)
        return Content.assemble(
            lead,
            ("› " if self.has_focus else "", f"bold {palette.TRAIN}"),
            (words, f"bold {palette.BRIGHT}" if self.has_focus else palette.DIM),
        )
