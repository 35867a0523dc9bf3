"""A child process of `bench`: reads a task, then turns as lines on stdin; answers on stdout."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import BinaryIO, Protocol, cast

from pydantic import BaseModel

from rnnlm_tui.bench.report import BenchTask, CorpusProgress, SaveRequest, TurnRequest
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.metrics import Progress
from rnnlm_tui.schema.protocol import TaskFailed, decode_line, encode_line
from rnnlm_tui.system.processes import end_with_parent
from rnnlm_tui.worker.task import failure_of

Send = Callable[[BaseModel], None]


class BenchSession(Protocol):
    """A task that is set up."""

    def turn(self, request: TurnRequest) -> BaseModel:
        """Compute for a while; returns the result."""
        ...

    def save(self, path: str) -> BaseModel:
        """Write the weights."""
        ...


def set_up(task: BenchTask, send: Send) -> tuple[BaseModel, BenchSession | None]:
    """The first answer, and the session that takes turns.

    Args:
        send: receives the progress while a corpus is prepared.
    """
    # Only now: torch may be missing, which is reported as any other failure of a task.
    from rnnlm_tui.bench.tasks import MachineTask, SamplingTask, TrainingTask, find_or_prepare

    if task.role == "corpus":

        def advance(progress: Progress) -> None:
            send(CorpusProgress(phase=progress.phase, done=progress.done, total=progress.total))

        return find_or_prepare(task, advance), None
    if task.role == "machine":
        machine = MachineTask(task)
        return machine.survey(), machine
    if task.role in ("naive sampling", "engine sampling"):
        sampling = SamplingTask(task)
        return sampling.ready(), sampling
    training = TrainingTask(task)
    return training.ready(), training


def serve(lines: SimpleQueue[bytes], output: BinaryIO) -> None:
    """Answer one line after the other until one fails."""

    def send(message: BaseModel) -> None:
        output.write(encode_line(message))
        output.flush()

    try:
        ready, session = set_up(decode_line(lines.get(), BenchTask), send)
        send(ready)
        while session is not None:
            request = cast(
                TurnRequest | SaveRequest, decode_line(lines.get(), TurnRequest, SaveRequest)
            )
            send(
                session.save(request.path)
                if isinstance(request, SaveRequest)
                else session.turn(request)
            )
    except Exception as error:
        if not isinstance(error, RnnlmError):
            traceback.print_exc()  # to stderr, the log of the parent process
        send(_failed(error))


def main() -> None:
    """Serve until stdin ends: then the parent process is gone."""
    end_with_parent()
    lines: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, name="read", daemon=True).start()
    serve(lines, sys.stdout.buffer)


def _failed(error: Exception) -> TaskFailed:
    failed = failure_of(error)
    if failed.hint or not failed.out_of_memory:
        return failed
    hint = "use a smaller --preset or a machine with more memory"
    return failed.model_copy(update={"hint": hint})


if __name__ == "__main__":
    main()
