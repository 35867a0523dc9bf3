"""One text scored by two models: who predicts each token better, and the largest differences."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import ClassVar

from rich.cells import cell_len
from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui.tui.palette import BACKGROUND, BRIGHT, DIM, MARK_COLOURS, SIDE_BANDS, TEXT
from rnnlm_tui.tui.text import WrappedText, line, safe_text, sentence
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.side_facts import TextScores
from rnnlm_tui.tui.views.text_differences import ScoredSpan, level
from rnnlm_tui.tui.views.versus import letter
from rnnlm_tui.tui.widgets.panel import Panel, ScrolledPanel, first_shown

SIGNS = ("", "·", "─", "━")
"""Follows a side's letter below a piece of text, by the size of the difference."""


class DifferenceStrip(ScrolledPanel, can_focus=True):
    """A text whose background shows which of two models predicts each piece better.

    Without colour, a line below each line of text has the letter of that model.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "screen.walk_text(-1)", show=False),
        Binding("right", "screen.walk_text(1)", show=False),
        Binding("up", "screen.scroll_texts(-1)", show=False),
        Binding("down", "screen.scroll_texts(1)", show=False),
    ]

    def __init__(self, scores: TextScores, *, id: str | None = None) -> None:
        super().__init__(title="Difference of surprise", id=id)
        self._scores = scores
        self._spans: Sequence[ScoredSpan] = ()
        """The pieces that are wrapped."""
        self._reveals = True
        """Whether to scroll to the marked piece."""
        self._starts: list[int] = [0]
        self._wrapped = WrappedText(10)

    def _wrap(self, width: int) -> None:
        """Wrap the text to a width."""
        if self._scores.spans is not self._spans:
            self._spans, self._reveals, self.top = self._scores.spans, True, 0
            pieces = [_visible(span) for span in self._spans]
            self._starts = [0, *accumulate(map(len, pieces))]
            self._wrapped = WrappedText(width, "".join(pieces))
        self._wrapped.fit(width)
        self.row_count = len(self._wrapped) * (1 + self._signed)

    def show_mark(self) -> None:
        """Draw again, and scroll to the marked piece."""
        self._reveals = True
        self.redraw()

    @property
    def _signed(self) -> bool:
        return bool(getattr(self.app, "no_color", False))

    def height_in(self, width: int) -> int:
        """Return the rows that the whole text takes, with the border, at this width."""
        self._wrap(max(10, width - 6))
        return 2 + max(3 * (1 + self._signed), self.row_count)

    def prepare(self, width: int, height: int) -> None:
        """Wrap the text, and scroll to a piece that was just marked; without a text, say why."""
        scores, each = self._scores, 1 + self._signed
        self.set_reactive(Panel.panel_title, scores.title)
        self.set_reactive(Panel.legend, scores.legend)
        self._wrap(max(10, width - 2))
        if not self._spans:
            style = TEXT if scores.trouble else DIM
            self.hidden, self.bottom_right = (0, 0), ""
            self.lines = sentence(scores.note, width - 4, scores.trouble, style=style, indent=1)
            return
        if self._reveals and scores.at is not None:
            shown = _visible(self._spans[scores.at])
            start = self._starts[scores.at] + len(shown) - len(shown.lstrip())
            row = (bisect_right(self._wrapped.starts, start) - 1) * each
            if not self.top <= row < self.top + height:
                self.top = row - height // 2
        self._reveals = False
        self.top = max(0, min(self.top, self.last_top))
        in_view = range(self.top, min(self.top + height, self.row_count))
        self.lines = [self._text_line(row // each)[row % each] for row in in_view]
        self.hidden, self.bottom_right = (self.top, self.last_top - self.top), self._key()

    def _text_line(self, row: int) -> tuple[Content, Content]:
        """Return a line of the text, and the letters below it."""
        start, end = self._wrapped.span(row)
        text, signs = Content(" "), Content(" ")
        first = max(0, bisect_right(self._starts, start) - 1)
        for index in range(first, bisect_left(self._starts, end)):
            piece = slice(max(start, self._starts[index]), min(end, self._starts[index + 1]))
            part = self._wrapped.text[piece]
            size, place = level(self._spans[index].difference), self._scores.better(index)
            style = f"{BRIGHT} on {SIDE_BANDS[place][size - 1]}" if size else TEXT
            if index == self._scores.at:
                style = f"bold {BACKGROUND} on {BRIGHT}"
            text += Content.styled(part, style)
            cells, blank = cell_len(part), len(part) - len(part.lstrip(" "))
            below = f"{' ' * blank}{LETTERS[place]}{SIGNS[size] * cells}" if size else ""
            signs += Content.styled(below[:cells].ljust(cells), MARK_COLOURS[place])
        return text, signs

    def _key(self) -> Content:
        """Return the key of the colours."""
        a, b = self._scores.pair
        bands = (*reversed(SIDE_BANDS[a]), "", *SIDE_BANDS[b])
        parts = (("  ", f"{BRIGHT} on {band}") if band else " " for band in bands)
        swatches = Content.assemble(*parts)
        if self._signed:
            swatches = Content.styled(f"{''.join(SIGNS[:0:-1])} {''.join(SIGNS)}", TEXT)
        return line("{} better {} better {}", letter(a), swatches, letter(b))


def _visible(span: ScoredSpan) -> str:
    """Return the text of a piece, sanitized; a line break that matters has a sign."""
    shown = safe_text(span.text)
    return shown.replace("\n", "↵\n") if level(span.difference) else shown


class DifferenceList(Panel):
    """The largest differences, the largest first."""

    LEFT_PADDING = 0

    def __init__(self, scores: TextScores, *, id: str | None = None) -> None:
        super().__init__(title="Largest differences", id=id)
        self._scores = scores
        self._top = 0

    def prepare(self, width: int, height: int) -> None:
        """Lay out the totals, the heading and the visible rows."""
        scores, order, room = self._scores, self._scores.order, max(0, height - 2)
        self.set_reactive(Panel.legend, f"{len(order):,}" if order else "")
        at = order.index(scores.at) if scores.at in order else self._top
        self._top = first_shown(self._top, at, room, len(order))
        rows = [scores.row(index, width) for index in order[self._top : self._top + room]]
        self.lines = [*scores.heads(), *rows] if scores.spans else []
        self.hidden = self._top, len(order) - self._top - room
