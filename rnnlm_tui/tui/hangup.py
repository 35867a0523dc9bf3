"""Leaving when the terminal is gone: SIGHUP, SIGTERM, and a look every few seconds at whether stdin still is a terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from time import sleep
from types import FrameType

CHECK_SECONDS = 5.0
"""Between two looks at stdin: an app whose terminal went away without a word must not stay for ever."""
PATIENCE_SECONDS = 1.5
"""An app that has not left by then is made to: it waits for a terminal that takes no more output, and for that one would wait for ever."""


def leave_on_hangup(leave: Callable[[], object]) -> None:
    """Call `leave` in the running loop when the terminal hangs up or is gone, or someone asks the app to end; soon after, the process ends whatever it does.

    Not by the loop's own signal handlers: the loop stands still while a terminal takes no output.
    """
    loop = asyncio.get_running_loop()

    def leave_now(code: int) -> None:
        threading.Thread(target=_leave_hard, args=(code,), name="leave", daemon=True).start()
        with suppress(RuntimeError):  # the loop is closed: the app is leaving
            loop.call_soon_threadsafe(leave)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        leave_now(128 + number)

    def watch() -> None:
        while not terminal_is_gone():
            sleep(CHECK_SECONDS)
        leave_now(128 + signal.SIGHUP)

    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, on_signal)
    threading.Thread(target=watch, name="hangup", daemon=True).start()


def _leave_hard(code: int) -> None:
    sleep(PATIENCE_SECONDS)
    os._exit(code)


def terminal_is_gone() -> bool:
    """Whether stdin was a terminal's and is one no more."""
    stdin = sys.__stdin__
    if stdin is None or stdin.closed:
        return True
    try:
        return not os.isatty(stdin.fileno())
    except (OSError, ValueError):
        return True
