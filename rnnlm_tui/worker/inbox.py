"""Inbox: the queue of commands and signals, which act between two steps."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType
from uuid import uuid4

from rnnlm_tui.contract.commands import Command, CommandResult, Verb
from rnnlm_tui.worker.control import PendingCommand

EXIT_KILLED = 128 + signal.SIGTERM
"""Exit code after a second SIGTERM, as a shell would show it."""
FORGET_SECONDS = 60.0
"""A stop signal after a refused stop exits at once within this time; later it counts as a first one."""

Handler = Callable[[PendingCommand], None]


class StopRequested(Exception):  # noqa: N818 - not an error: it was requested
    """Raised out of long work (preparing a corpus, an evaluation) when a stop is pending."""


class Inbox:
    """A queue that the control and signal threads fill and the training thread empties."""

    def __init__(self, *, forget_seconds: float = FORGET_SECONDS) -> None:
        self._forget_seconds = forget_seconds
        self._queue: SimpleQueue[PendingCommand] = SimpleQueue()
        self._signals: socket.socket | None = None  # kept open: the interpreter writes into it
        self._exits_until = -math.inf  # monotonic time; until then a stop signal exits at once
        self._stops: set[int] = set()  # ids of the queued stops; adding and discarding are atomic
        self._lock = threading.Lock()  # a command is either queued or handled at once, never both
        self._immediate: tuple[Handler, Handler] | None = None
        self._is_leaving = False

    @property
    def stop_waits(self) -> bool:
        """A stop is pending: long work should end soon."""
        return bool(self._stops)

    def deliver(self, pending: PendingCommand) -> None:
        """Queue a command, or handle it inside `immediately`; from any thread."""
        with self._lock:
            if self._immediate is None:
                if pending.command.verb == "stop":
                    self._stops.add(id(pending))
                self._queue.put(pending)
                return
            handle, leave = self._immediate
            if pending.command.verb != "stop":
                handle(pending)
                return
            self._immediate, self._is_leaving = None, True
        threading.Thread(target=leave, args=(pending,), name="leaving", daemon=True).start()

    @contextmanager
    def immediately(self, handle: Handler, leave: Handler) -> Iterator[None]:
        """Inside, commands are handled in the thread that receives them.

        For work in torch that keeps the main thread for minutes. Commands queued before stay queued.

        Args:
            handle: called with every command but a stop.
            leave: called with the first stop, in a new thread; it ends the process, and the
                main thread waits for that at the end of the block.
        """
        with self._lock:
            self._immediate = handle, leave
        try:
            yield
        finally:
            with self._lock:
                self._immediate = None
            if self._is_leaving:
                threading.Event().wait()

    def take(self, *, wait: float = 0.0) -> PendingCommand | None:
        """The next command; None if none arrives within `wait` seconds."""
        try:
            pending = self._queue.get(timeout=wait) if wait > 0 else self._queue.get_nowait()
        except Empty:
            return None
        self._stops.discard(id(pending))
        return pending

    def check_stop(self) -> None:
        """Raise StopRequested if a stop is pending."""
        if self.stop_waits:
            raise StopRequested

    def listen_to_signals(self) -> None:
        """Install signal handlers.

        SIGTERM and SIGINT: checkpoint and stop; a second one exits at once. SIGUSR1: checkpoint.
        SIGHUP: ignored, a run outlives its terminal.

        A thread receives them: Python's own handlers wait until the main thread returns from torch,
        and a step may take a minute.
        """
        receiver, self._signals = socket.socketpair()
        self._signals.setblocking(False)
        signal.set_wakeup_fd(self._signals.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, _left_to_the_thread)
        threading.Thread(target=self._receive_signals, args=(receiver,), name="signals", daemon=True).start()

    def _receive_signals(self, receiver: socket.socket) -> None:
        """Read one byte a signal, which the interpreter writes the moment that it arrives."""
        while numbers := receiver.recv(64):
            for number in numbers:
                if number == signal.SIGUSR1:
                    self.deliver(_from_signal("SIGUSR1", "checkpoint", _discard_answer))
                elif number in (signal.SIGTERM, signal.SIGINT):
                    if time.monotonic() < self._exits_until:
                        os._exit(EXIT_KILLED)
                    self._exits_until = math.inf
                    self.deliver(_from_signal(signal.Signals(number).name, "stop", self._stop_answered))

    def _stop_answered(self, result: CommandResult) -> None:
        """If a full disk refused the stop, training may go on for days: a much later signal is a first one again."""
        if not result.ok:
            self._exits_until = time.monotonic() + self._forget_seconds


def _left_to_the_thread(_number: int, _frame: FrameType | None) -> None:
    """Python writes to the wakeup descriptor only for signals that have a handler."""


def _from_signal(name: str, verb: Verb, answer: Callable[[CommandResult], None]) -> PendingCommand:
    return PendingCommand(Command(id=f"{name}-{uuid4().hex}", verb=verb), answer)


def _discard_answer(_result: CommandResult) -> None:
    """A signal has no way back to its sender."""
