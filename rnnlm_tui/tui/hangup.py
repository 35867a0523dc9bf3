"""Leave when the terminal is gone: on SIGHUP and SIGTERM, and if stdin is no longer a terminal."""

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
"""Seconds between checks of stdin: a terminal may disappear without a signal, and the app must not run for ever."""
EXIT_SECONDS = 1.5
"""The process is ended this long after a signal: the app may wait for ever for a terminal that takes no more output."""


def leave_on_hangup(leave: Callable[[], object]) -> None:
    """Call `leave` in the running loop when the terminal hangs up or disappears, or on SIGTERM.

    The process ends soon after in any case. The loop's own signal handlers can't be used: the loop is blocked
    while a terminal takes no output.
    """
    loop = asyncio.get_running_loop()

    def leave_now(code: int) -> None:
        threading.Thread(target=_exit_later, args=(code,), name="leave", daemon=True).start()
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


def _exit_later(code: int) -> None:
    sleep(EXIT_SECONDS)
    os._exit(code)


def terminal_is_gone() -> bool:
    """Whether stdin is no longer a terminal."""
    stdin = sys.__stdin__
    if stdin is None or stdin.closed:
        return True
    try:
        return not os.isatty(stdin.fileno())
    except (OSError, ValueError):
        return True
