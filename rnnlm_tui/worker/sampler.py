"""The sampler process: reads requests as lines on stdin and writes sampled text as lines on
stdout."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import traceback
from queue import SimpleQueue
from threading import Event
from typing import BinaryIO
from weakref import WeakValueDictionary

from pydantic import BaseModel

from rnnlm_tui.errors import InputError, RnnlmError, WorkerError
from rnnlm_tui.schema.protocol import decode_line, encode_line
from rnnlm_tui.schema.sampling import (
    REQUESTS,
    CancelRequest,
    SampleFailed,
    SamplerReady,
    SamplerRequest,
)
from rnnlm_tui.system.processes import end_with_parent, lower_priority

Requests = SimpleQueue[tuple[SamplerRequest, Event]]
"""Requests in order, each with the event that cancels it."""


class Writer:
    """Writes messages as whole lines, from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __call__(self, message: BaseModel) -> None:
        """Write a message; exits if the reader is gone, since a sampler without its app is
        useless."""
        line = encode_line(message)
        with self._lock:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                os._exit(0)


def read_requests(stream: BinaryIO, requests: Requests, write: Writer) -> None:
    """Queue requests until the stream ends, each with the event that cancels it. An invalid one is
    answered with an error; the cancellation of a finished or unknown one is ignored."""
    cancels: WeakValueDictionary[str, Event] = WeakValueDictionary()
    while line := stream.readline():
        try:
            request = decode_line(line, *REQUESTS)
        except InputError as error:
            write(failed("", error))
            continue
        if not isinstance(request, CancelRequest):
            cancels[request.id] = cancelled = Event()
            requests.put((request, cancelled))
        elif known := cancels.get(request.id):
            known.set()


def failed(id: str, error: RnnlmError) -> SampleFailed:
    """The answer to a request that can't be done."""
    return SampleFailed(id=id, message=error.message, hint=error.hint, exit_code=error.exit_code)


def serve(requests: Requests, write: Writer, device: str, niceness: int) -> None:
    """Answer requests one after the other, forever. torch is imported here, after the first line of
    output and before the priority is lowered."""
    from rnnlm_tui.engine.device import is_lost, lost_device
    from rnnlm_tui.worker.answers import Answers

    lower_priority(niceness)
    answers = Answers(device)
    while True:
        request, cancelled = requests.get()
        try:
            for message in answers.of(request, cancelled.is_set, write):
                write(message)
        except RnnlmError as error:
            write(failed(request.id, error))
        except Exception as error:
            traceback.print_exc()  # to stderr, the log of the parent process
            if is_lost(error):
                lost = lost_device(error, "the GPU")
                hint = f"sample on the CPU: --device cpu; {lost.hint}"
                write(failed(request.id, WorkerError(lost.message, hint=hint)))
                os._exit(WorkerError.exit_code)  # nothing works on it any more in this process
            words = f"the sampler failed: {type(error).__name__}: {error}"
            write(failed(request.id, WorkerError(words)))


def serve_or_exit(requests: Requests, write: Writer, device: str, niceness: int) -> None:
    """Serve. If that fails (torch can't be imported, no memory) exit, so that no client waits
    forever."""
    try:
        serve(requests, write, device, niceness)
    finally:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def main() -> None:
    """Serve until stdin or the parent process ends."""
    end_with_parent()
    parser = argparse.ArgumentParser(prog="rnnlm_tui.worker.sampler", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N, mps or auto")
    parser.add_argument("--niceness", type=int, default=0, help="while it computes")
    parser.add_argument("--nice-start", action="store_true", help="also while it starts")
    given = parser.parse_args()
    if given.nice_start:
        lower_priority(given.niceness)
    requests: Requests = SimpleQueue()
    write = Writer(sys.stdout.buffer)
    write(SamplerReady(device=given.device))
    threading.Thread(
        target=serve_or_exit,
        args=(requests, write, given.device, given.niceness),
        name="serve",
        daemon=True,
    ).start()
    read_requests(sys.stdin.buffer, requests, write)


if __name__ == "__main__":
    main()
