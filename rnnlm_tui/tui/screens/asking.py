"""Ask the sampler from a pane: one question a subject, and a word if the answer takes long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel
from textual.worker import Worker

from rnnlm_tui.errors import RnnlmError, WorkerError, in_one_sentence

if TYPE_CHECKING:
    from rnnlm_tui.schema.sampling import SamplerRequest
    from rnnlm_tui.tui.screens.pane import PaneScreen

AnswerT = TypeVar("AnswerT", bound=BaseModel)
Work = Callable[[], Awaitable[None]]
Failed = Callable[..., None]
WAITING_SECONDS = 0.5
"""A longer wait for an answer is explained."""


class Questions:
    """What a pane is asking for."""

    def __init__(self, screen: PaneScreen) -> None:
        self._screen = screen
        self._asking: dict[str, tuple[object, Worker[None]]] = {}
        """By subject: what was asked for last, and the question."""

    def start(self, subject: str, wanted: object, work: Work, failed: Failed | None = None) -> None:
        """Run `work` in place of the subject's other question, unless that asks for the same.

        Args:
            failed: shows an error, in one sentence with `trouble=True`.
        """
        asked, worker = self._asking.get(subject, (None, None))
        if worker is not None and not worker.is_finished and asked == wanted:
            return

        async def run() -> None:
            try:
                await work()
            except (RnnlmError, OSError) as error:
                if failed is None:
                    raise
                failed(in_one_sentence(error), trouble=True)

        worker = self._screen.run_worker(run(), group=subject, exclusive=True)
        self._asking[subject] = wanted, worker

    def forget(self) -> None:
        """Drop all questions, and ask for everything again."""
        for subject in self._asking:
            self._screen.workers.cancel_group(self._screen, subject)
        self._asking.clear()

    async def ask(
        self, request: SamplerRequest, kind: type[AnswerT], waiting: Callable[[str], None]
    ) -> AnswerT:
        """Ask the sampler, which is started again if it has died. Leaving the call cancels the
        request.

        Args:
            waiting: shows what is waited for, if the answer takes longer than a moment.
        """
        timer = self._screen.set_timer(WAITING_SECONDS, partial(waiting, "computing …"))
        try:
            sampler = await self._screen.context.warm_sampler()
            try:
                return await sampler.ask(request, kind)
            except WorkerError:  # it was killed: the next request starts it again
                return await sampler.ask(request, kind)
        finally:
            timer.stop()
