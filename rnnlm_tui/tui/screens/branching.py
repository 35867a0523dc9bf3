"""BranchSampler: put another token into a text and sample on from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from textual.content import Content
from textual.timer import Timer

from rnnlm_tui.errors import InputError, RnnlmError, in_one_sentence
from rnnlm_tui.schema.formatting import first_of
from rnnlm_tui.schema.sampling import Alternatives, Inspection, InspectRequest
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.tui.sampling import SampleTask
from rnnlm_tui.tui.screens.asking import Questions
from rnnlm_tui.tui.screens.sample_stream import UPDATE_SECONDS
from rnnlm_tui.tui.views.inspect import NewBranch, ScoredText, TextSource
from rnnlm_tui.tui.views.prompt_session import ALREADY_SAMPLING, NO_RUN
from rnnlm_tui.tui.views.sample_tree import SampleTree

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
        self._task: SampleTask | None = None
        self._timer: Timer | None = None

    @property
    def sampling(self) -> bool:
        """Whether a branch is being sampled."""
        return self._task is not None

    def start(
        self, source: TextSource, scored: ScoredText, position: int, ids: tuple[int, ...], text: str
    ) -> None:
        """Put tokens at a position of a text, and sample on from there."""
        context = self._screen.context
        run = context.run_directory
        if self.sampling or run is None:
            context.report(ALREADY_SAMPLING if self.sampling else NO_RUN)
            return
        try:
            new = source.branched(scored, position, ids, text)
        except InputError as error:
            context.report(error.message, trouble=True)
            return
        self._begin(new, run)

    def _begin(self, new: NewBranch, run: RunDirectory) -> None:
        texts, tree = [new.start.text], self._screen.context.prompt_session.tree

        def show() -> None:
            texts.extend(task.progress.drain().values())
            self._growing(new.start.prompt, "".join(texts), task.progress.living())

        def end(task: SampleTask) -> None:
            if task is self._task:
                show()
                self._finish(task, new, "".join(texts), tree)

        task = SampleTask(
            self._screen.context, new.plan, run, new.start.row, end, weights=new.start.weights
        )
        self._task = task
        self._timer = self._screen.set_interval(UPDATE_SECONDS, show)
        self._screen.run_worker(task.run(), group="branch")

    def _finish(self, task: SampleTask, new: NewBranch, text: str, tree: SampleTree) -> None:
        """Add the branch to the tree of its text."""
        self._task = None
        if self._timer is not None:
            self._timer.stop()
        context = self._screen.context
        if task.error:
            context.report(task.error, trouble=True)
        for branch in task.branches([text[len(new.start.text) :]]):
            tree.add(new.marked(branch))
        self._ended()

    async def start_typed(
        self, source: TextSource, scored: ScoredText, answer: Alternatives, text: str
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

    async def _encode(self, source: TextSource, text: str) -> ScoredText:
        request = replace(source, prompt=text, ids=(), state="").request(InspectRequest)
        return ScoredText(await self._questions.ask(request, Inspection, lambda _words: None))

    def stop(self) -> None:
        """Stop sampling: the text so far becomes the branch."""
        if self._task is not None:
            self._screen.run_worker(self._task.stop(), group="cancel")
