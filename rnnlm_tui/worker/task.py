"""Answer the one request of a child process: `python -m rnnlm_tui.worker.task NAME` reads JSON from
stdin and writes progress and a result on stdout.

NAME is the module of this package whose function `task` answers. The other side is `client.child`.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Protocol

from pydantic import BaseModel

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.protocol import TaskFailed, TaskProgress, encode_line
from rnnlm_tui.system.files import keep_private
from rnnlm_tui.system.processes import end_with_parent


class ReportProgress(Protocol):
    """Sends what the task does now, how much of it is done, and the total; 0: unknown."""

    def __call__(self, phase: str, done: int = 0, total: int = 0, /) -> None: ...


class Interrupted(BaseException):
    """Raised in the task by SIGTERM."""


def answer(work: Callable[[bytes, ReportProgress], BaseModel]) -> int:
    """Answer the request on stdin; returns the exit code, as in `rnnlm_tui.errors`.

    Args:
        work: returns the result of a request. The last message is its error if it raises one.
    """
    end_with_parent()
    # Ctrl-C is for the parent process, which sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)

    def report(phase: str, done: int = 0, total: int = 0) -> None:
        _write(TaskProgress(phase=phase, done=done, total=total))

    try:
        _write(work(sys.stdin.buffer.read(), report))
    except Interrupted:
        return 128 + signal.SIGTERM
    except BrokenPipeError:
        # The reader is gone; without this Python's last flush would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        traceback.print_exc()  # to stderr, the log of the parent process
        failed = failure_of(error)
        _write(failed)
        return failed.exit_code
    return 0


def failure_of(error: Exception) -> TaskFailed:
    """The failure of any exception: its message, or the type and text of one that isn't ours."""
    exhausted = _is_out_of_memory(error) or _is_out_of_memory(error.__cause__)
    if isinstance(error, RnnlmError):
        return TaskFailed(
            message=error.message,
            hint=error.hint,
            exit_code=error.exit_code,
            out_of_memory=exhausted,
        )
    return TaskFailed(
        message="out of memory" if exhausted else f"{type(error).__name__}: {error}",
        exit_code=RnnlmError.exit_code,
        out_of_memory=exhausted,
    )


def _is_out_of_memory(error: BaseException | None) -> bool:
    if error is None or "torch" not in sys.modules:  # importing torch may be what failed
        return isinstance(error, MemoryError)
    from rnnlm_tui.engine.device import is_out_of_memory

    return is_out_of_memory(error)


def _write(message: BaseModel) -> None:
    sys.stdout.buffer.write(encode_line(message))
    sys.stdout.buffer.flush()


def main() -> int:
    """Let the module that the command line names answer; returns the exit code."""
    keep_private()
    return answer(
        lambda line, report: import_module(f"rnnlm_tui.worker.{sys.argv[1]}").task(line, report)
    )


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted


if __name__ == "__main__":
    sys.exit(main())
