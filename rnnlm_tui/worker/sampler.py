"""The sampler: reads requests as lines on stdin, continues prompts from checkpoints, writes pieces as lines on stdout."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from functools import partial
from queue import SimpleQueue
from typing import BinaryIO, cast

from pydantic import BaseModel

from rnnlm_tui.contract.requests import CancelRequest, LoadRequest, SampleFailed, SampleRequest, SamplerReady
from rnnlm_tui.contract.wire import decode_line, encode_line
from rnnlm_tui.errors import InputError, RnnlmError
from rnnlm_tui.supervisor.processes import end_with_parent


class Mailbox:
    """Requests in order, and which of them were taken back; from any thread."""

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
        """Take a request back, in the queue or in work; one that is done or unknown is no matter."""
        if identifier in self._open:
            self._cancelled.add(identifier)

    def is_cancelled(self, identifier: str) -> bool:
        """Whether a request in work should be left."""
        return identifier in self._cancelled

    def done(self, identifier: str) -> None:
        """Forget a finished request."""
        self._open.discard(identifier)
        self._cancelled.discard(identifier)


class Writer:
    """Writes messages as whole lines, from any thread."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._turn = threading.Lock()

    def __call__(self, message: BaseModel) -> None:
        """Ends the process when nobody reads any more: a sampler without its app has no use."""
        line = encode_line(message)
        with self._turn:
            try:
                self._stream.write(line)
                self._stream.flush()
            except (BrokenPipeError, ValueError):
                os._exit(0)


def read_requests(stream: BinaryIO, mailbox: Mailbox, write: Writer) -> None:
    """Sort lines into the mailbox until the stream ends; what is no request is answered with why."""
    while line := stream.readline():
        try:
            request = cast(SampleRequest | CancelRequest | LoadRequest, decode_line(line, SampleRequest, CancelRequest, LoadRequest))
        except InputError as error:
            write(SampleFailed(id="", message=error.message, exit_code=error.exit_code))
            continue
        if isinstance(request, CancelRequest):
            mailbox.cancel(request.id)
        else:
            mailbox.put(request)


def serve(mailbox: Mailbox, write: Writer) -> None:
    """Answer requests one after the other, for ever. torch is imported here, behind the first line of output."""
    from rnnlm_tui.worker.sampling import Sampler

    sampler = Sampler()
    while True:
        request = mailbox.get()
        try:
            if isinstance(request, LoadRequest):
                sampler.load(request.checkpoint)
                write(SamplerReady(id=request.id, device=sampler.device))
            else:
                for message in sampler.continue_prompt(request, partial(mailbox.is_cancelled, request.id)):
                    write(message)
        except RnnlmError as error:
            write(SampleFailed(id=request.id, message=error.message, hint=error.hint, exit_code=error.exit_code))
        except Exception as error:
            traceback.print_exc()  # to stderr: the log of whoever started us
            write(SampleFailed(id=request.id, message=f"the sampler failed: {type(error).__name__}: {error}", exit_code=4))
        finally:
            mailbox.done(request.id)


def serve_or_leave(mailbox: Mailbox, write: Writer) -> None:
    """Serve; what ends that (torch can't be imported, no memory) ends the process, so that nobody waits for an answer that never comes."""
    try:
        serve(mailbox, write)
    finally:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def main() -> None:
    """Serve until stdin ends, or whoever started us does."""
    end_with_parent()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    mailbox, write = Mailbox(), Writer(answers)
    write(SamplerReady())
    threading.Thread(target=serve_or_leave, args=(mailbox, write), name="serve", daemon=True).start()
    read_requests(requests, mailbox, write)
    os._exit(0)  # at once, from the midst of a text too


if __name__ == "__main__":
    main()
