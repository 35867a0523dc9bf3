"""One text scored by two models: who predicts each token better, and the largest differences."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.content import Content

from rnnlm_tui.schema.formatting import NOTHING, counted
from rnnlm_tui.tui.palette import BACKGROUND, BRIGHT, DIM, SIDE_BANDS, TEXT
from rnnlm_tui.tui.text import WrappedText, line, safe_text, selected, sentence
from rnnlm_tui.tui.views.text_differences import (
    LEAST_DIFFERENCE,
    ScoredSpan,
    level,
    totals,
)
from rnnlm_tui.tui.views.text_scores import TextScores
from rnnlm_tui.tui.views.versus import letter, letter_of
from rnnlm_tui.tui.widgets.panel import Panel, WheelScrolled, first_shown, segments_of

CONTEXT = 16
"""Pieces of text before and after a listed one."""
SIGNS = ("", "·", "─", "━")
"""Follows a side's letter below a piece of text, by the size of the difference."""


class DifferenceStrip(WheelScrolled, can_focus=True):
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
        self._at: int | None = None
        """The marked piece that was scrolled to."""
        self._starts: list[int] = [0]
        self._wrapped = WrappedText(10)
        self._top = 0

    def _wrap(self, width: int) -> None:
        """Wrap the text to a width."""
        if self._scores.spans is not self._spans:
            self._spans, self._at, self._top = self._scores.spans, None, 0
            pieces = [_visible(span) for span in self._spans]
            self._starts = [0, *accumulate(map(len, pieces))]
            self._wrapped = WrappedText(width, "".join(pieces))
        self._wrapped.fit(width)

    def scroll_lines(self, by: int) -> None:
        """Scroll down, or up if negative."""
        self._top = max(0, self._top + by)
        self.redraw()

    def show_mark(self) -> None:
        """Draw again, and scroll to the marked piece also if it was marked before."""
        self._at = None
        self.redraw()

    def _line_of(self, index: int) -> int:
        shown = _visible(self._spans[index])
        at = self._starts[index] + len(shown) - len(shown.lstrip())
        return max(0, bisect_right(self._wrapped.starts, at) - 1)

    def height_in(self, width: int) -> int:
        """Return the rows that the whole text takes, with the border, at this width."""
        self._wrap(max(10, width - 6))
        lines = max(3, len(self._wrapped))
        return 2 + (2 * lines if self._signed else lines)

    @property
    def _signed(self) -> bool:
        return bool(getattr(self.app, "no_color", False))

    def _lines_of_text(self, height: int) -> int:
        return max(1, height // 2 if self._signed else height)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the visible lines of the text."""
        scores = self._scores
        self.set_reactive(Panel.panel_title, scores.title)
        self.set_reactive(Panel.legend, scores.legend)
        self._wrap(max(10, width - 2))
        if not self._spans:
            style = TEXT if scores.trouble else DIM
            self.lines = sentence(scores.note, width - 4, scores.trouble, style=style, indent=1)
            return
        room = self._lines_of_text(height)
        if scores.at is not None and scores.at != self._at:
            row = self._line_of(scores.at)
            if not self._top <= row < self._top + room:
                self._top = max(0, row - room // 2)
        self._at = scores.at
        self._top = max(0, min(self._top, len(self._wrapped) - room))
        self.lines = []
        for row in range(self._top, min(len(self._wrapped), self._top + room)):
            text, signs = self._text_line(row)
            self.lines += [text, signs] if self._signed else [text]

    def _text_line(self, row: int) -> tuple[Content, Content]:
        """Return a line of the text, and the letters below it."""
        start, end = self._wrapped.span(row)
        text, signs = [Content(" ")], [Content(" ")]
        index = max(0, bisect_right(self._starts, start) - 1)
        while index < len(self._spans) and self._starts[index] < end:
            part = self._wrapped.text[
                max(start, self._starts[index]) : min(end, self._starts[index + 1])
            ]
            difference = self._spans[index].difference
            size = level(difference)
            place = self._scores.pair[0 if difference < 0 else 1]
            sign, colour = letter_of(place)
            if index == self._scores.at:
                style = f"bold {BACKGROUND} on {BRIGHT}"
            elif size:
                style = f"{BRIGHT} on {SIDE_BANDS[place][size - 1]}"
            else:
                style = TEXT
            text.append(Content.styled(part, style))
            cells, blank = cell_len(part), len(part) - len(part.lstrip(" "))
            below = f"{' ' * blank}{sign}{SIGNS[size] * cells}"[:cells] if size else " " * cells
            signs.append(Content.styled(below, colour))
            index += 1
        return Content("").join(text), Content("").join(signs)

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """Return how many lines are out of view, and the key of the colours."""
        if not self._spans:
            return []
        below = len(self._wrapped) - self._top - self._lines_of_text(self.inner_size.height)
        labels = self.hidden_labels(self._top, below)
        a, b = self._scores.pair
        swatches = Content.assemble(
            *(("  ", f"{BRIGHT} on {band}") for band in reversed(SIDE_BANDS[a])),
            " ",
            *(("  ", f"{BRIGHT} on {band}") for band in SIDE_BANDS[b]),
        )
        if self._signed:
            swatches = Content.styled(f"{''.join(SIGNS[:0:-1])} {''.join(SIGNS)}", TEXT)
        key = line("{} better {} better {}", letter(a), swatches, letter(b))
        return [*labels, (width - 3 - key.cell_length, segments_of(key))]


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
        self.lines, scores = [], self._scores
        self.set_reactive(Panel.legend, f"{len(scores.order):,}" if scores.order else "")
        if not scores.spans:
            return
        sums = totals(scores.spans)
        a, b = map(letter, scores.pair)
        number, _, noun = counted(sums.pieces, scores.noun).partition(" ")
        better = (a, f"{sums.better_a:,}", b, f"{sums.better_b:,}", number)
        self.lines = [
            line(f"  better  {{}} {{}}  {{}} {{}}  of {{}} {noun}", *better),
            line("  by bits  {}     {}", a, b),
        ]
        room = max(0, height - 2)
        at = scores.order.index(scores.at) if scores.at in scores.order else self._top
        self._top = first_shown(self._top, at, room, len(scores.order))
        for index in scores.order[self._top : self._top + room]:
            self.lines.append(self._row(index, width))
        if not scores.order:
            words = f"  no {scores.noun} differs by {LEAST_DIFFERENCE:g} bits or more"
            self.lines[1:] = [Content(""), Content.styled(words, DIM)]

    def _row(self, index: int, width: int) -> Content:
        span, here = self._scores.spans[index], index == self._scores.at
        place = self._scores.pair[0 if span.difference < 0 else 1]
        head = Content.assemble(
            ("› " if here else "  ", BRIGHT),
            letter(place),
            (f" {abs(span.difference):4.1f}", f"bold {letter_of(place)[1]}"),
            (f"{_bits(span.a)}{_bits(span.b)}  ", TEXT),
        )
        word = safe_text(span.text.strip(" ") or span.text, newlines="show", limit=16)
        room = width - head.cell_length
        left = max(0, (room - cell_len(word)) // 2)
        start, after = self._around(index)
        while start and cell_len(start) > left:
            start = start.partition(" ")[2].lstrip()
        row = Content.assemble(
            head, (start, DIM), (word, f"bold {BRIGHT}"), (safe_text(after, limit=room), DIM)
        )
        if row.cell_length > width:
            row = row.truncate(width, ellipsis=True)
        return selected(row, width) if here else row

    def _around(self, index: int) -> tuple[str, str]:
        """Return the text before and after a piece, in one line each."""
        spans = self._scores.spans
        before = "".join(one.text for one in spans[max(0, index - CONTEXT) : index])
        after = "".join(one.text for one in spans[index + 1 : index + 1 + CONTEXT])
        text = spans[index].text
        before += text[: len(text) - len(text.lstrip(" "))]
        start, end = (safe_text(part, newlines="space") for part in (before, after))
        return start if index <= CONTEXT else start.partition(" ")[2].lstrip(), end

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:  # noqa: ARG002
        """Return how many rows are out of view."""
        room = max(0, self.inner_size.height - 2)
        return self.hidden_labels(self._top, len(self._scores.order) - self._top - room)


def _bits(value: float | None) -> str:
    return f"{NOTHING if value is None else f'{value:.1f}':>6}"
