"""Forms that are edited with the keyboard: a row per field with a cursor, and an editor.

Also the config form's list of sections, and a preview of the text as tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.widgets import Input

from rnnlm_tui.errors import Problem
from rnnlm_tui.schema.config import SECTIONS, value_of
from rnnlm_tui.schema.rules import dependent_fields
from rnnlm_tui.schema.validation import ConfigField, allowed_range
from rnnlm_tui.tui._textual import OrderedKeys
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT, TRAIN, WARN
from rnnlm_tui.tui.text import line, safe_text, selected
from rnnlm_tui.tui.views.form import (
    BEFORE_BOX,
    FIELDS,
    PATH_FIELDS,
    Draft,
    FieldRow,
    FoldRow,
    adjustment_text,
    by_field,
    changed_fields,
    edited_value,
    read_value,
)
from rnnlm_tui.tui.widgets.panel import Line, LinesPanel
from rnnlm_tui.tui.widgets.text_field import SafeInput

if TYPE_CHECKING:
    from rnnlm_tui.client.corpora import Preview
    from rnnlm_tui.tui.app import RnnlmApp

Edit = Callable[[Draft, object], None]
"""Takes each changed draft at once, and shows it: a message would come after the next refresh,
which brings the former draft back. The second argument is the editor that it was typed into; else
None."""


class FieldEditor(OrderedKeys, SafeInput, can_focus=True):
    """The editor in a value's place: enter and arrow keys keep the text, escape restores it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "keep", show=False, id="edit_field"),
        Binding("up", "keep('move', -1)", show=False),
        Binding("down", "keep('move', 1)", show=False),
        Binding("tab", "complete", show=False),
        Binding("shift+tab", "keep('move_section', -1)", show=False),
        Binding("escape", "give_up", show=False, id="leave_field"),
    ]

    def __init__(self, form: Form, row: FieldRow) -> None:
        super().__init__(edited_value(row.field, row.value))
        self.row = row
        """The row as it was before."""
        self._form = form

    def action_keep(self, move: str = "", by: int = 0) -> None:
        """Close, keep the text, and move on by a method of the form."""
        self._form.close_editor(self.value)
        if move:
            getattr(self._form, move)(by)

    async def action_complete(self) -> None:
        """Complete a path. Elsewhere, and with nothing to complete, keep the text and move on."""
        words = PATH_FIELDS.get(self.row.key)
        at_end = self.value and self.cursor_position == len(self.value)
        if words is None or not at_end or not await self.complete(words):
            self.action_keep("move_section", 1)

    def action_give_up(self) -> None:
        """Close without keeping the text."""
        self._form.close_editor(None)


class FormLines(Line):
    """The lines of a form's rows, as many as there are for the width."""

    DEFAULT_CSS = "FormLines { height: auto; }"

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        """Lay out the form for this width (Textual's hook)."""
        form = cast(Form, self.parent)
        return form.drawn.height if width == form.drawn.width else form.lay_out(width)


LEAD = 14
"""Cells for the names of sections in one column."""
WITH_PREVIEW = ("corpus", "tokenizer")
"""Sections whose fields affect the preview of the text, shown below them."""


