"""ReachView: how far back the gradient of a token's loss reaches, for one model or two."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from textual.content import Content

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.sampling import GradientReach, Inspection, InspectRequest, ReachRequest
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT
from rnnlm_tui.tui.screens.asking import Questions
from rnnlm_tui.tui.text import line, safe_content, safe_text
from rnnlm_tui.tui.views.inspect import (
    ScoredText,
    quoted,
    reach_brief,
    reach_chart,
    reach_words,
    token_offset,
)
from rnnlm_tui.tui.views.sample_tree import Sample, Weights
from rnnlm_tui.tui.widgets.chart import Chart
from rnnlm_tui.tui.widgets.panel import Line


class ReachView:
    """The chart and the line of words below it."""

    def __init__(self, questions: Questions) -> None:
        self.chart, self.words = Chart(id="reach"), Line(id="reach-words")
        self.chart.show_all = True
        self._questions = questions

    def show(self, position: int, scored: ScoredText) -> bool:
        """Show the gradient of a token, if it is known; return whether it is."""
        found = scored.reaches.get(position)
        if found is None:
            return False
        self.chart.show(reach_chart(found, position))
        token = (quoted(scored.texts[position]), f"bold {BRIGHT}")
        if len(found) == 1:
            words = line("  {}: {}", token, reach_words(found[0][1], scored.texts))
        else:
            words = line("  {}: below 1 %", token)
            for name, reach in found:
                words += line("   {} {}", (safe_text(name, limit=20), DIM), reach_brief(reach))
        self.words.put(words)
        return True

    def show_nothing(self, words: str, *, trouble: bool = False) -> None:
        """Show why there is no gradient."""
        self.chart.show(reach_chart((), None))
        text = safe_content(words, newlines="space").stylize(TEXT if trouble else DIM)
        self.words.put(Content.assemble("  ", ("✗ " if trouble else "", BAD), text))

    async def find(self, scored: ScoredText, position: int, others: Sequence[Weights]) -> None:
        """Ask for the gradient of a token, by the shown model and the first other one that reads
        the same tokens.

        Raises:
            RnnlmError: the sampler refused the shown one.
        """
        text, offsets = scored.source, scored.offsets
        found = [(text.weights, await self._ask(text, position))]
        for weights in others:
            if weights.path != text.weights.path and len(found) == 1:
                with suppress(RnnlmError, OSError):  # it can't be used
                    other = replace(text, weights=weights)
                    if weights.path not in offsets:
                        request = other.request(InspectRequest)
                        answer = await self._questions.ask(request, Inspection, self._wait)
                        offsets[weights.path] = token_offset(scored, ScoredText(answer, other))
                    offset = offsets[weights.path]
                    if offset is not None and position + offset >= 1:
                        found.append((weights, await self._ask(other, position + offset)))
        one_run = len({weights.run for weights, _ in found}) < len(found)
        scored.reaches[position] = [
            (f"step {weights.step:,}" if one_run else weights.run, reach)
            for weights, reach in found
        ]

    async def _ask(self, text: Sample, position: int) -> GradientReach:
        request = text.request(ReachRequest, position=position)
        return await self._questions.ask(request, GradientReach, self._wait)

    def _wait(self, words: str) -> None:
        self.words.put(Content.styled(f"  {words}", DIM))
