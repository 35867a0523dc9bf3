"""The processes of a `bench`: its children, a busy neighbour, and what others use meanwhile."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar, cast

import psutil
from pydantic import BaseModel

from rnnlm_tui.bench.plan import ratio, spread
from rnnlm_tui.bench.report import (
    BenchTask,
    CorpusProgress,
    NeighbourFigures,
    TaskReady,
    TurnDone,
    TurnRequest,
)
from rnnlm_tui.errors import InputError, WorkerError, error_kind
from rnnlm_tui.schema.protocol import TaskFailed, decode_line, encode_line
from rnnlm_tui.system.processes import dependent_environment, last_lines, python_command

AnswerT = TypeVar("AnswerT", bound=BaseModel)

SILENCE_SECONDS = 300.0
"""Longest silence of a child: a step of a large model on a busy machine may take a minute."""
OPENMP_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""Variables that torch's default environment doesn't have."""
PLACES = ("alone", "beside")
NOTICEABLE_CORES = 0.3
"""Cores of other processes from which the report warns."""


class Child:
    """A process that measures one task.

    It has its own session, so that Ctrl-C reaches only the parent, and ends when the parent is
    gone.
    """

    def __init__(
        self,
        name: str,
        task: BenchTask,
        log: Path,
        settings: Mapping[str, str] | None = None,
        *,
        without: Sequence[str] = (),
        command: Sequence[str] | None = None,
    ) -> None:
        """Start the process; `ready` waits for its first answer.

        Args:
            log: receives its stderr.
            settings: environment variables, unless the user has set them.
            without: environment variables to remove.
            command: another program that speaks the protocol.
        """
        self.name = name
        self._log = log
        environment = {
            key: value
            for key, value in dependent_environment(settings or {}).items()
            if key not in without
        }
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                list(command) if command is not None else python_command("rnnlm_tui.bench.worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
        self._answers: SimpleQueue[bytes | None] = SimpleQueue()
        threading.Thread(target=self._read, name=f"read-{name}", daemon=True).start()
        self._write(task)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ready(
        self, kind: type[AnswerT], on_progress: Callable[[CorpusProgress], None] | None = None
    ) -> AnswerT:
        """Wait for the answer to the task.

        Args:
            on_progress: called while the child prepares a corpus; each call restarts the time
                limit.

        Raises:
            RnnlmError: the child reported an error; WorkerError: it died or is silent.
        """
        return self._answer(kind, on_progress)

    def ask(self, request: BaseModel, kind: type[AnswerT]) -> AnswerT:
        """Send a request and wait for its answer; raises as `ready`."""
        self._write(request)
        return self._answer(kind)

    def close(self) -> None:
        """Kill the process and wait for its end."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # the reader is gone
                    pipe.close()

    def _write(self, message: BaseModel) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode_line(message))
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._answers.put(line)
        except ValueError:
            return  # the pipe was closed
        self._answers.put(None)

    def _answer(
        self, kind: type[AnswerT], on_progress: Callable[[CorpusProgress], None] | None = None
    ) -> AnswerT:
        until = time.monotonic() + SILENCE_SECONDS
        while True:
            try:
                line = self._answers.get(timeout=max(0.01, until - time.monotonic()))
            except Empty:
                hint = (
                    "use a smaller --preset: its steps take less time"
                    if on_progress is None
                    else "use a shorter text"
                )
                raise WorkerError(
                    f"no answer from {self.name} for {SILENCE_SECONDS:g} s", hint=hint
                ) from None
            if line is None:
                raise self._ended()
            try:
                answer = decode_line(line, kind, TaskFailed, CorpusProgress)
            except InputError:
                continue  # not a message: a library printed something
            if isinstance(answer, CorpusProgress):
                until = time.monotonic() + SILENCE_SECONDS
                if on_progress is not None:
                    on_progress(answer)
                continue
            if isinstance(answer, TaskFailed):
                # An input error explains itself; other errors need the child's name.
                whose = "" if answer.exit_code == InputError.exit_code else f"{self.name}: "
                raise error_kind(answer.exit_code)(whose + answer.message, hint=answer.hint)
            return cast(AnswerT, answer)

    def _ended(self) -> WorkerError:
        code = self._process.wait()
        killed = -code if code < 0 else code - 128
        words = next((line for line in reversed(last_lines(self._log, 20)) if line.strip()), "")
        how = (
            "was killed, perhaps because the machine is out of memory"
            if killed == 9
            else f"ended (exit code {code})"
        )
        return WorkerError(f"{self.name} {how}" + (f": {words}" if words else ""))


class Busy:
    """A process that keeps one core busy until closed."""

    def __init__(self) -> None:
        core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        command = python_command("rnnlm_tui.bench.busy", str(core))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=dependent_environment({}),
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.read(1)  # it is busy from now on

    def close(self) -> None:
        """Kill the process and wait for its end."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Neighbourhood:
    """Two children that train the same in two environments; each round has a turn alone and one
    next to the busy process."""

    def __init__(self, default: Child, ours: Child, warm_up_steps: int) -> None:
        """Wait for both, then warm them up one after the other."""
        self._children = {"default": default, "ours": ours}
        self._speeds: dict[tuple[str, str], list[float]] = {
            (place, name): [] for place in PLACES for name in self._children
        }
        for child in self._children.values():
            child.ready(TaskReady)
        for child in self._children.values():
            child.ask(TurnRequest(seconds=0, least=warm_up_steps), TurnDone)

    def round(self, seconds: float) -> None:
        """Four turns of this many seconds."""
        self._turns("alone", seconds)
        with ExitStack() as stack:
            stack.callback(Busy().close)
            self._turns("beside", seconds)

    def figures(self) -> NeighbourFigures:
        """Speeds of all rounds; call `round` at least once before."""
        speeds = self._speeds
        return NeighbourFigures(
            alone_default=spread(speeds["alone", "default"]),
            alone_ours=spread(speeds["alone", "ours"]),
            beside_default=spread(speeds["beside", "default"]),
            beside_ours=spread(speeds["beside", "ours"]),
            kept_default=ratio(speeds["beside", "default"], speeds["alone", "default"]),
            kept_ours=ratio(speeds["beside", "ours"], speeds["alone", "ours"]),
            alone_ratio=ratio(speeds["alone", "ours"], speeds["alone", "default"]),
        )

    def _turns(self, place: str, seconds: float) -> None:
        for name, child in self._children.items():
            done = child.ask(TurnRequest(seconds=seconds), TurnDone)
            self._speeds[place, name].append(done.tokens / done.seconds)


class OtherProcesses:
    """Counts from its construction on. Children that have been waited for count as ours."""

    def __init__(self) -> None:
        self._began, self._busy, self._own = time.monotonic(), _busy_seconds(), _own_seconds()

    def cores(self) -> float:
        """Mean number of cores that other processes have used since."""
        spent = max(1e-3, time.monotonic() - self._began)
        return max(0.0, (_busy_seconds() - self._busy) - (_own_seconds() - self._own)) / spent


def _busy_seconds() -> float:
    """Of the cores that this process may use."""
    times = psutil.cpu_times(percpu=True)
    # macOS has no affinity; a container may list fewer cores than their highest number.
    with suppress(AttributeError, IndexError):
        times = [times[core] for core in sorted(os.sched_getaffinity(0))]
    return sum(
        sum(core)
        - core.idle
        - getattr(core, "iowait", 0.0)
        - getattr(core, "guest", 0.0)
        - getattr(core, "guest_nice", 0.0)
        for core in times
    )


def _own_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system
