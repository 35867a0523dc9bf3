"""The config form, its list of sections, and a preview of the text as tokens.

The form has a row per field, in sections, and is edited with the keyboard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.strip import Strip
from textual.widgets import Static

from rnnlm_tui.errors import Problem
from rnnlm_tui.schema.config import SECTIONS
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.rules import RATE, dependent_fields
from rnnlm_tui.schema.validation import allowed_range
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, SELECTED, TEXT, TRAIN, WARN
from rnnlm_tui.tui.text import line, safe_text
from rnnlm_tui.tui.views.editing import DraftComparison
from rnnlm_tui.tui.views.form import (
    FORM_FIELDS,
    TITLES,
    Draft,
    advice_of,
    by_field,
    field_of,
    fields_of,
    idle_fields,
    value_at,
)
from rnnlm_tui.tui.widgets.form_row import FieldRow, FieldState, FoldRow, FormRow, focused_row
from rnnlm_tui.tui.widgets.panel import Panel, padded, segments_of

if TYPE_CHECKING:
    from rnnlm_tui.client.corpora import Preview
    from rnnlm_tui.tui.app import RnnlmApp


def form_legend(
    draft: Draft,
    problems: Sequence[Problem],
    section: str | None,
    new_key: str,
) -> Content:
    """Return `● 2 changed  ✗ 1 problem` of a section, or of all (None), and a hint if frozen.

    Args:
        new_key: the key for a new run from a frozen config; empty for a draft.
    """
    begins = "" if section is None else f"{section}."
    changed = sum(path.startswith(begins) for path in draft.changes)
    wrong = sum(field_of(problem).startswith(begins) for problem in problems)
    parts = []
    if new_key:
        parts.append(line("frozen  {} makes a new run from it", (new_key, f"bold {TEXT}")))
    if changed:
        parts.append(Content.assemble(CHANGED, (f" {changed} changed", DIM)))
    if wrong:
        parts.append(Content.styled(f"✗ {counted(wrong, 'problem')}", BAD))
    return Content("  ").join(parts)


CHANGED, WRONG = ("●", WARN), ("✗", BAD)
"""The marks of a section's changes and problems."""


class SectionList(Panel):
    """One line per section; a click opens it."""

    class Chosen(Message):
        """A section was clicked."""

        def __init__(self, section: str) -> None:
            super().__init__()
            self.section = section
            """The section's name."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Sections", id=id)
        self._current = SECTIONS[0]
        self._marks: Mapping[str, tuple[str, str]] = {}
        """Sections with changes or problems: their sign and its colour."""

    def show(self, draft: Draft, problems: Sequence[Problem], current: str) -> None:
        """Show which sections have changes and problems, and which one is open."""
        marked = [(path, CHANGED) for path in draft.changes]
        marked += [(field_of(problem), WRONG) for problem in problems]
        self._marks = {path.partition(".")[0]: mark for path, mark in marked}
        self._current = current
        self.redraw()

    def content_line(self, y: int, width: int) -> Strip:
        """Return a section's line, or the legend of the marks at the bottom."""
        if y < len(SECTIONS):
            return self._section_line(SECTIONS[y], width)
        foot = [
            Content.assemble(mark, (f" {word}", DIM))
            for mark, word in ((CHANGED, "changed"), (WRONG, "problem"))
        ]
        index = y - (self.inner_size.height - len(foot))
        return padded(segments_of(foot[index]) if index >= 0 else [], width)

    def _section_line(self, section: str, width: int) -> Strip:
        here = section == self._current
        mark, colour = self._marks.get(section, (" ", TEXT))
        back, style = (f" on {SELECTED}", f"bold {BRIGHT}") if here else ("", TEXT)
        line = Content.assemble(
            (mark, f"{colour}{back}"),
            ("› " if here else "  ", f"{TRAIN}{back}"),
            (section.capitalize().ljust(max(0, width - 3)), f"{style}{back}"),
        )
        return padded(segments_of(line), width)

    def on_click(self, event: Click) -> None:
        if 1 <= event.y <= len(SECTIONS):
            self.post_message(self.Chosen(SECTIONS[event.y - 1]))


INDENT = 3
MOST_LINES, MOST_CELLS = 5, 400
"""The most lines of a preview, and the most cells of a line, which is cut to the width."""


class TextPreview(Static):
    """The layout and its reason, then the first lines; neighbouring tokens differ in colour."""

    DEFAULT_CSS = f"""
    TextPreview {{ margin: 1 0 0 0; color: {palette.TEXT}; display: none;
        text-wrap: nowrap; text-overflow: ellipsis; }}
    TextPreview.-shown {{ display: block; }}
    """

    _preview: Preview | None = None

    def show(self, preview: Preview | None) -> None:
        """Show a preview, or nothing."""
        if preview != self._preview:
            self._preview = preview
            self.set_class(preview is not None, "-shown")
            lines = preview_lines(preview, MOST_CELLS, apart=self.app.no_color) if preview else []
            self.update(Content("\n").join(lines))