class Form(OrderedKeys, VerticalScroll, can_focus=True, inherit_bindings=False):
    """Fields of a draft, one a row; the row of the cursor has its help below.

    All fields are shown by sections, one at a time or all in one column, those without effect
    folded. Chosen `fields` are shown in one list.
    """

    DEFAULT_CSS = """
    Form { scrollbar-size-vertical: 1; }
    Form FieldEditor { position: absolute; width: 13; padding: 0 1; background: #303030;
        color: #eeeeee; }
    """

    class Moved(Message):
        """Another row has the cursor, or an editor was opened or closed."""

    @dataclass
    class EditRequested(Message):
        """A field needs a dialog: a choice, or a list of texts."""

        row: FieldRow

    def __init__(
        self, draft: Draft, edit: Edit, fields: Sequence[ConfigField] = (), *, id: str | None = None
    ) -> None:
        super().__init__(id=id)
        self.draft = draft
        self.problems: Sequence[Problem] = ()
        self.idle: Mapping[str, str] = {}
        """Why fields have no effect, by path."""
        self.facts: Mapping[str, str] = {}
        """What is known about values, by path."""
        self.preview: Preview | None = None
        """The first lines of the text."""
        self.locked = False
        """Whether nothing can be changed."""
        self.comparison: Draft | None = None
        """Only fields that differ from its base are shown; None: all fields."""
        self.lead = 0
        """Cells for names of sections, if all are shown; 0: only that of the cursor is shown."""
        self.at = ""
        """The key of the cursor's row; empty if there is no row."""
        self.rows: Sequence[FieldRow | FoldRow] = ()
        """The rows that the cursor visits."""
        self.editor: FieldEditor | None = None
        self._fields, self._edit = fields or tuple(FIELDS.values()), edit
        self._has_sections = not fields
        self._unfolded: set[str] = set()
        """Sections whose fields without effect are shown."""
        self._lines = FormLines()
        self.drawn = Size(0, 0)
        """Cells of a line, 0 before they are known, and lines."""
        self._places: dict[str, Region] = {}
        """The lines of each row that is drawn."""
        self._candidates = ""
        """Names that complete the path in the editor."""

    def compose(self) -> ComposeResult:
        yield self._lines

    # what is shown

    def show(self, draft: Draft, problems: Sequence[Problem], idle: Mapping[str, str]) -> None:
        """Show a draft, its problems, and which fields have no effect."""
        self.draft, self.problems, self.idle = draft, problems, idle
        self.redraw()

    def compare(self, comparison: Draft | None) -> None:
        """Show only fields that differ from a config; the cursor goes to one that is shown."""
        if comparison != self.comparison:
            self.comparison = comparison
            if comparison is not None and self.at not in changed_fields(comparison, self.draft):
                self.at = ""
            self._arrive()

    def _row(self, field: ConfigField, problem: Problem | None) -> FieldRow:
        """Return the row of a field, with all that is known of it."""
        path, other, advice = field.path, self.comparison, None
        with_help = self._has_sections and path == self.at
        optimizer = {"algorithm": self.draft.value("optimizer.algorithm")}
        if with_help and problem is not None and problem.adjustments:
            key = cast("RnnlmApp", self.app).with_keys("{key:adjust_field}")
            words = adjustment_text(problem.adjustments[0])
            advice = Content.assemble((key, f"bold {BRIGHT}"), (f" sets {words}", TEXT))
        return FieldRow(
            field,
            self.draft.value(path),
            value_of(self.draft.base, path),
            problem,
            self.idle.get(path, ""),
            self.locked,
            self.facts.get(path, ""),
            allowed_range(path, {"optimizer": optimizer}) if path == self.at else "",
            None if other is None else (other.label, value_of(other.base, path)),
            [FIELDS[each].title for each in dependent_fields(path)] if with_help else (),
            advice,
        )

    def _visited(self) -> Iterator[FieldRow | FoldRow]:
        """Yield the rows that the cursor visits; those without effect are folded into one.

        In a comparison, only fields that differ are visited.
        """
        compared, wrong = self.comparison, by_field(self.problems)
        only = None if compared is None else changed_fields(compared, self.draft)
        for section, fields in groupby(self._fields, key=lambda field: field.section):
            rows = [self._row(field, wrong.get(field.path)) for field in fields]
            folded = [row.idle for row in rows if row.folds and self._has_sections]
            is_open = section in self._unfolded or not folded
            for row in rows:
                shown = is_open or not row.folds if only is None else row.key in only
                if shown or row.key == self.at:
                    yield row
            if folded and only is None:
                yield FoldRow(section, folded, is_open)

    def redraw(self) -> None:
        """Draw all rows again."""
        width, height = self.drawn
        if width and self.lay_out(width) != height:
            self._lines.refresh(layout=True)
            if self.has_focus or self.editing:
                self.call_after_refresh(self._scroll)

    def lay_out(self, width: int) -> int:
        """Draw all rows, move the editor to its own, and return how many lines they take."""
        self.rows, self._places = list(self._visited()), {}
        keys, compared, preview = [row.key for row in self.rows], self.comparison, self.preview
        if self.at not in keys:
            keys.sort(key=lambda key: not key.startswith(self.section))
            self.at = next(iter(keys), "")
            self.rows = list(self._visited())
        lines: list[Content] = []
        if compared is not None and not keys:
            name = safe_text(compared.base_name, newlines="space", limit=40)
            other = cast("RnnlmApp", self.app).with_keys("{key:next_comparison} shows other")
            text = f"No field differs from {name}: {other} comparisons."
            lines += Content.styled(f"   {text}", DIM).wrap(width)
        for section, rows in groupby(self.rows, key=lambda row: row.section):
            if self._has_sections and not self.lead and section != self.section:
                continue
            head = Content.styled(section.capitalize(), f"bold {BRIGHT}")
            for row in rows:
                active = row.key == self.at and (self.has_focus or self.editing)
                names = self._candidates if active else ""
                drawn = row.draw(width - self.lead, active=active, candidates=names)
                self._places[row.key] = Region(0, len(lines), 1, len(drawn))
                for part in drawn:
                    lines.append(head.truncate(self.lead, pad=True) + part)
                    head = Content("")
            if compared is None and preview and section in WITH_PREVIEW[: 1 if self.lead else 2]:
                lines += [Content(""), *preview_lines(preview, width, apart=self.app.no_color)]
                for key in [*self._places][-2:]:  # the last field and a fold below it
                    top = self._places[key].y
                    self._places[key] = Region(0, top, 1, len(lines) - top)
            if compared is None and self.lead:
                lines.append(Content(""))
        self._lines.put(*lines)
        self.drawn = Size(width, len(lines))
        if self.editor is not None and self.at in self._places:
            before = self.lead + BEFORE_BOX
            self.editor.styles.offset = (before, self._places[self.at].y)
            if self.editor.row.field.kind == "text":
                self.editor.styles.width = max(1, width - before)
        return len(lines)

    # the cursor

    @property
    def current(self) -> FieldRow | None:
        """The field that has the cursor."""
        fields = (row for row in self.rows if isinstance(row, FieldRow))
        return next((row for row in fields if row.key == self.at), None)

    @property
    def path(self) -> str:
        """The path of the field that has the cursor; empty if there is none."""
        return self.at if "." in self.at else ""

    @property
    def section(self) -> str:
        """The section of the cursor's row."""
        return self.at.partition(".")[0]

    def go_to(self, key: str) -> None:
        """Move the cursor to a field or fold, which stays visible until it leaves."""
        self.keep_typed()
        self.at = key
        self.screen.set_focus(self)
        self._arrive()

    def move(self, direction: int) -> None:
        """Move to the row below (1) or above (-1)."""
        keys = [row.key for row in self.rows]
        at = keys.index(self.at) + direction if keys else -1
        if 0 <= at < len(keys):
            self.go_to(keys[at])

    def open_section(self, section: str) -> None:
        """Go to a section's first row."""
        self.go_to(next((row.key for row in self.rows if row.section == section), ""))

    def move_section(self, direction: int) -> None:
        """Move to the next (1) or previous (-1) section, wrapping around."""
        sections = list(dict.fromkeys(row.section for row in self.rows))
        if not self._has_sections:
            self.move(direction)
        elif sections:
            here = sections.index(self.section) + direction
            self.open_section(sections[here % len(sections)])

    def next_problem(self) -> None:
        """Go to the next field with a problem, wrapping around."""
        order, wrong = list(FIELDS), by_field(self.problems)
        here = order.index(self.path) + 1 if self.path else 0
        found = next((path for path in order[here:] + order[:here] if path in wrong), "")
        if found:
            self.go_to(found)

    def _arrive(self) -> None:
        self.redraw()
        self.post_message(self.Moved())
        self.call_after_refresh(self._scroll)

    on_descendant_focus = _arrive

    def watch_has_focus(self, has_focus: bool) -> None:
        """Show the help of the cursor's row while the form has the focus."""
        super().watch_has_focus(has_focus)
        self._arrive()

    def on_resize(self) -> None:
        self.call_after_refresh(self._scroll)

    def _scroll(self) -> None:
        """Show the cursor's row, and a line below it."""
        if (region := self._places.get(self.at)) is not None:
            height = min(region.height + 1, self.scrollable_content_region.height)
            shown = Region(0, region.y, 1, height)
            self.scroll_to_region(shown, animate=False, immediate=True)

    def on_click(self, event: Click) -> None:
        """Move to the clicked row; a second click edits."""
        y = event.screen_y - self._lines.region.y  # also of a click into the editor
        for key, region in reversed(self._places.items()):
            if region.y <= y < region.bottom:
                if key != self.at:
                    self.go_to(key)
                if event.chain > 1:
                    self.edit()
                return

    # edits

    @property
    def editing(self) -> bool:
        """Whether a field's editor is open."""
        return self.editor is not None

    def edit(self) -> None:
        """Handle enter: unfold fields, toggle a switch, edit, or request a dialog."""
        row = self.current
        if row is None:
            self._unfolded ^= {self.at}
            self.redraw()
            return
        if self.locked or row.field.kind in ("list", "choice"):
            self.post_message(self.EditRequested(row))
        elif row.field.kind == "switch":
            self.turn(1)
        elif self.editor is None:
            self.editor = FieldEditor(self, row)
            self.mount(self.editor)
            self.screen.set_focus(self.editor)  # at once, so that the next keys go to it

    def close_editor(self, text: str | None) -> None:
        """Close the editor with its text, or restore the old value (None)."""
        editor, self.editor, self._candidates = self.editor, None, ""
        if editor is None:
            return
        if self.screen.focused is editor:
            self.screen.set_focus(self)
        editor.remove()
        if text is None:
            self._change(self.draft.with_value(editor.row.key, editor.row.value), editor)
        else:
            self._read(editor, text)
        self.redraw()

    def keep_typed(self) -> None:
        """Close the editor, if it is open, with its text."""
        if self.editor is not None:
            self.close_editor(self.editor.value)

    def on_descendant_blur(self) -> None:
        if self.screen.focused is not self.editor and self.app.screen is self.screen:
            self.keep_typed()

    def on_safe_input_candidates(self, event: SafeInput.Candidates) -> None:
        """Show the names that complete the path, below the editor; empty: none."""
        event.stop()
        self._candidates = event.names if self.editing else ""
        self.redraw()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        if self.editor is not None and event.input is self.editor:
            self._candidates = ""
            self._read(self.editor, event.value)

    def _read(self, editor: FieldEditor, text: str) -> None:
        """Take the editor's text, unless it still means the shown value."""
        field = editor.row.field
        if text != edited_value(field, self.draft.value(field.path)):
            self._change(self.draft.with_value(field.path, read_value(field, text)), editor)

    def _change(self, draft: Draft, group: object = None) -> None:
        if draft != self.draft:
            self._edit(draft, group)

    def set_values(self, values: Mapping[str, object]) -> None:
        """Set values by path in one edit."""
        self._change(self.draft.with_values(values))

    def turn(self, direction: int) -> None:
        """Select the next (1) or previous (-1) value of a choice or switch."""
        row = self.current
        if row is None or self.locked or self.editing:
            return
        is_switch = row.field.kind == "switch"
        choices: Sequence[object] = (False, True) if is_switch else row.field.choices
        if choices:
            here = choices.index(row.value) if row.value in choices else 0
            self.set_values({row.key: choices[(here + direction) % len(choices)]})

    def reset(self) -> None:
        """Reset the field with the cursor to the base's value."""
        if self.path and not self.locked:
            self._change(self.draft.without(self.path))


