"""TextScores: one text scored by two sides, and the piece of it that is marked."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from rnnlm_tui.schema.sampling import Inspection
from rnnlm_tui.tui.palette import DIM
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.views.side_facts import score_chart
from rnnlm_tui.tui.views.text_differences import ScoredSpan, TextScore, largest, scored_spans
from rnnlm_tui.tui.views.versus import SideBySide, letter

MOST_LISTED = 200


class TextScores:
    """What the strip, the list of differences and the chart show."""

    def __init__(self, found: SideBySide) -> None:
        self._found = found
        self.source = ""
        """What is scored."""
        self.pair = (0, 1)
        """The places of the two sides."""
        self.spans: Sequence[ScoredSpan] = ()
        self.order: list[int] = []
        """The indices of the largest differences, the largest first."""
        self.at: int | None = None
        """The index of the marked piece."""
        self.same = True
        """Whether both sides divide the text into the same tokens."""
        self.note = ""
        """Shown while there are no pieces."""
        self.trouble = False
        """Whether the note is an error."""
        self.chart = score_chart((), by_bytes=False)

    def clear(self, note: str, *, trouble: bool = False) -> None:
        """Have no text for a while."""
        self.pair, self.note, self.trouble = self._found.pair, note, trouble
        self.spans, self.order, self.at, self.same = (), [], None, True
        self.chart = score_chart((), by_bytes=False)

    def take(self, a: Inspection, b: Inspection, *, wide: bool) -> None:
        """Take the text as the pair has scored it, and mark the largest difference.

        Raises:
            InputError: the two have read different texts.
        """
        self.spans = scored_spans(a, b)
        self.order = largest(self.spans, MOST_LISTED)
        self.at = self.order[0] if self.order else None
        one, other = (self._found.sides[place].tokenizer for place in self.pair)
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
            + Content.styled(f" {safe_text(self._found.sides[place].label(), limit=40)}", DIM)
            for place in self.pair
        )

    @property
    def noun(self) -> str:
        """What a piece is."""
        return "token" if self.same else "piece"

    def walk(self, by: int) -> None:
        """Mark the next of the largest differences, or the one before."""
        if self.at in self.order:
            place = self.order.index(self.at) + by
            self.at = self.order[max(0, min(len(self.order) - 1, place))]
        elif self.order:
            self.at = self.order[0 if by > 0 else -1]

    def walk_text(self, by: int) -> None:
        """Mark the next piece of the text, or the one before."""
        if self.spans:
            at = -1 if self.at is None and by > 0 else self.at or 0
            self.at = max(0, min(len(self.spans) - 1, at + by))
