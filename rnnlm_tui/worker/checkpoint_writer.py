"""BackgroundWriter: does a checkpoint's work in a thread, while training continues."""

from __future__ import annotations

import threading
from collections.abc import Callable


class BackgroundWriter:
    """Does one piece of work in a thread of its own. Copying, checking, hashing and writing leave
    the interpreter to training most of the time.

    The thread has the priority of training: with a lower one it would take minutes on a machine
    that other programs keep busy, and training would wait for it at the end.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._done = threading.Event()
        self._error: BaseException | None = None
        try:
            threading.Thread(target=self._run, name="checkpoint", daemon=True).start()
        except RuntimeError:  # the system allows no more threads
            self._run()

    @property
    def is_done(self) -> bool:
        """The work has ended, or failed."""
        return self._done.is_set()

    def finish(self) -> None:
        """Wait for the end of the work; raises its error."""
        self._done.wait()
        if self._error is not None:
            raise self._error

    def wait(self, seconds: float) -> None:
        """Wait for the end of the work, at most this long."""
        self._done.wait(seconds)

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error
        self._done.set()