CHANGED, WRONG = ("●", WARN), ("✗", BAD)
"""The marks of a section's changes and problems."""


class SectionList(LinesPanel):
    """One line per section, and the legend of the marks; a click opens a section."""

    def show_sections(self, marked: Sequence[tuple[str, tuple[str, str]]], current: str) -> None:
        """Show the marks of fields by section, a problem before a change, and which is open."""
        marks = {path.partition(".")[0]: mark for path, mark in marked}

        def lay_out(width: int, height: int) -> list[Content]:
            lines: list[Content] = []
            for section in SECTIONS:
                cursor, style = ("› ", f"bold {BRIGHT}") if section == current else ("  ", TEXT)
                name = (section.capitalize().ljust(max(0, width - 3)), style)
                row = Content.assemble(marks.get(section, " "), (cursor, TRAIN), name)
                lines.append(selected(row, width) if section == current else row)
            legend = [
                Content.assemble(mark, (f" {word}", DIM))
                for mark, word in ((CHANGED, "changed"), (WRONG, "problem"))
            ]
            return [*lines, *[Content("")] * (height - len(lines) - len(legend)), *legend]

        self.show(lay_out)

    async def on_click(self, event: Click) -> None:
        if 1 <= event.y <= len(SECTIONS):
            await self.run_action(f"screen.part('form', 'open_section', '{SECTIONS[event.y - 1]}')")


