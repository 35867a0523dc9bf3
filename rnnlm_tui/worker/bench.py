"""A child of `bench`: `python -m rnnlm_tui.worker.bench` takes one task as a line on stdin, then turns, and answers on stdout."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from queue import SimpleQueue
from typing import BinaryIO, Protocol, cast

from pydantic import BaseModel

from rnnlm_tui.contract.bench import BenchTask, SaveRequest, TaskFailed, TurnRequest
from rnnlm_tui.contract.wire import decode_line, encode_line
from rnnlm_tui.errors import RnnlmError


class Measured(Protocol):
    """A task that was set up."""

    def turn(self, request: TurnRequest) -> BaseModel:
        """Compute for a while; what came of it."""
        ...

    def save(self, path: str) -> BaseModel:
        """Write the weights."""
        ...


def set_up(task: BenchTask) -> tuple[BaseModel, Measured | None]:
    """The first answer, and what takes turns. Each role imports only what it needs."""
    if task.role == "corpus":
        from rnnlm_tui.worker.bench_corpus import find_or_prepare

        return find_or_prepare(task), None
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
        ready, measured = set_up(decode_line(lines.get(), BenchTask))
        say(ready)
        while measured is not None:
            request = cast(TurnRequest | SaveRequest, decode_line(lines.get(), TurnRequest, SaveRequest))
            say(measured.save(request.path) if isinstance(request, SaveRequest) else measured.turn(request))
    except RnnlmError as error:
        say(TaskFailed(message=error.message, hint=error.hint, exit_code=error.exit_code))
    except Exception as error:
        traceback.print_exc()  # to stderr: the log of whoever started us
        say(_explained(error))


def main() -> None:
    """Serve until stdin ends: whoever started us is gone then, and nothing is worth finishing."""
    lines: SimpleQueue[bytes] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, name="read", daemon=True).start()
    serve(lines, sys.stdout.buffer)


def _explained(error: Exception) -> TaskFailed:
    if "torch" in sys.modules and isinstance(error, RuntimeError | MemoryError):
        from rnnlm_tui.engine.failures import is_out_of_memory

        if is_out_of_memory(error):
            return TaskFailed(message="out of memory", hint="take a smaller --preset, or a machine with more memory", exit_code=1)
    return TaskFailed(message=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
