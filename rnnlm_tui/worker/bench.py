"""A child of `bench`: `python -m rnnlm_tui.worker.bench` takes one task as a line on stdin, then turns, and answers on stdout."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from typing import BinaryIO, Protocol, cast

from pydantic import BaseModel

from rnnlm_tui.contract.bench import BenchTask, Preparing, SaveRequest, TaskFailed, TurnRequest
from rnnlm_tui.contract.metrics import Progress
from rnnlm_tui.contract.wire import decode_line, encode_line
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.supervisor.processes import end_with_parent
from rnnlm_tui.worker.failure import failure_of

Say = Callable[[BaseModel], None]


class Measured(Protocol):
    """A task that was set up."""

    def turn(self, request: TurnRequest) -> BaseModel:
        """Compute for a while; what came of it."""
        ...

    def save(self, path: str) -> BaseModel:
        """Write the weights."""
        ...


def set_up(task: BenchTask, say: Say) -> tuple[BaseModel, Measured | None]:
    """The first answer, and what takes turns. Each role imports only what it needs.

    Args:
        say: told how far a text is that has to be prepared.
    """
    if task.role == "corpus":
        from rnnlm_tui.worker.bench_corpus import find_or_prepare

        def advance(progress: Progress) -> None:
            say(Preparing(phase=progress.phase, done=progress.done, total=progress.total))

        return find_or_prepare(task, advance), None
    if task.role == "machine":
        from rnnlm_tui.worker.bench_machine import MachineTask

        machine = MachineTask(task)
        return machine.survey(), machine
    if task.role in ("naive sampling", "engine sampling"):
        from rnnlm_tui.worker.bench_sampling import SamplingTask

        sampling = SamplingTask(task)
        return sampling.ready(), sampling
    from rnnlm_tui.worker.bench_training import TrainingTask

    training = TrainingTask(task)
    return training.ready(), training


def serve(lines: SimpleQueue[bytes], output: BinaryIO) -> None:
    """Answer one line after the other; ends at the first that fails."""

    def say(message: BaseModel) -> None:
        output.write(encode_line(message))
        output.flush()

    try:
        ready, measured = set_up(decode_line(lines.get(), BenchTask), say)
        say(ready)
        while measured is not None:
            request = cast(TurnRequest | SaveRequest, decode_line(lines.get(), TurnRequest, SaveRequest))
            say(measured.save(request.path) if isinstance(request, SaveRequest) else measured.turn(request))
    except Exception as error:
        if not isinstance(error, RnnlmError):
            traceback.print_exc()  # to stderr: the log of whoever started us
        say(_failed(error))


def main() -> None:
    """Serve until stdin ends: whoever started us is gone then, and nothing is worth finishing."""
    end_with_parent()
    lines: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, name="read", daemon=True).start()
    serve(lines, sys.stdout.buffer)


def _failed(error: Exception) -> TaskFailed:
    failure = failure_of(error)
    hint = failure.hint or ("take a smaller --preset, or a machine with more memory" if failure.out_of_memory else "")
    return TaskFailed(message=failure.message, hint=hint, exit_code=failure.exit_code)


if __name__ == "__main__":
    main()
