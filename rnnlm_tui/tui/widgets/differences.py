"""One text scored by two models: who predicts each token better, and the largest differences."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import MouseScrollDown, MouseScrollUp

from rnnlm_tui.schema.formatting import NOTHING, counted
from rnnlm_tui.tui.palette import BACKGROUND, BAD, BRIGHT, DIM, SELECTED, SIDE_BANDS, TEXT
from rnnlm_tui.tui.text import WrappedText, safe_text
from rnnlm_tui.tui.views.text_differences import (
    LEAST_DIFFERENCE,
    ScoredSpan,
    largest,
    level,
    totals,
)
from rnnlm_tui.tui.views.versus import letter_of
from rnnlm_tui.tui.widgets.panel import Label, Panel, segments_of

MOST_LISTED = 200
CONTEXT = 16
"""Pieces of text before and after a listed one."""
SIGNS = ("", "·", "─", "━")
"""Follows a side's letter below a piece of text, by the size of the difference."""


class DifferenceStrip(Panel, can_focus=True):
    """A text whose background shows which of two models predicts each piece better.

    Without colour, a line below each line of text has the letter of that model.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "screen.walk_text(-1)", show=False),
        Binding("right", "screen.walk_text(1)", show=False),
        Binding("up", "screen.scroll_texts(-1)", show=False),
        Binding("down", "screen.scroll_texts(1)", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Difference of surprise", id=id)
        self.spans: Sequence[ScoredSpan] = ()
        self.pair = (0, 1)
        """The places of the two sides."""
        self.at: int | None = None
        """The index of the marked piece."""
        self._note = ""
        self._trouble = False
        self._starts: list[int] = [0]
        self._wrapped = WrappedText(10)
        self._top = 0
        self._hidden = (0, 0)

    def show(
        self,
        spans: Sequence[ScoredSpan],
        pair: tuple[int, int],
        *,
        note: str = "",
        trouble: bool = False,
    ) -> None:
        """Show a text; without pieces the note, which may be an error."""
        if spans != self.spans:
            self.at, self._top = None, 0
            pieces = [_visible(span) for span in spans]
            self._starts = [0]
            for piece in pieces:
                self._starts.append(self._starts[-1] + len(piece))
            self._wrapped = WrappedText(max(10, self.inner_size.width - 2), "".join(pieces))
        self.spans, self.pair, self._note, self._trouble = spans, pair, note, trouble
        self.redraw()

    def go_to(self, index: int | None) -> None:
        """Mark a piece and scroll to it."""
        self.at = index
        if index is not None:
            line = self._line_of(index)
            room = self._lines_of_text(self.inner_size.height)
            if not self._top <= line < self._top + room:
                self._top = max(0, line - room // 2)
        self.redraw()

    def scroll_lines(self, by: int) -> None:
        """Scroll down, or up if negative."""
        self._top = max(0, self._top + by)
        self.redraw()

    def _line_of(self, index: int) -> int:
        span = self.spans[index]
        shown = _visible(span)
        at = self._starts[index] + len(shown) - len(shown.lstrip())
        return max(0, bisect_right(self._wrapped.starts, at) - 1)

    def height_in(self, width: int) -> int:
        """Return the rows that the whole text takes, with the border, at this width."""
        self._wrapped.fit(max(10, width - 6))
        lines = max(3, len(self._wrapped))
        return 2 + (2 * lines if self._signed else lines)

    @property
    def _signed(self) -> bool:
        return bool(getattr(self.app, "no_color", False))

    def _lines_of_text(self, height: int) -> int:
        return max(1, height // 2 if self._signed else height)

    def prepare(self, width: int, height: int) -> None:
        """Lay out the visible lines of the text."""
        self.lines = []
        if not self.spans:
            words = [self._note] if self._note else []
            style, sign = (TEXT, Content.styled("✗ ", BAD)) if self._trouble else (DIM, Content(""))
            for words_of in words:
                wrapped = WrappedText(max(10, width - 4), safe_text(words_of, newlines="space"))
                self.lines += [
                    Content.assemble(
                        " ",
                        sign if not line else Content(" " * sign.cell_length),
                        (wrapped.text[slice(*wrapped.span(line))], style),
                    )
                    for line in range(len(wrapped))
                ]
            self._hidden = (0, 0)
            return
        self._wrapped.fit(max(10, width - 2))
        room = self._lines_of_text(height)
        self._top = max(0, min(self._top, len(self._wrapped) - room))
        for line in range(self._top, min(len(self._wrapped), self._top + room)):
            text, signs = self._text_line(line)
            self.lines.append(text)
            if self._signed:
                self.lines.append(signs)
        self._hidden = (self._top, max(0, len(self._wrapped) - self._top - room))

    def _text_line(self, line: int) -> tuple[Content, Content]:
        """Return a line of the text, and the letters below it."""
        start, end = self._wrapped.span(line)
        text, signs = [Content(" ")], [Content(" ")]
        index = max(0, bisect_right(self._starts, start) - 1)
        while index < len(self.spans) and self._starts[index] < end:
            part = self._wrapped.text[
                max(start, self._starts[index]) : min(end, self._starts[index + 1])
            ]
            difference = self.spans[index].difference
            size = level(difference)
            place = self.pair[0] if difference < 0 else self.pair[1]
            letter, colour = letter_of(place)
            if index == self.at:
                style = f"bold {BACKGROUND} on {BRIGHT}"
            elif size:
                style = f"{BRIGHT} on {SIDE_BANDS[place][size - 1]}"
            else:
                style = TEXT
            text.append(Content.styled(part, style))
            cells, blank = cell_len(part), len(part) - len(part.lstrip(" "))
            sign = (" " * blank + letter + SIGNS[size] * cells)[:cells] if size else " " * cells
            signs.append(Content.styled(sign, colour))
            index += 1
        return Content("").join(text), Content("").join(signs)

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:
        """Return how many lines are out of view, and the key of the colours."""
        labels = self.hidden_labels(*self._hidden)
        if not self.spans:
            return labels
        (letter_a, colour_a), (letter_b, colour_b) = map(letter_of, self.pair)
        bands_a, bands_b = (SIDE_BANDS[place] for place in self.pair)
        swatches = Content.assemble(
            *(("  ", f"{BRIGHT} on {band}") for band in reversed(bands_a)),
            " ",
            *(("  ", f"{BRIGHT} on {band}") for band in bands_b),
        )
        if self._signed:
            swatches = Content.styled(f"{''.join(SIGNS[:0:-1])} {''.join(SIGNS)}", TEXT)
        key = Content.assemble(
            (letter_a, f"bold {colour_a}"), (" better ", DIM), swatches,
            (" better ", DIM), (letter_b, f"bold {colour_b}"),
        )  # fmt: skip
        return [*labels, (width - 3 - key.cell_length, segments_of(key))]

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        event.stop()
        self.scroll_lines(-3)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        event.stop()
        self.scroll_lines(3)


def _visible(span: ScoredSpan) -> str:
    """Return the text of a piece, sanitized; a line break that matters has a sign."""
    shown = safe_text(span.text)
    return shown.replace("\n", "↵\n") if level(span.difference) else shown


class DifferenceList(Panel):
    """The largest differences, the largest first."""

    LEFT_PADDING = 0

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(title="Largest differences", id=id)
        self._spans: Sequence[ScoredSpan] = ()
        self._pair = (0, 1)
        self._noun = "token"
        self.order: list[int] = []
        """The indices of the pieces in the list."""
        self.at: int | None = None
        """The index of the marked piece."""
        self._top = 0

    def show(
        self, spans: Sequence[ScoredSpan], pair: tuple[int, int], *, noun: str = "token"
    ) -> None:
        """List the largest differences of a text, whose pieces are called `noun`."""
        if spans != self._spans:
            self.order, self._top, self.at = largest(spans, MOST_LISTED), 0, None
        self._spans, self._pair, self._noun = spans, pair, noun
        self.redraw()

    def go_to(self, index: int | None) -> None:
        """Mark a piece; one that isn't listed marks no row."""
        self.at = index
        if index in self.order:
            row, room = self.order.index(index), max(1, self.inner_size.height - 2)
            self._top = min(max(self._top, row - room + 1), row)
        self.redraw()

    def next(self, by: int) -> int | None:
        """Return the piece `by` rows after the marked one; None if there is none at all."""
        if not self.order:
            return None
        if self.at not in self.order:
            return self.order[0 if by > 0 else -1]
        return self.order[max(0, min(len(self.order) - 1, self.order.index(self.at) + by))]

    def prepare(self, width: int, height: int) -> None:
        """Lay out the totals, the heading and the visible rows."""
        self.lines = []
        if not self._spans:
            return
        sums = totals(self._spans)
        (letter_a, colour_a), (letter_b, colour_b) = map(letter_of, self._pair)
        number, _, noun = counted(sums.pieces, self._noun).partition(" ")
        self.lines = [
            Content.assemble(
                ("  better  ", DIM),
                (letter_a, f"bold {colour_a}"), (f" {sums.better_a:,}", TEXT), "  ",
                (letter_b, f"bold {colour_b}"), (f" {sums.better_b:,}", TEXT),
                ("  of ", DIM), (number, TEXT), (f" {noun}", DIM),
            ),
            Content.assemble(
                ("  by bits", DIM), "  ",
                (letter_a, f"bold {colour_a}"), "     ",
                (letter_b, f"bold {colour_b}"),
            ),
        ]  # fmt: skip
        room = max(0, height - 2)
        self._top = max(0, min(self._top, len(self.order) - room))
        for index in self.order[self._top : self._top + room]:
            self.lines.append(self._row(index, width))
        if not self.order:
            words = f"  no {self._noun} differs by {LEAST_DIFFERENCE:g} bits or more"
            self.lines[1:] = [Content(""), Content.styled(words, DIM)]

    def _row(self, index: int, width: int) -> Content:
        span, here = self._spans[index], index == self.at
        place = self._pair[0] if span.difference < 0 else self._pair[1]
        letter, colour = letter_of(place)
        head = Content.assemble(
            ("› " if here else "  ", BRIGHT),
            (f"{letter} {abs(span.difference):4.1f}", f"bold {colour}"),
            (f"{_bits(span.a)}{_bits(span.b)}  ", TEXT),
        )
        word = safe_text(span.text.strip(" ") or span.text, newlines="show", limit=16)
        room = width - head.cell_length
        left = max(0, (room - cell_len(word)) // 2)
        start, after = self._around(index)
        while start and cell_len(start) > left:
            start = start.partition(" ")[2].lstrip()
        line = Content.assemble(
            head, (start, DIM), (word, f"bold {BRIGHT}"), (safe_text(after, limit=room), DIM)
        )
        if line.cell_length > width:
            line = line.truncate(width, ellipsis=True)
        if here:
            line = Content.assemble(line, " " * (width - line.cell_length)).stylize(
                f"on {SELECTED}"
            )
        return line

    def _around(self, index: int) -> tuple[str, str]:
        """Return the text before and after a piece, in one line each."""
        spans = self._spans
        before = "".join(one.text for one in spans[max(0, index - CONTEXT) : index])
        after = "".join(one.text for one in spans[index + 1 : index + 1 + CONTEXT])
        text = spans[index].text
        before += text[: len(text) - len(text.lstrip(" "))]
        first = max(0, index - CONTEXT) == 0
        start = safe_text(before, newlines="space")
        return start if first else start.partition(" ")[2].lstrip(), safe_text(
            after, newlines="space"
        )

    def legend_within(self, room: int) -> Label:
        """Return how many there are."""
        legend = Content.styled(f"{len(self.order):,}" if self.order else "", DIM)
        return legend if legend.cell_length <= room else ""

    def bottom_labels(self, width: int) -> list[tuple[int, Sequence[Segment]]]:  # noqa: ARG002
        """Return how many rows are out of view."""
        room = max(0, self.inner_size.height - 2)
        return self.hidden_labels(self._top, len(self.order) - self._top - room)


def _bits(value: float | None) -> str:
    return f"{NOTHING if value is None else f'{value:.1f}':>6}"
