"""BranchSampler: put another token into a text and sample on from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.errors import InputError, RnnlmError, in_one_sentence
from rnnlm_tui.schema.formatting import first_of
from rnnlm_tui.schema.sampling import Alternatives, Inspection, InspectRequest
from rnnlm_tui.tui.screens.asking import Questions
from rnnlm_tui.tui.screens.sample_stream import SampleStream
from rnnlm_tui.tui.views.inspect import ScoredText, branched, drawing_of_rest, request_about
from rnnlm_tui.tui.views.prompt import Drawing
from rnnlm_tui.tui.views.prompt_session import ALREADY_SAMPLING, NO_RUN
from rnnlm_tui.tui.views.sample_tree import Sample, SampleTree

if TYPE_CHECKING:
    from rnnlm_tui.tui.screens.pane import PaneScreen

CONTEXT_TOKENS = 20
"""Tokens before typed ones that are tokenized with them."""


class BranchSampler:
    """Samples one branch at a time, and adds it to the session's tree.

    Args:
        growing: shows prompt, text and status while a branch is sampled.
        ended: called when sampling has ended, also after an error.
    """

    def __init__(
        self,
        screen: PaneScreen,
        questions: Questions,
        growing: Callable[[str, str, Content], None],
        ended: Callable[[], None],
    ) -> None:
        self._screen, self._questions = screen, questions
        self._growing, self._ended = growing, ended
        self._stream = SampleStream(screen, self._show, self._finish)
        self.stop = self._stream.stop
        self._tree = SampleTree()
        """The tree of the text that the branch leaves."""

    @property
    def sampling(self) -> bool:
        """Whether a branch is being sampled."""
        return self._stream.drawing is not None

    def start(
        self, source: Sample, scored: ScoredText, position: int, ids: tuple[int, ...], text: str
    ) -> None:
        """Put tokens at a position of a text, and sample on from there."""
        context = self._screen.context
        run = context.run_directory
        if self.sampling or run is None:
            context.report(ALREADY_SAMPLING if self.sampling else NO_RUN)
            return
        try:
            start = branched(source, scored, position, ids, text)
        except InputError as error:
            context.report(error.message, trouble=True)
            return
        self._tree = context.prompt_session.tree
        self._stream.begin(drawing_of_rest(start, source), run)

    def _show(self, drawing: Drawing) -> None:
        sample = drawing.samples[0]
        self._growing(sample.prompt, sample.text, drawing.status())

    def _finish(self, drawing: Drawing) -> None:
        """Add the branch to the tree of its text."""
        self._show(drawing)
        if drawing.error:
            self._screen.context.report(drawing.error, trouble=True)
        for branch in drawing.finished():
            self._tree.add(branch)
        self._ended()

    async def start_typed(
        self, source: Sample, scored: ScoredText, answer: Alternatives, text: str
    ) -> None:
        """Put a typed text at a position: an alternative, or the tokens that it has there."""
        report = self._screen.context.report
        row = next((row for row in answer.rows if row.text == text), None)
        if row is not None:
            self.start(source, scored, answer.position, (row.token,), row.text)
            return
        first = max(0, answer.position - CONTEXT_TOKENS)
        before = "".join(scored.texts[first : answer.position])
        try:
            read = await self._encode(source, before + text)
            ids = read.ids_after(before)
            if ids is None:
                read = await self._encode(source, text)
                ids = read.ids_after("")
        except (RnnlmError, OSError) as error:
            report(in_one_sentence(error), trouble=True)
            return
        if read.answer.unknown:
            report(f"no token for {first_of(read.answer.unknown, 5)}", trouble=True)
        elif ids:
            self.start(source, scored, answer.position, ids, text)

    async def _encode(self, source: Sample, text: str) -> ScoredText:
        alone = replace(source, prompt=text, ids=(), state="")
        request = request_about(alone, InspectRequest)
        return ScoredText(await self._questions.ask(request, Inspection, lambda _words: None))
