"""Threads for what blocks: they never keep the app from leaving, as those of asyncio's pool would, which is waited for until its last one is done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import ParamSpec, TypeVar

from rnnlm_tui.errors import RnnlmError

ResultT = TypeVar("ResultT")
ArgumentsT = ParamSpec("ArgumentsT")

NAME = "app-beside"
LEAVE_SECONDS = 0.5
"""What is under way when the app leaves, a file being written for one, has this long to end; a command that waits for its answer is left."""


async def to_thread(work: Callable[ArgumentsT, ResultT], *arguments: ArgumentsT.args, **named: ArgumentsT.kwargs) -> ResultT:
    """The result of `work(...)`, or what it raised, from a daemon thread of its own."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ResultT] = loop.create_future()

    def settle(result: ResultT | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # there is one where nothing was raised

    def run() -> None:
        result, error = None, None
        try:
            result = work(*arguments, **named)
        except BaseException as raised:  # whatever it is belongs to whoever waits
            error = raised
        with suppress(RuntimeError):  # the loop is closed: the app has left
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=partial(copy_context().run, run), name=NAME, daemon=True).start()
    return await future


def wait_for_threads(seconds: float = LEAVE_SECONDS) -> None:
    """Let those that are at work end, for so long at most."""
    deadline = monotonic() + seconds
    for thread in [one for one in threading.enumerate() if one.name == NAME]:
        thread.join(max(0.0, deadline - monotonic()))


def last_words(work: Callable[[], object], seconds: float = LEAVE_SECONDS) -> None:
    """Do this in a thread and wait for it, for so long at most and only where no other is still at work; what can't be done is let be, for there is no screen left to say so on."""
    if any(one.name == NAME for one in threading.enumerate()):
        return

    def run() -> None:
        with suppress(RnnlmError, OSError):
            work()

    threading.Thread(target=run, name=NAME, daemon=True).start()
    wait_for_threads(seconds)
