"""Threads of the app; those of asyncio's pool would keep it from leaving."""

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

NAME = "app-thread"
EXIT_SECONDS = 0.5
"""How long running work, such as writing a file, may take when the app leaves; a command that
awaits its answer is abandoned."""


async def to_thread(
    work: Callable[ArgumentsT, ResultT], *arguments: ArgumentsT.args, **named: ArgumentsT.kwargs
) -> ResultT:
    """Run `work(...)` in its own daemon thread and return its result, or raise its exception."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ResultT] = loop.create_future()

    def settle(result: ResultT | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            # without an error there is a result
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work(*arguments, **named)
        except BaseException as raised:  # raised again in the coroutine that waits
            error = raised
        with suppress(RuntimeError):  # the loop is closed: the app has left
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=partial(copy_context().run, run), name=NAME, daemon=True).start()
    return await future


def wait_for_threads(seconds: float = EXIT_SECONDS) -> None:
    """Wait for running threads, at most this long."""
    deadline = monotonic() + seconds
    for thread in [thread for thread in threading.enumerate() if thread.name == NAME]:
        thread.join(max(0.0, deadline - monotonic()))


def run_before_exit(work: Callable[[], object], seconds: float = EXIT_SECONDS) -> None:
    """Run `work` in a thread and wait for it, at most this long.

    Nothing is run while another thread is still busy. Errors are ignored: there is no screen left
    to show them.
    """
    if any(thread.name == NAME for thread in threading.enumerate()):
        return

    def run() -> None:
        with suppress(RnnlmError, OSError):
            work()

    threading.Thread(target=run, name=NAME, daemon=True).start()
    wait_for_threads(seconds)