def preview_lines(
    preview: Preview, width: int, *, apart: bool = False, height: int = 0
) -> list[Content]:
    """Return two lines about the text, then its first lines, cut to `width`.

    Args:
        apart: put a bar between tokens, for terminals without colours.
        height: show all lines in full, wrapped, in at most as many rows; 0: each in one row.
    """
    reason = f": {safe_text(preview.reason, newlines='space')}" if preview.reason else ""
    layout = Content.styled(preview.layout, f"bold {palette.BRIGHT}")
    head = line("   layout {}{}", layout, Content.styled(reason, palette.DIM))
    unit = "tokens" if preview.exact else "words, until the tokenizer is built"
    if preview.trained_on:
        unit = f"tokens of a tokenizer trained on {preview.trained_on}"
    lines = [head, Content.styled(f"{' ' * INDENT}first lines as {unit}", palette.DIM)]
    if height:
        indent = Content(" " * INDENT)
        for pieces in preview.lines:
            whole = _line(pieces, width * height, apart=apart)
            lines += [indent + row for row in whole.wrap(width - INDENT)]
        return [line.truncate(width, ellipsis=True) for line in lines[:height]]
    lines += [
        Content.assemble(" " * INDENT, _line(pieces, width - INDENT, apart=apart))
        for pieces in preview.lines[:MOST_LINES]
    ]
    return [line.truncate(width, ellipsis=True) for line in lines]


def _line(pieces: tuple[str, ...], width: int, *, apart: bool) -> Content:
    from rnnlm_tui.client.corpora import visible

    colours = (palette.TEXT, palette.TRAIN)
    parts: list[Content] = []
    used = 0
    for index, piece in enumerate(pieces):
        if used > width:
            break
        shown = safe_text(visible(piece))
        parts.append(Content.styled(f"|{shown}" if apart and index else shown, colours[index % 2]))
        used += cell_len(shown) + apart
    return Content("").join(parts)


PREVIEWED_SECTIONS = ("corpus", "tokenizer")
"""Sections whose fields affect the preview of the text."""


class FormSection(Vertical):
    """The rows of one section."""