INDENT, MOST_LINES = 3, 5
"""The cells before a preview's lines, and how many of these there are."""


@lru_cache(maxsize=8)
def preview_lines(
    preview: Preview, width: int, *, apart: bool = False, height: int = 0
) -> list[Content]:
    """Return two lines about the text, then its first lines, cut to `width`.

    Args:
        apart: put a bar between tokens, for terminals without colours.
        height: show all lines in full, wrapped, in at most as many rows; 0: each in one row.
    """
    from rnnlm_tui.client.corpora import visible

    reason = f": {safe_text(preview.reason, newlines='space')}" if preview.reason else ""
    layout = Content.styled(preview.layout, f"bold {BRIGHT}")
    head = line("   layout {}{}", layout, Content.styled(reason, DIM))
    unit = "tokens" if preview.exact else "words, until the tokenizer is built"
    if preview.trained_on:
        unit = f"tokens of a tokenizer trained on {preview.trained_on}"
    lines = [head, Content.styled(f"{' ' * INDENT}first lines as {unit}", DIM)]
    for pieces in preview.lines if height else preview.lines[:MOST_LINES]:
        bar = "|" if apart else ""
        shown = Content.assemble(
            *(
                (f"{bar * bool(place)}{safe_text(visible(piece))}", (TEXT, TRAIN)[place % 2])
                for place, piece in enumerate(pieces)
            )
        )
        rows = shown.wrap(width - INDENT) if height else [shown]
        lines += [Content.assemble(" " * INDENT, row) for row in rows]
    return [line.truncate(width, ellipsis=True) for line in lines[: height or len(lines)]]
