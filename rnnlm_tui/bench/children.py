"""The child processes of `bench`: `python -m rnnlm_tui.bench.children` runs a program, which is
asked over a socket as its standard input.

Also counts the cores that other processes use meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from rnnlm_tui.errors import InputError, WorkerError, error_kind
from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.schema.protocol import TaskFailed
from rnnlm_tui.system.processes import (
    dependent_environment,
    end_with_parent,
    last_lines,
    python_command,
)

SILENCE_SECONDS = 300.0
"""Longest silence of a child: a step of a large model on a busy machine may take a minute."""
NOTICEABLE_CORES = 0.3
"""Cores of other processes from which the report warns."""


class Child:
    """A process that makes one of `bench.programs` and calls its methods.

    It has its own session, so that Ctrl-C reaches only the parent, and ends when the parent is
    gone.

    Args:
        name: in errors.
        program: its name in `bench.programs`.
        arguments: of the program.
        log: receives what the process prints.
        settings: environment variables, unless the user has set them.
    """

    def __init__(
        self,
        name: str,
        program: str,
        arguments: Mapping[str, object],
        log: Path,
        settings: Mapping[str, str],
    ) -> None:
        self.name, self._log = name, log
        self._connection, theirs = Pipe()
        with theirs, log.open("wb") as output:
            self._process = subprocess.Popen(
                python_command("rnnlm_tui.bench.children"),
                stdin=theirs.fileno(),
                stdout=output,
                stderr=output,
                env=dependent_environment(settings),
                start_new_session=True,
            )
        self._connection.send((program, dict(arguments)))

    def call(self, method: str, arguments: Mapping[str, object]) -> None:
        """Call a method of the program; `answer` has its result."""
        with suppress(OSError):  # it ended: `answer` says so
            self._connection.send((method, arguments))

    def answer(self, on_progress: Callable[[Progress], None] = lambda _: None) -> Any:
        """Wait for the next answer; the first is that of the program itself.

        Args:
            on_progress: called while the child prepares a text; each call restarts the time limit.

        Raises:
            RnnlmError: the child reported an error.
            WorkerError: it died, or is silent.
        """
        try:
            while self._connection.poll(SILENCE_SECONDS):
                answer = self._connection.recv()
                if isinstance(answer, TaskFailed):
                    # An input error explains itself; other errors need the child's name.
                    whose = "" if answer.exit_code == InputError.exit_code else f"{self.name}: "
                    raise error_kind(answer.exit_code)(whose + answer.message, hint=answer.hint)
                if not isinstance(answer, Progress):
                    return answer
                on_progress(answer)
        except (EOFError, OSError):
            raise self._ended() from None
        raise WorkerError(
            f"no answer from {self.name} for {SILENCE_SECONDS:g} s",
            hint="use a smaller --preset: its steps take less time",
        )

    def close(self) -> None:
        """Kill the process and wait for its end."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _ended(self) -> WorkerError:
        code = self._process.wait()
        words = next((line for line in reversed(last_lines(self._log, 20)) if line.strip()), "")
        how = (
            "was killed, perhaps because the machine is out of memory"
            if code in (-9, 137)
            else f"ended (exit code {code})"
        )
        return WorkerError(f"{self.name} {how}" + (f": {words}" if words else ""))


def main() -> None:
    """Make the program that the parent names, then call its methods, until the parent is gone or
    one fails."""
    end_with_parent()
    with Connection(0) as connection, suppress(EOFError, BrokenPipeError):
        program, arguments = connection.recv()
        try:
            # Only now: torch may be missing, which is reported as any other failure.
            from rnnlm_tui.bench import programs

            if program == "text":
                connection.send(programs.find_or_prepare(**arguments, progress=connection.send))
                return
            made = programs.PROGRAMS[program](**arguments)
            connection.send(made.ready())
            while True:
                method, values = connection.recv()
                connection.send(getattr(made, method)(**values))
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            from rnnlm_tui.worker.task import failure_of

            traceback.print_exc()  # to the log
            failed = failure_of(error)
            if failed.out_of_memory and not failed.hint:
                hint = "use a smaller --preset or a machine with more memory"
                failed = failed.model_copy(update={"hint": hint})
            connection.send(failed)


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


if __name__ == "__main__":
    main()
