"""Actions that await, and the app's threads; those of asyncio's pool would keep it from leaving."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextvars import copy_context
from functools import partial, wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from textual.css.query import NoMatches
from textual.message_pump import MessagePump
from textual.screen import Screen

from rnnlm_tui.errors import RnnlmError

if TYPE_CHECKING:
    from rnnlm_tui.tui.app import RnnlmApp

ResultT = TypeVar("ResultT")
ArgumentsT = ParamSpec("ArgumentsT")
PumpT = TypeVar("PumpT", bound=MessagePump)

NAME = "app-thread"
EXIT_SECONDS = 0.5
"""How long running work, such as writing a file, may take when the app leaves; a command that
awaits its answer is abandoned."""


async def to_thread(
    work: Callable[ArgumentsT, ResultT], *arguments: ArgumentsT.args, **named: ArgumentsT.kwargs
) -> ResultT:
    """Run `work(...)` in its own daemon thread and return its result, or raise its exception."""
    future = Future[ResultT]()
    future.set_running_or_notify_cancel()  # who awaits it can be cancelled, but not the work

    def run() -> None:
        try:
            result = work(*arguments, **named)
        except BaseException as error:  # raised again in the coroutine that waits
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=partial(copy_context().run, run), name=NAME, daemon=True).start()
    return await asyncio.wrap_future(future)


def act(
    method: Callable[Concatenate[PumpT, ArgumentsT], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[PumpT, ArgumentsT], Coroutine[Any, Any, None]]:
    """Run a method of a screen or of the app from now on with `RnnlmApp.run_beside`.

    Awaiting the call lasts until the method waits for the first time, so that the next key meets
    the question that it asks. What the method has looked at may have changed after each await: a
    screen that was closed has lost its widgets, and the method ends at the first that it looks for.
    """

    @wraps(method)
    async def start(
        pump: PumpT, /, *arguments: ArgumentsT.args, **named: ArgumentsT.kwargs
    ) -> None:
        async def work() -> None:
            try:
                await method(pump, *arguments, **named)
            except NoMatches:
                if not isinstance(pump, Screen) or pump.display:  # false once it closes
                    raise

        cast("RnnlmApp", pump.app).run_beside(work())
        await asyncio.sleep(0)

    return start


class RepeatedRead:
    """A read that a timer or each key starts: one at a time.

    An error is reported once until a read succeeds.
    """

    def __init__(self, context: RnnlmApp) -> None:
        self._context = context
        self._reading = False
        self._reported = ""

    def start(self, work: Callable[[], ResultT], then: Callable[[ResultT], None]) -> None:
        """Read and call `then` with the result, unless a read is under way."""
        if not self._reading:
            self._reading = True
            self._context.run_beside(self._read(work, then))

    async def _read(self, work: Callable[[], ResultT], then: Callable[[ResultT], None]) -> None:
        try:
            result = await self._context.wait_for(work)
        except (RnnlmError, OSError) as error:
            before, self._reading, self._reported = self._reported, False, str(error)
            if self._reported != before:
                raise  # the app reports it
        else:
            self._reading, self._reported = False, ""
            then(result)


def wait_for_threads(seconds: float = EXIT_SECONDS) -> bool:
    """Wait for running threads, at most this long. Return whether all have ended."""
    deadline = monotonic() + seconds
    threads = [thread for thread in threading.enumerate() if thread.name == NAME]
    for thread in threads:
        thread.join(max(0.0, deadline - monotonic()))
    return not any(thread.is_alive() for thread in threads)
