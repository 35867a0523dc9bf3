"""Run a child process for one request: JSON on its stdin, progress and a result on its stdout."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from select import select
from types import MappingProxyType
from typing import IO, TypeVar, cast

from pydantic import BaseModel

from rnnlm_tui.errors import DeviceError, InputError, RnnlmError, WorkerError, error_kind
from rnnlm_tui.schema.protocol import TaskFailed, TaskProgress, decode_line, encode_line
from rnnlm_tui.schema.record import Record
from rnnlm_tui.system.processes import dependent_environment, python_command

DoneT = TypeVar("DoneT", bound=BaseModel)

LEAVE_SECONDS = 5.0
"""How long a child may take to exit before it is killed; the next preparation removes its
unfinished files."""
CHECK_SECONDS = 0.05
KILLED = -9
"""Exit code of a process killed by the system, which also happens when memory runs out."""


def run_child(
    task: str,
    request: BaseModel | Record,
    done: type[DoneT],
    report: Callable[[TaskProgress], None] = lambda _: None,
    *,
    what: str,
    hint_for_memory: Callable[[], str] = lambda: "close other programs and try again",
    settings: Mapping[str, str] = MappingProxyType({}),
    check: Callable[[], None] | None = None,
) -> DoneT:
    """Send a request to a child process and return its result. The child ends with this call.

    Args:
        task: its name, as in `worker.task`.
        done: the model of the result.
        report: called with each progress message.
        what: the child's name in errors, such as `the probe`.
        hint_for_memory: returns a hint if the child ran out of memory.
        settings: environment variables that it gets unless the user has set them.
        check: called some times a second while the child writes nothing; an exception ends it.

    Raises:
        InputError, StorageError: as the child reports.
        DeviceError: it ran out of memory.
        WorkerError: it died, or was killed.
    """
    with tempfile.TemporaryFile() as sent, tempfile.TemporaryFile() as log:
        sent.write(encode_line(request))
        sent.seek(0)
        process = subprocess.Popen(
            python_command("rnnlm_tui.worker.task", task),
            stdin=sent,
            stdout=subprocess.PIPE,
            stderr=log,
            env=dependent_environment(settings),
        )
        try:
            answer = _answer(process, done, report, check)
        finally:
            _end(process)
        if isinstance(answer, done):
            return answer
        failed = answer if isinstance(answer, TaskFailed) else None
        raise _error(failed, process.returncode, log, what, hint_for_memory)


def _answer(
    process: subprocess.Popen[bytes],
    done: type[DoneT],
    report: Callable[[TaskProgress], None],
    check: Callable[[], None] | None,
) -> DoneT | TaskFailed | None:
    """The child's result; None if it exited without one."""
    for line in _lines(process, check):
        try:
            message = cast(
                TaskProgress | DoneT | TaskFailed,
                decode_line(line, TaskProgress, done, TaskFailed),
            )
        except InputError:
            continue  # output of a library
        if not isinstance(message, TaskProgress):
            process.wait()
            return message
        report(message)
    process.wait()
    return None


def _lines(process: subprocess.Popen[bytes], check: Callable[[], None] | None) -> Iterator[bytes]:
    """What the child writes, line by line; `check` is called while it writes nothing."""
    assert process.stdout is not None
    output, held = process.stdout.fileno(), b""
    while True:
        while check is not None and not select([output], [], [], CHECK_SECONDS)[0]:
            check()
        written = os.read(output, 1 << 16)
        if not written:
            break
        *lines, held = (held + written).split(b"\n")
        yield from lines
    if held:
        yield held


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a child that still runs, and close its output."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _error(
    answer: TaskFailed | None,
    code: int,
    log: IO[bytes],
    what: str,
    hint_for_memory: Callable[[], str],
) -> RnnlmError:
    kinds = (RnnlmError.exit_code, DeviceError.exit_code)  # a refused file isn't a full memory
    if answer is not None and answer.out_of_memory and answer.exit_code in kinds:
        return DeviceError(answer.message, hint=hint_for_memory())
    if answer is not None:
        return error_kind(answer.exit_code)(answer.message, hint=answer.hint)
    if code == KILLED:
        return WorkerError(
            f"{what} was killed, probably because memory ran out", hint=hint_for_memory()
        )
    log.seek(0)
    words = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return WorkerError(
        f"{what} failed (exit code {code})" + (f": {words[-1][:300]}" if words else "")
    )
