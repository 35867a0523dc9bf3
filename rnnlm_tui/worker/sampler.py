"""The sampler process: reads requests as lines on stdin and writes sampled text as lines on
stdout."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from functools import partial
from queue import SimpleQueue
from typing import BinaryIO, cast

from pydantic import BaseModel

from rnnlm_tui.errors import InputError, RnnlmError
from rnnlm_tui.schema.protocol import decode_line, encode_line
from rnnlm_tui.schema.sampling import (
    CancelRequest,
    LoadRequest,
    SampleFailed,
    SampleRequest,
    SamplerReady,
)
from rnnlm_tui.system.processes import end_with_parent


class Mailbox:
    """Queued requests, and which of them are cancelled; from any thread."""

    def __init__(self) -> None:
        self._requests: SimpleQueue[SampleRequest | LoadRequest] = SimpleQueue()
        self._open: set[str] = set()
        self._cancelled: set[str] = set()

    def put(self, request: SampleRequest | LoadRequest) -> None:
        """Queue a request."""
        self._open.add(request.id)
        self._requests.put(request)

    def get(self) -> SampleRequest | LoadRequest:
        """Wait for the next request."""
        return self._requests.get()

    def cancel(self, identifier: str) -> None:
        """Cancel a request, queued or running; a finished or unknown one is ignored."""
        if identifier in self._open:
            self._cancelled.add(identifier)

    def is_cancelled(self, identifier: str) -> bool:
        """Whether a running request should stop."""
        return identifier in self._cancelled

    def done(self, identifier: str) -> None:
        """Forget a finished request."""
        self._open.discard(identifier)
        self._cancelled.discard(identifier)


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
            request = cast(
                SampleRequest | CancelRequest | LoadRequest,
                decode_line(line, SampleRequest, CancelRequest, LoadRequest),
            )
        except InputError as error:
            write(SampleFailed(id="", message=error.message, exit_code=error.exit_code))
            continue
        if isinstance(request, CancelRequest):
            mailbox.cancel(request.id)
        else:
            mailbox.put(request)


def serve(mailbox: Mailbox, write: Writer) -> None:
    """Answer requests one after the other, forever. torch is imported here, after the first line of
    output."""
    from rnnlm_tui.worker.generation import Sampler

    sampler = Sampler()
    while True:
        request = mailbox.get()
        try:
            if isinstance(request, LoadRequest):
                sampler.load(request.checkpoint)
                write(SamplerReady(id=request.id, device=sampler.device))
            else:
                for message in sampler.continue_prompt(
                    request, partial(mailbox.is_cancelled, request.id)
                ):
                    write(message)
        except RnnlmError as error:
            write(
                SampleFailed(
                    id=request.id, message=error.message, hint=error.hint, exit_code=error.exit_code
                )
            )
        except Exception as error:
            traceback.print_exc()  # to stderr, the log of the parent process
            write(
                SampleFailed(
                    id=request.id,
                    message=f"the sampler failed: {type(error).__name__}: {error}",
                    exit_code=4,
                )
            )
        finally:
            mailbox.done(request.id)


def serve_or_exit(mailbox: Mailbox, write: Writer) -> None:
    """Serve. If that fails (torch can't be imported, no memory) exit, so that no client waits
    forever."""
    try:
        serve(mailbox, write)
    finally:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def main() -> None:
    """Serve until stdin or the parent process ends."""
    end_with_parent()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    mailbox, write = Mailbox(), Writer(answers)
    write(SamplerReady())
    threading.Thread(target=serve_or_exit, args=(mailbox, write), name="serve", daemon=True).start()
    read_requests(requests, mailbox, write)
    os._exit(0)  # at once, even in the middle of a text


if __name__ == "__main__":
    main()
