"""ReachView: how far back the gradient of a token's loss reaches, for one model or two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from textual.content import Content

from rnnlm_tui.errors import RnnlmError, in_one_sentence
from rnnlm_tui.schema.sampling import GradientReach, Inspection, InspectRequest, ReachRequest
from rnnlm_tui.tui.palette import BAD, BRIGHT, DIM, TEXT
from rnnlm_tui.tui.screens.asking import Questions
from rnnlm_tui.tui.text import safe_content, safe_text
from rnnlm_tui.tui.views.inspect import (
    ScoredText,
    TextSource,
    quoted,
    reach_brief,
    reach_chart,
    reach_words,
    token_offset,
)
from rnnlm_tui.tui.views.sample_tree import Weights
from rnnlm_tui.tui.widgets.chart import Chart
from rnnlm_tui.tui.widgets.panel import Line


class ReachView:
    """The chart and the line of words below it."""

    def __init__(self, questions: Questions, chart: Chart, words: Line) -> None:
        self._questions, self._chart, self._words = questions, chart, words
        chart.show_all = True
        self._known: dict[int, list[tuple[str, GradientReach]]] = {}
        """By position: name of the model and its gradient."""
        self._offsets: dict[str, int | None] = {}
        """By checkpoint: how much later the text begins than for the shown model; None if it reads
        other tokens."""

    def clear(self) -> None:
        """Forget everything: there is another text."""
        self._known.clear()
        self._offsets.clear()

    def show(self, position: int, scored: ScoredText) -> bool:
        """Show the gradient of a token, if it is known; return whether it is."""
        found = self._known.get(position)
        if found is None:
            return False
        self._chart.show(reach_chart(found, position))
        words: list[Content | tuple[str, str]] = [
            ("  ", DIM),
            (quoted(scored.texts[position]), f"bold {BRIGHT}"),
            (": ", DIM),
        ]
        if len(found) == 1:
            words.append((reach_words(found[0][1], scored.texts), TEXT))
        else:
            words.append(("below 1 %", DIM))
            for name, reach in found:
                words += [(f"   {safe_text(name, limit=20)} ", DIM), (reach_brief(reach), TEXT)]
        self._words.put(Content.assemble(*words))
        return True

    def show_nothing(self, words: str, *, trouble: bool = False) -> None:
        """Show why there is no gradient."""
        self._chart.show(reach_chart((), None))
        text = safe_content(words, newlines="space").stylize(TEXT if trouble else DIM)
        self._words.put(Content.assemble("  ", ("✗ " if trouble else "", BAD), text))

    async def find(
        self, source: TextSource, scored: ScoredText, position: int, others: Sequence[Weights]
    ) -> None:
        """Ask for the gradient of a token, by the shown model and the first other one that reads
        the same tokens."""
        request = source.request(ReachRequest, position=position)
        try:
            reach = await self._questions.ask(request, GradientReach, self._wait)
        except (RnnlmError, OSError) as error:
            self.show_nothing(in_one_sentence(error), trouble=True)
            return
        found = [(source.run, reach)]
        for weights in others:
            if weights.path == source.checkpoint:
                continue
            second = replace(
                source, run=weights.run, step=weights.step, checkpoint=weights.path,
                row=weights.row,
            )  # fmt: skip
            reached = await self._second(second, scored, position)
            if reached is not None:
                same = source.run == second.run
                names = [f"step {one.step:,}" if same else one.run for one in (source, second)]
                found = [(names[0], reach), (names[1], reached)]
                break
        self._known[position] = found

    async def _second(
        self, source: TextSource, scored: ScoredText, position: int
    ) -> GradientReach | None:
        """Return another model's gradient; None if it reads other tokens, or can't be used."""
        try:
            if source.checkpoint not in self._offsets:
                request = source.request(InspectRequest)
                answer = await self._questions.ask(request, Inspection, self._wait)
                self._offsets[source.checkpoint] = token_offset(scored, ScoredText(answer))
            offset = self._offsets[source.checkpoint]
            if offset is None or position + offset < 1:
                return None
            request_reach = source.request(ReachRequest, position=position + offset)
            return await self._questions.ask(request_reach, GradientReach, self._wait)
        except (RnnlmError, OSError):
            return None

    def _wait(self, words: str) -> None:
        self._words.put(Content.styled(f"  {words}", DIM))
