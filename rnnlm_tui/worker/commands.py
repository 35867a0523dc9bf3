"""CommandHandler and Inbox: commands and signals, which act between two steps."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Protocol
from uuid import uuid4

from rnnlm_tui.errors import ConfigError, RnnlmError, StorageError
from rnnlm_tui.schema.protocol import Command, CommandResult, Verb
from rnnlm_tui.schema.status import REQUEUED
from rnnlm_tui.schema.steering import value_text
from rnnlm_tui.worker.control import PendingCommand

EXIT_KILLED = 128 + signal.SIGTERM
"""Exit code after a second SIGTERM, as a shell would show it."""
FORGET_SECONDS = 60.0
"""A stop signal after a refused stop exits at once within this time; later it counts as a first
one."""
Handler = Callable[[PendingCommand], None]


class CommandTarget(Protocol):
    """The run that commands act on, between two steps. An error becomes the command's answer."""

    @property
    def status(self) -> str:
        """running, paused, preparing or stopping."""

    @property
    def step(self) -> int: ...

    @property
    def saved(self) -> str:
        """The newest checkpoint, relative to the run directory; empty: none yet."""

    def carry_out(self, command: Command) -> Mapping[str, Any]:
        """Do what a command asks; returns fields of its `CommandResult`."""


class CommandHandler:
    """Handles the commands of one attempt. No command ends the training: an error is its answer.

    A stop is recorded once its checkpoint is saved, but `answer_stops` answers it only after the
    run's lock is released, so that a client may resume as soon as it has the answer.
    """

    def __init__(
        self, target: CommandTarget, journal: Callable[[Command, CommandResult], None]
    ) -> None:
        self.target = target
        """What commands act on; replaced when the run has been prepared and starts training."""
        self._journal = journal
        self._stops: list[tuple[PendingCommand, CommandResult]] = []

    def status(self, command: Command) -> CommandResult:
        """Answer a `status` command, from any thread. It changes nothing, so it is not recorded."""
        return self._result(command)

    def handle(self, pending: PendingCommand) -> None:
        """Act on a command, record it and answer."""
        command = pending.command
        result = self._result(command, **self._outcome(command))
        stops = command.verb == "stop" and result.ok
        if stops:
            self._stops.append((pending, result))
        try:
            self._journal(command, result)
        except StorageError as error:
            traceback.print_exc()  # to stderr, the run's log
            if result.ok:
                failed = (
                    f"{command.verb} was carried out but could not be recorded: {error.message}"
                )
                result = result.model_copy(
                    update={"ok": False, "error": failed, "hint": error.hint}
                )
        if not stops:
            pending.answer(result)

    def answer_stops(self) -> None:
        """Answer the stops that were carried out."""
        while self._stops:
            pending, result = self._stops.pop()
            pending.answer(result)

    def answer_after_end(
        self, pending: PendingCommand, ending: str, failure: RnnlmError | None = None
    ) -> None:
        """Answer a command that came after the attempt ended: a stop succeeds unless the run
        failed."""
        command, outcome = pending.command, dict[str, str]()
        if command.verb != "stop":
            outcome["error"] = f"too late: the run has just {ending}"
        else:
            outcome["checkpoint"] = self.target.saved
            if ending == "failed":
                why = "" if failure is None else f": {failure.message}"
                outcome |= {
                    "error": f"the run has failed{why}",
                    "hint": "" if failure is None else failure.hint,
                }
        pending.answer(self._result(command, **outcome, status=ending))

    def _result(self, command: Command, **outcome: Any) -> CommandResult:
        state = {"status": self.target.status, "step": self.target.step}
        return CommandResult(id=command.id, ok="error" not in outcome, **{**state, **outcome})

    def _outcome(self, command: Command) -> Mapping[str, Any]:
        try:
            return self.target.carry_out(command)
        except RnnlmError as error:
            problems = error.problems if isinstance(error, ConfigError) else ()
            return {"error": error.message, "hint": error.hint, "problems": problems}
        except Exception as error:
            # Such as out of memory: training continues as before the command. torch is imported by
            # the time that a command can fail like this.
            traceback.print_exc()  # to stderr, the run's log
            from rnnlm_tui.engine.device import explained_aside

            explanation = explained_aside(error, command.verb)
            return {"error": explanation.message, "hint": explanation.hint}


SHOWN_REQUESTS = 8
"""The newest commands that wait and are shown."""
Request = dict[str, str | float]
"""A command that waits: its words, who asked, and when."""


