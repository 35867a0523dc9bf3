"""TextScores: one text scored by two sides, and the piece of it that is marked."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from textual.content import Content

from rnnlm_tui.schema.formatting import NOTHING, counted
from rnnlm_tui.schema.sampling import Inspection
from rnnlm_tui.tui.palette import BRIGHT, DIM, MARK_COLOURS, TEXT
from rnnlm_tui.tui.text import line, safe_text, selected
from rnnlm_tui.tui.views.side_facts import score_chart
from rnnlm_tui.tui.views.text_differences import (
    LEAST_DIFFERENCE,
    ScoredSpan,
    TextScore,
    largest,
    level,
    scored_spans,
)
from rnnlm_tui.tui.views.versus import SideBySide, letter

MOST_LISTED = 200
CONTEXT = 16
"""Pieces of text before and after a listed one."""


class TextScores:
    """One text scored by two sides, and the piece of it that is marked."""

    def __init__(self, found: SideBySide) -> None:
        self.found = found
        self.clear()

    def clear(self, source: str = "", note: str = "", *, trouble: bool = False) -> None:
        """Have no text for a while; the note, perhaps an error, says why.

        Args:
            source: what is scored.
        """
        self.source, self.note, self.trouble = source, note, trouble
        self.pair = self.found.pair
        """The places of the two sides."""
        self.spans: Sequence[ScoredSpan] = ()
        self.order: list[int] = []
        """The indices of the largest differences, the largest first."""
        self.at: int | None = None
        """The index of the marked piece."""
        self.same = True
        """Whether both sides divide the text into the same tokens."""
        self.chart = score_chart((), by_bytes=False)

    def take(self, a: Inspection, b: Inspection, *, wide: bool) -> None:
        """Take the text as the pair has scored it, and mark the largest difference.

        Raises:
            InputError: the two have read different texts.
        """
        self.spans = scored_spans(a, b)
        self.order = largest(self.spans, MOST_LISTED)
        self.at = self.order[0] if self.order else None
        one, other = (self.found.sides[place].tokenizer for place in self.pair)
        self.same = one == other
        scores = [
            (place, TextScore.of(found, "", whole=True))
            for place, found in zip(self.pair, (a, b), strict=True)
        ]
        self.chart = score_chart(scores, by_bytes=not self.same, wide=wide)

    @property
    def title(self) -> Content:
        """`Difference of surprise, A’s text`."""
        kinds = "" if self.same else ", two tokenizers"
        source = f", {self.source}" if self.source else ""
        return Content.assemble(("Difference of surprise", "bold"), (source + kinds, DIM))

    @property
    def legend(self) -> Content:
        """The names of the two sides."""
        if not self.source:
            return Content("")
        return Content("   ").join(
            letter(place)
            + Content.styled(f" {safe_text(self.found.sides[place].label(), limit=40)}", DIM)
            for place in self.pair
        )

    def walk(self, by: int, among: Sequence[int]) -> None:
        """Mark the next of these pieces, or the one before."""
        if self.at in among:
            self.at = among[max(0, min(len(among) - 1, among.index(self.at) + by))]
        elif among:
            self.at = among[0 if by > 0 else -1]

    def better(self, index: int) -> int:
        """Return the place of the side that predicts a piece better."""
        return self.pair[0 if self.spans[index].difference < 0 else 1]

    def heads(self) -> list[Content]:
        """Return how many pieces each side predicts better, and the heading of the list."""
        known = [index for index, span in enumerate(self.spans) if span.both and span.text]
        large = [self.better(index) for index in known if level(self.spans[index].difference)]
        noun = "token" if self.same else "piece"
        number, _, nouns = counted(len(known), noun).partition(" ")
        a, b = map(letter, self.pair)
        of_a, of_b = (f"{large.count(place):,}" for place in self.pair)
        words = f"  better  {{}} {{}}  {{}} {{}}  of {{}} {nouns}"
        better = line(words, a, of_a, b, of_b, number)
        if self.order:
            return [better, line("  by bits  {}     {}", a, b)]
        words = f"  no {noun} differs by {LEAST_DIFFERENCE:g} bits or more"
        return [better, Content(""), Content.styled(words, DIM)]

    def row(self, index: int, width: int) -> Content:
        """Return who predicts a piece better by how many bits, the bits of both, and the piece
        within the text."""
        span, here, place = self.spans[index], index == self.at, self.better(index)
        bits = "".join(
            f"{NOTHING if value is None else f'{value:.1f}':>6}" for value in (span.a, span.b)
        )
        head = Content.assemble(
            ("› " if here else "  ", BRIGHT),
            letter(place),
            (f" {abs(span.difference):4.1f}", f"bold {MARK_COLOURS[place]}"),
            (f"{bits}  ", TEXT),
        )
        word = safe_text(span.text.strip(" ") or span.text, newlines="show", limit=16)
        room = width - head.cell_length
        left = max(0, (room - cell_len(word)) // 2)
        before = "".join(one.text for one in self.spans[max(0, index - CONTEXT) : index])
        before += span.text[: len(span.text) - len(span.text.lstrip(" "))]
        after = "".join(one.text for one in self.spans[index + 1 : index + 1 + CONTEXT])
        start = safe_text(before, newlines="space")
        if index > CONTEXT:
            start = start.partition(" ")[2].lstrip()
        while cell_len(start) > left:
            start = start.partition(" ")[2].lstrip()
        row = Content.assemble(
            head,
            (start, DIM),
            (word, f"bold {BRIGHT}"),
            (safe_text(after, newlines="space", limit=room), DIM),
        ).truncate(width, ellipsis=True)
        return selected(row, width) if here else row
