"""Ask the sampler from a pane: one question a subject, and a word if the answer takes long."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel
from textual.worker import Worker

from rnnlm_tui.errors import WorkerError

if TYPE_CHECKING:
    from rnnlm_tui.schema.sampling import SamplerRequest
    from rnnlm_tui.tui.screens.pane import PaneScreen

AnswerT = TypeVar("AnswerT", bound=BaseModel)
WAITING_SECONDS = 0.5
"""A longer wait for an answer is explained."""


class Questions:
    """What a pane is asking for."""

    def __init__(self, screen: PaneScreen) -> None:
        self._screen = screen
        self._asking: dict[str, tuple[object, Worker[None]]] = {}
        """By subject: what was asked for last, and the question."""

    def start(
        self, subject: str, wanted: object, work: Callable[[], Coroutine[object, object, None]]
    ) -> None:
        """Run `work` in place of the subject's other question, unless that asks for the same."""
        asked, worker = self._asking.get(subject, (None, None))
        if worker is None or worker.is_finished or asked != wanted:
            worker = self._screen.run_worker(work(), group=subject, exclusive=True)
            self._asking[subject] = wanted, worker

    def forget(self) -> None:
        """Ask for everything again."""
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
