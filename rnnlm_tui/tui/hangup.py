"""Leaving when the terminal is gone: SIGHUP, SIGTERM, and a look every few seconds at whether stdin still is a terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

CHECK_SECONDS = 5.0
"""Between two looks at stdin: an app whose terminal went away without a word must not spin for ever."""


def leave_on_hangup(leave: Callable[[], object]) -> None:
    """Call `leave` once when the terminal hangs up or someone asks the app to end; outside the main thread nothing is changed."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGHUP, signal.SIGTERM):
        with suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(number, leave)


def terminal_is_gone() -> bool:
    """Whether stdin was a terminal's and is one no more."""
    stdin = sys.__stdin__
    if stdin is None or stdin.closed:
        return True
    try:
        return not os.isatty(stdin.fileno())
    except (OSError, ValueError):
        return True
