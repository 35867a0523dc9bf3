"""Child: one process of a `bench`, asked over pipes, one answer a request."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar, cast

from pydantic import BaseModel

from rnnlm_tui.contract.bench import BenchTask, Preparing, TaskFailed
from rnnlm_tui.contract.wire import decode_line, encode_line
from rnnlm_tui.errors import InputError, WorkerError, error_kind
from rnnlm_tui.supervisor.processes import dependent_environment, last_lines, python_command

AnswerT = TypeVar("AnswerT", bound=BaseModel)

PATIENCE_SECONDS = 300.0
"""Longest silence of a child; a step of a large model on a busy machine may take a minute."""


class Child:
    """A process that measures one task. It leads a session of its own, so that Ctrl-C reaches us alone; it ends itself when we are gone."""

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
        """Start it; `ready` waits for its first answer.

        Args:
            log: takes what it says on stderr.
            settings: environment variables, where the user has not set them.
            without: environment variables that it must not have, whoever set them.
            command: another process that speaks the protocol.
        """
        self.name = name
        self._log = log
        environment = {key: value for key, value in dependent_environment(settings or {}).items() if key not in without}
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                list(command) if command is not None else python_command("rnnlm_tui.worker.bench"),
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

    def ready(self, kind: type[AnswerT], tell: Callable[[Preparing], None] | None = None) -> AnswerT:
        """The answer to the task.

        Args:
            tell: told how far a child is that prepares a text, which may take much longer than its silence may.

        Raises:
            RnnlmError: what the child says can't be done; WorkerError when it died or is silent.
        """
        return self._answer(kind, tell)

    def ask(self, request: BaseModel, kind: type[AnswerT]) -> AnswerT:
        """One request and its answer; raises as `ready`."""
        self._write(request)
        return self._answer(kind)

    def close(self) -> None:
        """End it at once and wait for that."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what could not be flushed has no reader any more
                    pipe.close()

    def _write(self, message: BaseModel) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode_line(message))
            self._process.stdin.flush()
        except OSError as error:
            raise self._death() from error

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._answers.put(line)
        except ValueError:
            return  # closed under us
        self._answers.put(None)

    def _answer(self, kind: type[AnswerT], tell: Callable[[Preparing], None] | None = None) -> AnswerT:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                line = self._answers.get(timeout=max(0.01, until - time.monotonic()))
            except Empty:
                hint = "a smaller --preset takes less time a step" if tell is None else "a shorter text is prepared sooner"
                raise WorkerError(f"{self.name} is silent for {PATIENCE_SECONDS:g} s", hint=hint) from None
            if line is None:
                raise self._death()
            try:
                answer = decode_line(line, kind, TaskFailed, Preparing)
            except InputError:
                continue  # not a message: a library greets its users
            if isinstance(answer, Preparing):
                until = time.monotonic() + PATIENCE_SECONDS
                if tell is not None:
                    tell(answer)
                continue
            if isinstance(answer, TaskFailed):
                # What is wrong with the input says so itself; for all else one wants to know whose it is.
                whose = "" if answer.exit_code == InputError.exit_code else f"{self.name}: "
                raise error_kind(answer.exit_code)(whose + answer.message, hint=answer.hint)
            return cast(AnswerT, answer)

    def _death(self) -> WorkerError:
        code = self._process.wait()
        killed = -code if code < 0 else code - 128
        words = next((line for line in reversed(last_lines(self._log, 20)) if line.strip()), "")
        how = "was killed, by a machine out of memory perhaps" if killed == 9 else f"ended (exit code {code})"
        return WorkerError(f"{self.name} {how}" + (f": {words}" if words else ""))


class Busy:
    """A process that does nothing but keep one core busy, while it lives."""

    def __init__(self) -> None:
        core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
        command = python_command("rnnlm_tui.supervisor.bench.busy", str(core))
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=dependent_environment({}), start_new_session=True)
        assert self._process.stdout is not None
        self._process.stdout.read(1)  # it spins from now on

    def close(self) -> None:
        """End it and wait for that."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