class ConfigForm(VerticalScroll, can_focus=False, inherit_bindings=False):
    """All fields of a draft: one section at a time, or all in one column with the class `-wide`."""

    DEFAULT_CSS = """
    ConfigForm { height: 1fr; padding: 0 1; scrollbar-size-vertical: 1; }
    ConfigForm FormSection { height: auto; display: none; }
    ConfigForm FormSection.-current { display: block; }
    ConfigForm.-wide FormSection { display: block; margin: 0 0 1 0; }
    ConfigForm.-wide #section-tokenizer TextPreview { display: none; }
    ConfigForm.-compared FormSection { display: block; margin: 0; }
    ConfigForm.-compared TextPreview { display: none; }
    ConfigForm #nothing { height: auto; color: #808080; display: none; }
    """

    class FocusMoved(Message):
        """Another field or section got the focus."""

    class EditRequested(Message):
        """A field needs a dialog: a choice, or a list of texts."""

        def __init__(self, row: FieldRow) -> None:
            super().__init__()
            self.row = row
            """The field's row."""

    def __init__(
        self,
        draft: Draft,
        edit: Callable[[Draft, str], None],
        *,
        wide: bool = False,
        id: str | None = None,
    ) -> None:
        """Show a draft.

        Args:
            edit: called at once with each changed draft, which it shows; a message would come
                after the next refresh, which brings the former draft back. Its second argument is
                the same for all keys typed into an editor while it is open; else empty.
        """
        super().__init__(id=id, classes="-wide" if wide else None)
        self.draft = draft
        self._edit = edit
        self.section = SECTIONS[0]
        self.problems: tuple[Problem, ...] = ()
        self._locked = False
        self._facts: Mapping[str, str] = {}
        self._unfolded: set[str] = set()
        """Sections whose fields without effect are shown."""
        self._comparison: DraftComparison | None = None
        """Only fields that differ from this config are shown; None: all fields."""
        self._editors = 0
        """Editors opened so far."""

    def compose(self) -> ComposeResult:
        states = self._states({})
        yield Static(id="nothing", markup=False)
        for section in SECTIONS:
            with FormSection(
                id=f"section-{section}", classes="-current" if section == self.section else None
            ):
                for field in fields_of(section):
                    row = FieldRow(field, states[field.path], self)
                    row.set_class(self.has_class("-wide"), "-lead")
                    yield row
                fold = FoldRow(section, self)
                fold.set_class(self.has_class("-wide"), "-lead")
                yield fold
                if section in PREVIEWED_SECTIONS:
                    yield TextPreview()

    def row(self, path: str) -> FieldRow:
        """The row of a field."""
        return self.query_one(f"#field-{path.replace('.', '-')}", FieldRow)

    @property
    def current(self) -> FieldRow | None:
        """The field that has the focus, itself or in its editor."""
        return focused_row(self.screen.focused, FieldRow)

    @property
    def path(self) -> str:
        """The path of that field; empty if there is none."""
        return "" if self.current is None else self.current.field.path

    @property
    def _stop(self) -> FormRow | None:
        """The focused row, of those that the arrow keys visit."""
        return focused_row(self.screen.focused, FormRow)

    @property
    def editing(self) -> bool:
        """Whether a field's editor is open."""
        row = self.current
        return row is not None and row.editing

    def _stops(self, section: str | None = None) -> list[FormRow]:
        """Return the visible rows of a section, or of all sections."""
        rows = self.query(FormRow)
        return [row for row in rows if row.display and section in (None, row.section)]

    def show(
        self,
        draft: Draft,
        problems: tuple[Problem, ...],
        *,
        locked: bool = False,
        facts: Mapping[str, str] | None = None,
        preview: Preview | None = None,
        comparison: DraftComparison | None = None,
    ) -> None:
        """Show a draft, its problems, `facts` by path and a `preview` of its text.

        Args:
            comparison: show only the fields that differ from this config.
        """
        self.draft, self.problems, self._locked, self._facts = draft, problems, locked, facts or {}
        self._compare(comparison)
        self._refresh_rows()
        for shown in self.query(TextPreview):
            shown.show(preview)

    def _compare(self, comparison: DraftComparison | None) -> None:
        """Show all fields, or those that differ; the focus goes to one that is shown."""
        if comparison == self._comparison:
            return
        self._comparison = comparison
        self.set_class(comparison is not None, "-compared")
        row = self.current
        if comparison is None or row is None:
            return
        differing = comparison.differing(self.draft)
        if row.field.path not in differing:
            first = next((field.path for field in FORM_FIELDS if field.path in differing), None)
            if first is None:
                self.screen.set_focus(None)
            else:
                self.go_to(first)

    def _refresh_rows(self) -> None:
        """Update every row, and fold the fields without effect into one row.

        In a comparison, only fields that differ are shown.
        """
        states = self._states(self._facts)
        only = None if self._comparison is None else self._comparison.differing(self.draft)
        for section in SECTIONS:
            fields = fields_of(section)
            folded = [
                states[field.path].idle
                for field in fields
                if only is None and self._folds(states[field.path])
            ]
            is_open, heads = section in self._unfolded, True
            for field in fields:
                row, state = self.row(field.path), states[field.path]
                row.display = row is self.current or (
                    field.path in only if only is not None else is_open or not self._folds(state)
                )
                row.show(replace(state, heads=heads and row.display))
                heads = heads and not row.display
            self.query_one(f"#fold-{section}", FoldRow).show(folded, is_open=is_open)
        nothing = self.query_one("#nothing", Static)
        nothing.display = only is not None and not only
        if nothing.display and self._comparison is not None:
            name = safe_text(self._comparison.name, newlines="space", limit=40)
            other = cast("RnnlmApp", self.app).with_keys("{key:next_comparison} shows other")
            nothing.update(Content(f"   No field differs from {name}: {other} comparisons."))

    @staticmethod
    def _folds(state: FieldState) -> bool:
        """Whether a field is folded: it has no effect, no change and no problem."""
        return bool(state.idle) and not state.changed and state.problem is None

    def on_resize(self) -> None:
        """Keep the focused field and its editor visible."""
        row = self.current
        if row is not None:
            self.call_after_refresh(row.scroll_visible, animate=False)

    def set_wide(self, wide: bool) -> None:
        """Show all sections in one column, or one at a time."""
        if wide == self.has_class("-wide"):
            return
        self.set_class(wide, "-wide")
        for row in self.query(FormRow):
            row.set_class(wide, "-lead")

    def open_section(self, section: str) -> None:
        """Open a section and focus its first field."""
        self._show_section(section)
        if stops := self._stops(section):
            self.screen.set_focus(stops[0])
        self.post_message(self.FocusMoved())

    def _show_section(self, section: str) -> None:
        self.section = section
        for candidate in self.query(FormSection):
            candidate.set_class(candidate.id == f"section-{section}", "-current")

    def go_to(self, path: str) -> None:
        """Focus a field."""
        row = self.row(path)
        row.display = True  # stays visible until it loses the focus, even if folded
        self._focus(row)

    def move(self, direction: int) -> None:
        """Move to the field below (1) or above (-1), across sections."""
        stops, here = self._stops(), self._stop
        if here is None or here not in stops:
            first = self._stops(self.section) or stops
            if first:
                self._focus(first[0])
            return
        target = stops.index(here) + direction
        if 0 <= target < len(stops):
            self._focus(stops[target])

    def _focus(self, stop: FormRow) -> None:
        self._show_section(stop.section)
        self.screen.set_focus(stop)

    def move_section(self, direction: int) -> None:
        """Move to the next (1) or previous (-1) section, wrapping around."""
        sections = [section for section in SECTIONS if self._stops(section)]
        if not sections:
            return
        if self._stop is None or self.section not in sections:
            self.open_section(self.section if self.section in sections else sections[0])
        else:
            here = sections.index(self.section)
            self.open_section(sections[(here + direction) % len(sections)])

    def edit(self) -> None:
        """Handle enter: toggle a switch, edit, request a dialog, or unfold folded fields."""
        stop, row = self._stop, self.current
        if stop is None:
            self.move(1)
        elif row is None:
            self._unfolded ^= {stop.section}
            self._refresh_rows()
        elif (
            self._locked
            or row.field.kind == "list"
            or (row.field.kind == "choice" and len(row.field.choices) > 1)
        ):
            self.post_message(self.EditRequested(row))
        elif row.field.kind == "switch":
            self.turn(1)
        elif row.field.kind != "choice":
            self._editors += 1
            row.open_editor()

    def keep_typed(self) -> None:
        """Close the open editor, if there is one, and keep its text."""
        if self.current is not None:
            self.current.keep_typed()

    def turn(self, direction: int) -> None:
        """Select the next (1) or previous (-1) value of a choice or switch."""
        row = self.current
        if row is None or self._locked or row.editing:
            return
        choices: Sequence[object] = row.field.choices
        if row.field.kind == "switch":
            choices = (False, True)
        if choices:
            value = row.state.value
            here = choices.index(value) if value in choices else 0
            self.set_values({row.field.path: choices[(here + direction) % len(choices)]})

    def reset(self) -> None:
        """Reset the focused field to the base's value."""
        row = self.current
        if row is not None and not self._locked:
            self._take(self.draft.without(row.field.path))

    def next_problem(self) -> None:
        """Go to the next field with a problem, wrapping around."""
        order = [field.path for field in FORM_FIELDS]
        wrong = sorted(order.index(path) for path in by_field(self.problems) if path in order)
        if wrong:
            here = order.index(self.path) if self.path else -1
            self.go_to(order[next((at for at in wrong if at > here), wrong[0])])

    def set_values(self, values: Mapping[str, object]) -> None:
        """Set values by path in one edit."""
        self._take(self.draft.with_values(values))

    def take(self, path: str, value: object) -> None:
        """Take the value in a row's editor, or that from before it was cancelled."""
        self._take(self.draft.with_value(path, value), f"{path} {self._editors}")

    def on_descendant_focus(self) -> None:
        stop = self._stop
        if stop is None:
            return
        self._refresh_rows()
        if stop.section != self.section:
            self._show_section(stop.section)
        self.post_message(self.FocusMoved())
        self.call_after_refresh(self._show_beginning, stop)

    def _show_beginning(self, row: FormRow) -> None:
        """Scroll from the section's last field or fold to the preview of the text, if both fit."""
        fields = [stop for stop in self._stops(row.section) if isinstance(stop, FieldRow)]
        if not isinstance(row, FoldRow) and row not in fields[-1:]:
            return
        for preview in self.query_one(f"#section-{row.section}").query(TextPreview):
            if (
                preview.display
                and preview.region.bottom - row.region.y <= self.scrollable_content_region.height
            ):
                preview.scroll_visible(animate=False)

    def _take(self, draft: Draft, group: str = "") -> None:
        if draft != self.draft:
            self._edit(draft, group)

    def _states(self, facts: Mapping[str, str]) -> dict[str, FieldState]:
        wrong = by_field(self.problems)
        idle = idle_fields(self.draft.nearest_config())
        other = self._comparison
        return {
            field.path: FieldState(
                value=self.draft.value(field.path),
                base=value_at(self.draft.base, field.path),
                changed=field.path in self.draft.changes,
                problem=wrong.get(field.path),
                locked=self._locked,
                idle=idle.get(field.path, ""),
                fact=facts.get(field.path, ""),
                allowed=allowed_range(
                    RATE, {"optimizer": {"algorithm": self.draft.value("optimizer.algorithm")}}
                )
                if field.path == RATE
                else field.allowed,
                other=None if other is None else (other.label, value_at(other.config, field.path)),
                related=tuple(TITLES[path] for path in dependent_fields(field.path)),
                advice=advice_of(wrong.get(field.path)),
            )
            for field in FORM_FIELDS
        }
