"""Where commands and signals wait until they can act between two steps."""

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
"""A stop that was refused is forgotten after this time: the next signal asks for a stop again. Before that it leaves at once, as a second one does."""


Act = Callable[[PendingCommand], None]


class StopRequested(Exception):  # noqa: N818 - not an error: somebody asked for it
    """Raised out of long work (preparing a corpus, an evaluation) when a stop waits."""


class Inbox:
    """A queue that the control thread and the thread of the signals fill and the trainer empties."""

    def __init__(self, *, forget_seconds: float = FORGET_SECONDS) -> None:
        self._forget_seconds = forget_seconds
        self._queue: SimpleQueue[PendingCommand] = SimpleQueue()
        self._signals: socket.socket | None = None  # kept open for the interpreter, which writes into it
        self._leaves_until = -math.inf  # of the monotonic clock: until then a signal that asks for a stop is the second one
        self._stops: set[int] = set()  # the stops in the queue by identity; adding and discarding are atomic
        self._turn = threading.Lock()  # a command is queued or heeded at once, never both
        self._at_once: tuple[Act, Act] | None = None
        self._leaving = False

    @property
    def stop_waits(self) -> bool:
        """A stop has come and was not taken yet: long work should end itself soon."""
        return bool(self._stops)

    def deliver(self, pending: PendingCommand) -> None:
        """Queue a command, or let it be heeded `at_once`; from any thread."""
        with self._turn:
            if self._at_once is None:
                if pending.command.verb == "stop":
                    self._stops.add(id(pending))
                self._queue.put(pending)
                return
            act, leave = self._at_once
            if pending.command.verb != "stop":
                act(pending)
                return
            self._at_once, self._leaving = None, True
        threading.Thread(target=leave, args=(pending,), name="leaving", daemon=True).start()

    @contextmanager
    def at_once(self, act: Act, leave: Act) -> Iterator[None]:
        """Inside, commands are heeded by whoever hears them, for the main thread may be in torch for minutes. What was queued before stays queued.

        Args:
            act: gets every command but a stop, in the thread that heard it.
            leave: gets the first stop, in a thread of its own, and ends the process; the main thread waits for that where it would leave the block.
        """
        with self._turn:
            self._at_once = act, leave
        try:
            yield
        finally:
            with self._turn:
                self._at_once = None
            if self._leaving:
                threading.Event().wait()

    def take(self, *, wait: float = 0.0) -> PendingCommand | None:
        """The next command, or None when none came within `wait` seconds."""
        try:
            pending = self._queue.get(timeout=wait) if wait > 0 else self._queue.get_nowait()
        except Empty:
            return None
        self._stops.discard(id(pending))
        return pending

    def check_stop(self) -> None:
        """Raises StopRequested when a stop waits."""
        if self.stop_waits:
            raise StopRequested

    def listen_to_signals(self) -> None:
        """SIGTERM and SIGINT: checkpoint and stop, a second one leaves now. SIGUSR1: checkpoint. SIGHUP: nothing, a run outlives its terminal.

        A thread hears them: Python's own handlers wait until the main thread is back from torch, and a step may take a minute.
        """
        heard, self._signals = socket.socketpair()
        self._signals.setblocking(False)
        signal.set_wakeup_fd(self._signals.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, _heard_by_the_thread)
        threading.Thread(target=self._hear_signals, args=(heard,), name="signals", daemon=True).start()

    def _hear_signals(self, heard: socket.socket) -> None:
        """One byte a signal, written by the interpreter in the moment in which it comes."""
        while numbers := heard.recv(64):
            for number in numbers:
                if number == signal.SIGUSR1:
                    self.deliver(_from_signal("SIGUSR1", "checkpoint", _nobody_waits))
                elif number in (signal.SIGTERM, signal.SIGINT):
                    if time.monotonic() < self._leaves_until:
                        os._exit(EXIT_KILLED)
                    self._leaves_until = math.inf
                    self.deliver(_from_signal(signal.Signals(number).name, "stop", self._stop_answered))

    def _stop_answered(self, result: CommandResult) -> None:
        """A full disk may refuse a stop, and the run trains on, for days perhaps: a signal that comes much later is a first one again."""
        if not result.ok:
            self._leaves_until = time.monotonic() + self._forget_seconds


def _heard_by_the_thread(_number: int, _frame: FrameType | None) -> None:
    """Python needs a handler before it tells the thread of a signal."""


def _from_signal(name: str, verb: Verb, answer: Callable[[CommandResult], None]) -> PendingCommand:
    return PendingCommand(Command(id=f"{name}-{uuid4().hex}", verb=verb), answer)


def _nobody_waits(_result: CommandResult) -> None:
    """The answer to SIGUSR1: there is nobody to tell."""
