"""The rows of a form: a field with its value, problem or note, and a section's folded fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from textual.content import Content

from rnnlm_tui.errors import Problem
from rnnlm_tui.schema.validation import is_same
from rnnlm_tui.tui.palette import (
    BAD,
    BASELINE,
    BRIGHT,
    DIM,
    FAINT,
    FIELD,
    LABEL,
    SELECTED,
    TEXT,
    TRAIN,
    WARN,
)
from rnnlm_tui.tui.text import fitting, safe_content, safe_text
from rnnlm_tui.tui.views.form import (
    EMPTY_WORDS,
    FormField,
    short_message,
    shown_value,
    with_titles,
)

MARK, TITLE, CURSOR, BOX = 2, 15, 1, 13
"""Widths of a row's parts: change mark, title, `›`, value."""
BEFORE_BOX = MARK + TITLE + CURSOR
KEY_COLUMN, KEY_GAP = 60, 2
"""A row with as many cells may have its key name at the right edge, so many cells behind its
notes."""


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field and what is known of its value."""

    field: FormField
    value: object
    base: Any
    problem: Problem | None = None
    idle: str = ""
    """Why the field has no effect in this config, `sentence mode only`; empty if it has one."""
    locked: bool = False
    """The run exists, so nothing can be changed."""
    fact: str = ""
    """What is known about the value: `57 addresses, 1.9 MB`."""
    allowed: str = ""
    """A number's bounds, given the rest of the config."""
    other: tuple[str, object] | None = None
    """Name and value of the config that the draft is compared with; None: it isn't."""
    related: Sequence[str] = ()
    """Titles of the fields that this one depends on, or that depend on it."""
    advice: Content | None = None
    """What the key for adjustments would change: `A sets hidden size 256`; None: nothing."""

    @property
    def key(self) -> str:
        """What the form finds it by."""
        return self.field.path

    @property
    def section(self) -> str:
        return self.field.section

    @property
    def changed(self) -> bool:
        """Whether its value differs from the base's."""
        return not is_same(self.value, self.base)

    @property
    def folds(self) -> bool:
        """Whether it is folded: it has no effect, no change and no problem."""
        return bool(self.idle) and not self.changed and self.problem is None

    def draw(self, width: int, *, active: bool, candidates: str = "") -> list[Content]:
        """Return its lines: with the cursor (`active`), the help below.

        Args:
            candidates: names that complete the path in its editor.
        """
        path = self.field.path
        room = max(0, width - BEFORE_BOX - BOX - 1)
        short = Content("") if self.problem is None else _wrong(short_message(self.problem))
        is_beside = short.cell_length <= room
        notes = self._notes(short if is_beside and not active else Content(""), room)
        has_key = width >= KEY_COLUMN and notes.cell_length + len(path) + KEY_GAP <= room
        style = f"bold {BRIGHT}" if active else BASELINE if self.idle else LABEL
        line = Content.assemble(
            ("● ", WARN) if self.changed else "  ",
            (self.field.title.ljust(TITLE), style),
            ("›", f"bold {TRAIN}") if active else " ",
            self._box(active),
            notes,
        )
        if has_key:
            gap = width - line.cell_length - len(path) - 1
            line = Content.assemble(line, " " * gap, (path, DIM if active else FAINT))
        below = [] if is_beside else [short]
        if active:
            below = self._help(max(20, width - MARK), "" if has_key else path)
        if candidates:
            below.insert(0, safe_content(candidates).stylize(TEXT))
        wrapped = [part for text in below for part in text.wrap(max(20, width - MARK))]
        indent = Content(" " * MARK)
        return [line.truncate(width, ellipsis=True), *(indent + part for part in wrapped)]

    def _help(self, width: int, path: str) -> list[Content]:
        """Return problem, advice, help, bounds, the path if it isn't beside, and other fields."""
        field, problem = self.field, self.problem
        in_help = all(choice in field.help for choice in field.choices)
        allowed = self.allowed if in_help else ", ".join(field.choices)
        related = f"depends on {', '.join(self.related)}" if self.related else ""
        tail = "  ".join(filter(None, (allowed, path, related)))
        whole = f"{field.help} {tail}".strip()
        words = [whole] if len(whole) <= width else [field.help, tail]
        lines = [Content.styled(text, DIM) for text in words if text]
        if problem is None:
            return lines
        is_said = self.advice or not problem.hint or problem.hint == self.allowed
        hint = "" if is_said else f"; {problem.hint}"
        wrong = _wrong(with_titles(problem.message + hint))
        return [wrong, *([self.advice] if self.advice else []), *lines]

    def _box(self, active: bool) -> Content:
        field = self.field
        bold = f"bold {BRIGHT}" if active else TEXT
        is_dim = self.idle or not shown_value(field, self.value)
        colour = BAD if self.problem else DIM if is_dim else bold
        background = SELECTED if active else FIELD
        opens = field.kind == "choice" and not self.locked
        room = BOX - 3 if opens else BOX - 1
        text = safe_text(self._shown(self.value), newlines="space")
        if len(text) > room:
            is_text = field.kind == "text"
            text = f"…{text[len(text) - room + 1 :]}" if is_text else f"{text[: room - 1]}…"
        return Content.assemble(
            (f" {text.ljust(room)}", f"{colour} on {background}"),
            (" ▾" if opens else "", f"{TEXT} on {background}"),
        )

    def _shown(self, value: object) -> str:
        """Return a value of this field, or what an empty one means."""
        return shown_value(self.field, value) or EMPTY_WORDS.get(self.field.path, "empty")

    def _notes(self, problem: Content, room: int) -> Content:
        """Return unit and problem, or what else is known of the value, in `room` cells."""
        unit, note = Content.styled(self.field.unit, DIM), problem
        if self.problem is None:
            text = self.idle or self.fact
            if self.other is not None:
                text = f"{self.other[0]} {self._shown(self.other[1])}"
            elif self.changed:
                text = f"was {self._shown(self.base)}"
            note = safe_content(text, newlines="space").stylize(DIM)
        parts = fitting([part for part in (unit, note) if part.plain], room, 2)
        return Content(" ") + Content("  ").join(parts).truncate(room, ellipsis=True)


def _wrong(words: str) -> Content:
    return Content.styled("✗ ", BAD) + safe_content(words).stylize(BAD)


@dataclass(frozen=True, slots=True)
class FoldRow:
    """A row for a section's fields without effect: their number and why. Enter unfolds them."""

    section: str
    reasons: Sequence[str]
    is_open: bool

    @property
    def key(self) -> str:
        """What the form finds it by."""
        return self.section

    def draw(self, width: int, *, active: bool, candidates: str = "") -> list[Content]:  # noqa: ARG002
        """Return its line: `5 more for news, elman; greedy`."""
        number = f"hide {len(self.reasons)}" if self.is_open else f"{len(self.reasons)} more"
        words, reasons = number, list(dict.fromkeys(self.reasons))
        for count in range(len(reasons), 0, -1):
            only = [reason.removesuffix(" only") for reason in reasons[:count] if " only" in reason]
            rest = [reason for reason in reasons[:count] if " only" not in reason]
            kinds = [f"for {', '.join(only)}"] if only else []
            words = f"{number} {'; '.join([*kinds, *rest])}{', …' if count < len(reasons) else ''}"
            if len(words) <= width - MARK - 2:
                break
        cursor = ("› " if active else "", f"bold {TRAIN}")
        row = Content.assemble("  ", cursor, (words, f"bold {BRIGHT}" if active else DIM))
        return [row.truncate(width, ellipsis=True)]
