"""BackgroundWriter: does a checkpoint's work in a thread, until training waits for it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

YIELDING = 10
"""What the thread adds to the worker's niceness, so that it takes the cores that training leaves
free. With more, a thread that holds the interpreter would be kept from running on a busy machine:
stalls of 0.1 to 0.2 s were measured at the lowest priority, none with this."""
MOST_NICENESS = 19


class BackgroundWriter:
    """Does the pieces of one piece of work in a thread of low priority, where the system has
    threads of their own priority (Linux).

    `finish` does the rest in the calling thread, at its priority: on a busy machine the thread
    might take minutes.

    Args:
        pieces: the work; each `next` does a piece of a few milliseconds.
    """

    def __init__(self, pieces: Iterator[None]) -> None:
        self._pieces = pieces
        self._leave = False
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="checkpoint", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system allows no more threads
            self._do_pieces()

    @property
    def is_done(self) -> bool:
        """The work has ended, or failed."""
        return self._done.is_set()

    def finish(self) -> None:
        """Wait for the end of the work, and do what is left of it; raises its error."""
        self._leave = True
        if self._thread.ident is not None:
            self._thread.join()
        if not self.is_done:
            self._do_pieces()
        if self._error is not None:
            raise self._error

    def wait(self, seconds: float) -> None:
        """Wait for the end of the work, at most this long, and leave it to the thread."""
        self._done.wait(seconds)

    def _work(self) -> None:
        _yield_to_training()
        self._do_pieces(stoppable=True)

    def _do_pieces(self, *, stoppable: bool = False) -> None:
        try:
            for _ in self._pieces:
                if stoppable and self._leave:
                    return
        except BaseException as error:
            self._error = error
        self._done.set()


def _yield_to_training() -> None:
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, min(MOST_NICENESS, niceness + YIELDING))
