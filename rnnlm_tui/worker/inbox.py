"""Where commands and signals wait until they can act between two steps."""

from __future__ import annotations

import os
import signal
from queue import Empty, SimpleQueue
from types import FrameType
from uuid import uuid4

from rnnlm_tui.contract.commands import Command, CommandResult, Verb
from rnnlm_tui.worker.control import PendingCommand

EXIT_KILLED = 128 + signal.SIGTERM
"""Exit code after a second SIGTERM, as a shell would show it."""


class StopRequested(Exception):  # noqa: N818 - not an error: somebody asked for it
    """Raised out of long work (preparing a corpus, an evaluation) when a stop waits."""


class Inbox:
    """A queue that the control thread and signal handlers fill and the trainer empties."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[PendingCommand] = SimpleQueue()  # its put may interrupt itself, so signal handlers can use it
        self._terminated = False
        self._stops: set[int] = set()  # the stops in the queue by identity; adding and discarding are atomic

    @property
    def stop_waits(self) -> bool:
        """A stop has come and was not taken yet: long work should end itself soon."""
        return bool(self._stops)

    def deliver(self, pending: PendingCommand) -> None:
        """Queue a command; from any thread."""
        if pending.command.verb == "stop":
            self._stops.add(id(pending))
        self._queue.put(pending)

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
        """SIGTERM and SIGINT: checkpoint and stop, a second one leaves now. SIGUSR1: checkpoint. SIGHUP: nothing, a run outlives its terminal."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_terminate)
        signal.signal(signal.SIGINT, self._on_terminate)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: self.deliver(_from_signal("SIGUSR1", "checkpoint")))

    def _on_terminate(self, number: int, _frame: FrameType | None) -> None:
        if self._terminated:
            os._exit(EXIT_KILLED)
        self._terminated = True
        self.deliver(_from_signal(signal.Signals(number).name, "stop"))


def _from_signal(name: str, verb: Verb) -> PendingCommand:
    return PendingCommand(Command(id=f"{name}-{uuid4().hex}", verb=verb), _nobody_waits)


def _nobody_waits(_result: CommandResult) -> None:
    """The answer to a signal: there is nobody to tell."""