class Requests:
    """Shows every reader of the run which commands wait for the training thread.

    Args:
        show: shows these requests in place of those before; safe to call from two threads.
    """

    def __init__(self, show: Callable[[tuple[Request, ...]], None]) -> None:
        self._show = show
        self._lock = threading.Lock()
        self._waiting: dict[int, Request] = {}

    def shown(self, pending: PendingCommand) -> PendingCommand:
        """The same command, shown from now until it is answered."""
        command = pending.command
        words = request_words(command)
        if not words:
            return pending
        self._update(
            id(pending), {"words": words, "who": command.who, "time": round(time.time(), 3)}
        )

        def answer(result: CommandResult) -> None:
            self._update(id(pending), None)
            pending.answer(result)

        return PendingCommand(command, answer)

    def _update(self, key: int, request: Request | None) -> None:
        with self._lock:
            if request is None:
                self._waiting.pop(key, None)
            else:
                self._waiting[key] = request
            self._show(tuple(self._waiting.values())[-SHOWN_REQUESTS:])


def request_words(command: Command) -> str:
    """A command that takes a while, in words: `learning_rate 0.001`; empty: it isn't shown."""
    match command.verb:
        case "set":
            return ", ".join(
                f"{path.rpartition('.')[2]} {value_text(path, value)}"
                for path, value in (command.changes or {}).items()
            )[:200]
        case "stop_after":
            marks = {"epoch": "stop after this epoch", "evaluation": "stop after evaluation"}
            return marks.get(command.after or "", "no planned stop")
        case "undo" | "stop" | "pause" | "checkpoint" | "evaluate":
            return command.verb
        case _:
            return ""


class StopRequested(Exception):  # noqa: N818 - not an error: it was requested
    """Raised out of long work (preparing a corpus, an evaluation) when a stop is pending."""


class Inbox:
    """A queue that the control and signal threads fill and the training thread empties."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[PendingCommand] = SimpleQueue()
        self._signals: socket.socket | None = None  # kept open: the interpreter writes into it
        self._exits_until = -math.inf  # monotonic time; until then a stop signal exits at once
        self._stops: set[int] = set()  # ids of the queued stops; adding and discarding are atomic
        self._lock = threading.Lock()  # a command is either queued or handled at once, never both
        self._immediate: tuple[Handler, Handler] | None = None
        self._is_leaving = False
        self.is_job_ending = False
        """Whether a Slurm job's signal came before its time limit; the job should be requeued."""

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

        For work in torch that keeps the main thread for minutes. Commands queued before stay
        queued.

        Args:
            handle: called with every command but a stop.
            leave: called with the first stop, in a new thread; it ends the process, and the main
                thread waits for that at the end of the block.
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

        SIGTERM and SIGINT: checkpoint and stop; a second one exits at once. SIGUSR1: checkpoint,
        and in a job that is then requeued stop. SIGHUP: ignored, a run outlives its terminal.

        A thread receives them: Python's own handlers wait until the main thread returns from torch,
        and a step may take a minute.
        """
        receiver, self._signals = socket.socketpair()
        self._signals.setblocking(False)
        signal.set_wakeup_fd(self._signals.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, _left_to_the_thread)
        threading.Thread(
            target=self._receive_signals, args=(receiver,), name="signals", daemon=True
        ).start()

    def _receive_signals(self, receiver: socket.socket) -> None:
        """Read one byte a signal, which the interpreter writes the moment that it arrives."""
        while numbers := receiver.recv(64):
            for number in numbers:
                if number == signal.SIGUSR1 and REQUEUED in os.environ:
                    self.is_job_ending = True
                    self.deliver(_from_signal("SIGUSR1", "stop", _discard_answer))
                elif number == signal.SIGUSR1:
                    self.deliver(_from_signal("SIGUSR1", "checkpoint", _discard_answer))
                elif number in (signal.SIGTERM, signal.SIGINT):
                    if time.monotonic() < self._exits_until:
                        os._exit(EXIT_KILLED)
                    self._exits_until = math.inf
                    self.deliver(
                        _from_signal(signal.Signals(number).name, "stop", self._stop_answered)
                    )

    def _stop_answered(self, result: CommandResult) -> None:
        """If a full disk refused the stop, training may go on for days: a much later signal is a
        first one again."""
        if not result.ok:
            self._exits_until = time.monotonic() + FORGET_SECONDS


def _left_to_the_thread(_number: int, _frame: FrameType | None) -> None:
    """Python writes to the wakeup descriptor only for signals that have a handler."""


def _from_signal(name: str, verb: Verb, answer: Callable[[CommandResult], None]) -> PendingCommand:
    return PendingCommand(Command(id=f"{name}-{uuid4().hex}", verb=verb), answer)


def _discard_answer(_result: CommandResult) -> None:
    """A signal has no way back to its sender."""
