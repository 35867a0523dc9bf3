"""The sampler process: reads requests as lines on stdin and writes sampled text as lines on
stdout."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import traceback
from collections import deque
from typing import BinaryIO

from pydantic import BaseModel

from rnnlm_tui.errors import InputError, RnnlmError, RunStateError, WorkerError
from rnnlm_tui.schema.protocol import decode_line, encode_line
from rnnlm_tui.schema.sampling import (
    REQUESTS,
    CancelRequest,
    SampleDone,
    SampleFailed,
    SampleRequest,
    SamplerReady,
    SamplerRequest,
)
from rnnlm_tui.system.processes import end_with_parent, lower_priority


class Mailbox:
    """Queued requests, and whether the running one is cancelled; from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queued: deque[SamplerRequest] = deque()
        self._running = ""
        self._cancelled = False

    def put(self, request: SamplerRequest) -> None:
        """Queue a request."""
        with self._changed:
            self._queued.append(request)
            self._changed.notify()

    def get(self) -> SamplerRequest:
        """Wait for the next request, which is then the running one."""
        with self._changed:
            self._changed.wait_for(lambda: self._queued)
            request = self._queued.popleft()
            self._running, self._cancelled = request.id, False
            return request

    def cancel(self, identifier: str) -> list[SamplerRequest]:
        """Cancel a request; a finished or unknown one is ignored. Those that were still queued are
        dropped and returned."""
        with self._changed:
            dropped = [request for request in self._queued if request.id == identifier]
            for request in dropped:
                self._queued.remove(request)
            self._cancelled = self._cancelled or identifier == self._running
            return dropped

    def is_cancelled(self) -> bool:
        """Whether the running request should stop."""
        return self._cancelled

    def done(self) -> None:
        """No request is running."""
        with self._changed:
            self._running = ""


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


def read_requests(stream: BinaryIO, mailbox: Mailbox, write: Writer) -> None:
    """Put requests into the mailbox until the stream ends; an invalid one is answered with an
    error."""
    while line := stream.readline():
        try:
            request = decode_line(line, CancelRequest, *REQUESTS)
        except InputError as error:
            write(SampleFailed(id="", message=error.message, exit_code=error.exit_code))
            continue
        if isinstance(request, CancelRequest):
            for dropped in mailbox.cancel(request.id):
                for message in cancelled(dropped):
                    write(message)
        else:
            mailbox.put(request)


def cancelled(request: SamplerRequest) -> list[BaseModel]:
    """The answers to a request that was cancelled before it began."""
    if not isinstance(request, SampleRequest):
        return [SampleFailed(id=request.id, message="cancelled", exit_code=RunStateError.exit_code)]
    return [
        SampleDone(
            id=request.id,
            sample=sample,
            reason="cancelled",
            text="",
            tokens=0,
            prompt_tokens=0,
            seconds=0.0,
            first_token_seconds=0.0,
            bits_per_token=0.0,
        )
        for sample in range(request.count)
    ]


def serve(mailbox: Mailbox, write: Writer, device: str, niceness: int) -> None:
    """Answer requests one after the other, forever. torch is imported here, after the first line of
    output and before the priority is lowered."""
    from rnnlm_tui.engine.device import is_lost, lost_device
    from rnnlm_tui.worker.answers import Answers

    lower_priority(niceness)
    answers = Answers(device)
    while True:
        request = mailbox.get()
        try:
            for message in answers.of(request, mailbox.is_cancelled, write):
                write(message)
        except RnnlmError as error:
            write(
                SampleFailed(
                    id=request.id, message=error.message, hint=error.hint, exit_code=error.exit_code
                )
            )
        except Exception as error:
            traceback.print_exc()  # to stderr, the log of the parent process
            lost = is_lost(error)
            words = lost_device(error, "the GPU") if lost else None
            write(
                SampleFailed(
                    id=request.id,
                    message=(
                        words.message
                        if words
                        else f"the sampler failed: {type(error).__name__}: {error}"
                    ),
                    hint=f"sample on the CPU: --device cpu; {words.hint}" if words else "",
                    exit_code=WorkerError.exit_code,
                )
            )
            if lost:
                os._exit(WorkerError.exit_code)  # nothing works on it any more in this process
        finally:
            mailbox.done()


def serve_or_exit(mailbox: Mailbox, write: Writer, device: str, niceness: int) -> None:
    """Serve. If that fails (torch can't be imported, no memory) exit, so that no client waits
    forever."""
    try:
        serve(mailbox, write, device, niceness)
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
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    mailbox, write = Mailbox(), Writer(answers)
    write(SamplerReady(device=given.device))
    threading.Thread(
        target=serve_or_exit,
        args=(mailbox, write, given.device, given.niceness),
        name="serve",
        daemon=True,
    ).start()
    read_requests(requests, mailbox, write)


if __name__ == "__main__":
    main()
