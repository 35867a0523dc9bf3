"""A sampler without torch: `python sampler.py BEHAVIOUR` speaks the protocol and returns the words
of the prompt in reverse."""

from __future__ import annotations

import os
import sys
import threading
from typing import cast

from pydantic import BaseModel

from rnnlm_tui.schema.protocol import decode_line, encode_line
from rnnlm_tui.schema.sampling import (
    CancelRequest,
    LoadRequest,
    SampleDone,
    SampleFailed,
    SamplePiece,
    SampleRequest,
    SamplerReady,
)


def write(message: BaseModel) -> None:
    sys.stdout.buffer.write(encode_line(message))
    sys.stdout.buffer.flush()


def answer(request: SampleRequest, cancelled: threading.Event) -> None:
    """Fail, die or wait if the prompt says so; continue any other prompt."""
    if "fail" in request.prompt:
        write(
            SampleFailed(
                id=request.id, message="the checkpoint is damaged", hint="take another", exit_code=5
            )
        )
        return
    if "die" in request.prompt:
        sys.stderr.write("Segmentation fault\n")
        sys.stderr.flush()
        os._exit(139)
    words = request.prompt.split()[::-1]
    for count, word in enumerate(words, start=1):
        write(SamplePiece(id=request.id, text=f" {word}", tokens=count))
    reason = "length"
    if "wait" in request.prompt:
        cancelled.wait(60)
        reason = "cancelled"
    text = "".join(f" {word}" for word in words)
    done = SampleDone.model_validate(
        {
            "id": request.id,
            "reason": reason,
            "text": text,
            "tokens": len(words),
            "prompt_tokens": len(words),
            "seconds": 0.1,
            "first_token_seconds": 0.01,
            "bits_per_token": 2.0,
        }
    )
    write(done)


def main() -> None:
    behaviour = sys.argv[1] if len(sys.argv) > 1 else "serve"
    if behaviour == "broken":
        sys.exit("ImportError: no module named torch")
    sys.stdout.write("a library greets its users\n")
    sys.stdout.flush()
    write(SamplerReady())
    cancelled: dict[str, threading.Event] = {}
    for line in sys.stdin.buffer:
        request = cast(
            SampleRequest | CancelRequest | LoadRequest,
            decode_line(line, SampleRequest, CancelRequest, LoadRequest),
        )
        if isinstance(request, LoadRequest):
            missing = "missing" in request.checkpoint
            write(
                SampleFailed(id=request.id, message="there is no such checkpoint", exit_code=5)
                if missing
                else SamplerReady(id=request.id)
            )
        elif isinstance(request, CancelRequest):
            cancelled.setdefault(request.id, threading.Event()).set()
        else:
            event = cancelled.setdefault(request.id, threading.Event())
            threading.Thread(target=answer, args=(request, event), daemon=True).start()


if __name__ == "__main__":
    main()
