"""The likeliest tokens at a position, as a list to choose from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message

from rnnlm_tui.schema.sampling import Alternative, Alternatives
from rnnlm_tui.tui._textual import OrderedKeys
from rnnlm_tui.tui.palette import BRIGHT, DIM, FOCUS, TEXT
from rnnlm_tui.tui.text import bar, safe_text, selected, sentence
from rnnlm_tui.tui.views.inspect import alternatives_title, bits_of, probability, token_label
from rnnlm_tui.tui.widgets.panel import Label, Panel, first_shown

TYPE_ROW = "type a token …"
LEAST_TOKEN = 6
"""Fewest cells of a token."""


class AlternativesList(OrderedKeys, Panel, can_focus=True):
    """The most likely tokens at a position, each before and after the filters."""

    LEFT_PADDING = 0
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "select(-1)", show=False),
        Binding("down", "select(1)", show=False),
        Binding("home", "select(-1000)", show=False),
        Binding("end", "select(1000)", show=False),
        Binding("enter", "choose", show=False),
    ]

    @dataclass
    class Chosen(Message):
        """An alternative was chosen, or None: the user wants to type a token."""

        alternative: Alternative | None

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Alternatives", id=id)
        self.answer: Alternatives | None = None
        """The alternatives shown; None until they are known."""
        self._selected = 0
        self._top = 0
        self._facts: tuple[Content, ...] = ()
        self._words, self._trouble = "", False

    @property
    def rows(self) -> tuple[Alternative, ...]:
        """The alternatives, and the taken token if it isn't one of them."""
        if self.answer is None:
            return ()
        rows, taken = self.answer.rows, self.answer.taken
        others = taken is not None and all(row.token != taken.token for row in rows)
        return (*rows, taken) if taken is not None and others else rows

    def show(self, answer: Alternatives | None, facts: Sequence[Content] = ()) -> None:
        """Show the alternatives at a position; `facts` are below them if there is room."""
        changed = answer is None or self.answer is None or answer.position != self.answer.position
        if changed:
            self._selected = self._top = 0
        self.answer, self._facts, self._words = answer, tuple(facts), ""
        if answer is not None:
            self.set_reactive(Panel.panel_title, alternatives_title(answer))
        self.redraw()

    def show_words(self, words: str, *, trouble: bool = False) -> None:
        """Show a sentence in place of alternatives: what is waited for, or what went wrong."""
        self.answer, self._words, self._trouble = None, words, trouble
        self.set_reactive(Panel.panel_title, "Alternatives")
        self.redraw()

    def on_focus(self) -> None:
        """Begin at the first row."""
        self._selected = self._top = 0
        self.redraw()

    def action_select(self, by: int) -> None:
        """Move the selection."""
        if self.rows:
            self._selected = max(0, min(len(self.rows), self._selected + by))
            self.redraw()

    def action_choose(self) -> None:
        """Choose the selected row."""
        if self.rows:
            chosen = self.rows[self._selected] if self._selected < len(self.rows) else None
            self.post_message(self.Chosen(chosen))

    # drawing

    def prepare(self, width: int, height: int) -> None:
        """Lay out the rows, then the facts at the bottom."""
        self.hidden = (0, 0)
        if not self.rows:
            self.lines = sentence(self._words, width - 4, self._trouble, indent=2)
            return
        rows = len(self.rows) + 1
        facts = self._facts if height >= rows + len(self._facts) else ()
        room = height - len(facts)
        self._top = first_shown(self._top, self._selected, room, rows) if self.has_focus else 0
        if self.has_focus:
            self.hidden = self._top, rows - self._top - height
        lines = self._table(width)[self._top : self._top + room]
        blanks = [Content("")] * (height - len(lines) - len(facts))
        self.lines = [*lines, *blanks, *(Content.assemble("  ", fact) for fact in facts)]

    def _table(self, width: int) -> list[Content]:
        ranks = max(2, *(len(f"{row.rank:,}") for row in self.rows))
        labels = [token_label(row.text) for row in self.rows]
        room = width - ranks - self._after_cells - 16
        longest = max(LEAST_TOKEN, *(cell_len(label) for label in labels))
        token_cells = min(longest, max(LEAST_TOKEN, room * 2 // 3))
        bar_cells = max(0, room - token_cells - 1)
        best = max(row.probability for row in self.rows) or 1.0
        chosen = None if self.answer is None else self.answer.taken
        lines = []
        for place, (row, label) in enumerate(zip(self.rows, labels, strict=True)):
            here = self.has_focus and place == self._selected
            taken = chosen is not None and chosen.token == row.token
            value = f"bold {FOCUS}" if taken else DIM if row.removed_by else TEXT
            word = f"bold {BRIGHT}" if here and value == TEXT else value
            aside = value if taken else DIM
            number, _, percent = probability(row.probability).partition(" ")
            after = row.removed_by or probability(row.filtered)
            shown = safe_text(label, limit=token_cells)
            colour = DIM if row.removed_by else FOCUS
            share = Content.assemble(" ", bar(bar_cells, row.probability / best, colour=colour))
            line = Content.assemble(
                ("›" if here else " ", FOCUS),
                (f"{row.rank:>{ranks},} ", aside),
                (shown + " " * (token_cells - cell_len(shown)), word),
                share,
                (f" {number:>5}", value),
                (f" {percent}", FOCUS if taken else DIM),
                (f" {after:>{self._after_cells}}", DIM if row.removed_by else value),
                (f" {bits_of(row.probability):>4}", aside),
            )
            lines.append(selected(line, width) if here else line)
        here = self.has_focus and self._selected == len(self.rows)
        head = ("›" if here else " ", FOCUS), " " * (ranks + 1)
        words = Content.assemble(*head, (TYPE_ROW, f"bold {BRIGHT}" if here else DIM))
        return [*lines, selected(words, width) if here else words]

    @property
    def _after_cells(self) -> int:
        return max(7, *(len(row.removed_by) for row in self.rows))

    def legends(self) -> Iterable[Label]:
        """Return the heads of the columns."""
        if not self.rows:
            return ()
        return f"prob.{'after':>{self._after_cells + 1}} bits", "after bits", "bits"

    def on_click(self, event: Click) -> None:
        """Select the clicked row; a second click chooses it."""
        place = event.y - 1 + self._top
        if 0 <= place <= len(self.rows) and self.rows:
            if place == self._selected and event.chain > 1:
                self.action_choose()
            self._selected = place
            self.redraw()
