"""ScoreView: one text scored by two sides, as a strip, a list of differences and a chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.errors import RnnlmError, in_one_sentence
from rnnlm_tui.tui import WIDE_FROM
from rnnlm_tui.tui.palette import DIM, MARK_COLOURS
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.views.compare import LETTERS
from rnnlm_tui.tui.views.side_facts import score_chart
from rnnlm_tui.tui.views.text_differences import ScoredSpan, TextScore, scored_spans
from rnnlm_tui.tui.views.versus import SideBySide, SideText
from rnnlm_tui.tui.views.versus_export import differences_markdown

if TYPE_CHECKING:
    from rnnlm_tui.tui.side_requests import SideRequests
    from rnnlm_tui.tui.widgets.chart import Chart
    from rnnlm_tui.tui.widgets.differences import DifferenceList, DifferenceStrip


class ScoreView:
    """Keeps the three widgets in step.

    Args:
        changed: called when another text or note is shown, before a piece of it is marked.
    """

    def __init__(
        self,
        found: SideBySide,
        strip: DifferenceStrip,
        listed: DifferenceList,
        chart: Chart,
        changed: Callable[[], None],
    ) -> None:
        self._found, self._changed = found, changed
        self._strip, self._listed, self._chart = strip, listed, chart

    def walk(self, by: int) -> None:
        """Mark the next of the largest differences, or the one before."""
        self._mark(self._listed.next(by))

    def walk_text(self, by: int) -> None:
        """Mark the next piece of the text, or the one before."""
        strip = self._strip
        if strip.spans:
            at = -1 if strip.at is None and by > 0 else strip.at or 0
            self._mark(max(0, min(len(strip.spans) - 1, at + by)))

    def _mark(self, index: int | None) -> None:
        self._strip.go_to(index)
        self._listed.go_to(index)

    @property
    def markdown(self) -> str:
        """The differences, to save them; empty if there is no text."""
        strip = self._strip
        if not strip.spans:
            return ""
        return differences_markdown(self._found.sides, strip.pair, strip.spans)

    async def score(self, requests: SideRequests, box: str | None, start: str) -> None:
        """Score the chosen side's newest text by the pair, and show it.

        Args:
            box: the text to score instead; None: only if there is no newest text.
            start: path of the kept state that the text in the box follows.
        """
        found, strip = self._found, self._strip
        pair, chosen, asked = found.pair, found.text(found.chosen), found.newest
        if box is not None or asked is None or chosen is None or chosen.done is None:
            source, prompt, chosen = "the prompt", box or "", None
        else:
            source, prompt = f"{LETTERS[found.chosen]}’s text", asked.prompt
            start = asked.start
        strip.panel_title = Content.assemble(
            ("Difference of surprise", "bold"), (f", {source}", DIM)
        )
        if not prompt and chosen is None:
            self._show((), pair, note="Type or paste a text and press enter to score it.")
            return
        self._show((), pair, note="scoring …")
        await self._ask(requests, prompt, chosen, start)

    async def _ask(
        self, requests: SideRequests, prompt: str, chosen: SideText | None, start: str
    ) -> None:
        found, strip = self._found, self._strip
        pair = found.pair
        try:
            a, b = await requests.score_pair(found, prompt, chosen, start)
            spans = scored_spans(a, b)
        except (RnnlmError, OSError) as error:
            self._show((), pair, note=in_one_sentence(error), trouble=True)
            return
        same = found.sides[pair[0]].tokenizer == found.sides[pair[1]].tokenizer
        if not same:
            strip.panel_title = Content.assemble(strip.panel_title, (", two tokenizers", DIM))
        scores = [
            (place, TextScore.of(one, "", whole=True))
            for place, one in zip(pair, (a, b), strict=True)
        ]
        wide = strip.screen.size.width >= WIDE_FROM
        self._chart.show(score_chart(scores, by_bytes=not same, wide=wide))
        self._show(spans, pair, noun="token" if same else "piece")
        order = self._listed.order
        self._mark(order[0] if order else None)

    def _show(
        self,
        spans: Sequence[ScoredSpan],
        pair: tuple[int, int],
        *,
        noun: str = "token",
        note: str = "",
        trouble: bool = False,
    ) -> None:
        strip = self._strip
        strip.show(spans, pair, note=note, trouble=trouble)
        strip.legend = Content("   ").join(
            Content.assemble(
                (LETTERS[place], f"bold {MARK_COLOURS[place]}"),
                (f" {safe_text(self._found.sides[place].label(), limit=40)}", DIM),
            )
            for place in pair
        )
        self._listed.show(spans, pair, noun=noun)
        if not spans:
            self._chart.show(score_chart((), by_bytes=False))
        self._changed()
