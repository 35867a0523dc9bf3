"""A sampler without torch: `python sampler.py BEHAVIOUR` speaks the whole protocol. It continues a
prompt with its words in reverse, and answers the rest as `tests.fakes.answers` does."""

from __future__ import annotations

import os
import sys
import threading

from pydantic import BaseModel

from rnnlm_tui.schema.protocol import decode_line, encode_line
from rnnlm_tui.schema.sampling import (
    REQUESTS,
    CancelRequest,
    LoadRequest,
    SampleFailed,
    SampleRequest,
    SamplerReady,
    SamplerRequest,
    ScoreRequest,
)
from tests.fakes import answers


def write(message: BaseModel) -> None:
    sys.stdout.buffer.write(encode_line(message))
    sys.stdout.buffer.flush()


def respond(request: SamplerRequest, cancelled: threading.Event) -> None:
    """Fail, die or wait if the prompt or path says so; answer anything else."""
    asks = getattr(request, "prompt", "") or (
        request.checkpoint if isinstance(request, LoadRequest | ScoreRequest) else ""
    )
    if "fail" in asks:
        write(
            SampleFailed(
                id=request.id, message="the checkpoint is damaged", hint="take another", exit_code=5
            )
        )
    elif "die" in asks:
        sys.stderr.write("Segmentation fault\n")
        sys.stderr.flush()
        os._exit(139)
    elif "missing" in asks and isinstance(request, LoadRequest):
        write(SampleFailed(id=request.id, message="there is no such checkpoint", exit_code=5))
    elif isinstance(request, SampleRequest):
        words = [f" {word}" for word in request.prompt.split()[::-1]]
        pieces, _ = answers.sample_answers(request, answers.sample_texts(request, words))
        for piece in pieces:
            write(piece)
        waits = "wait" in asks and cancelled.wait(60)
        for done in answers.sample_answers(
            request, answers.sample_texts(request, words), "cancelled" if waits else "length"
        )[1]:
            write(done)
    elif isinstance(request, ScoreRequest):
        for part in answers.score_answers(request):
            write(part)
    else:
        if "wait" in asks and cancelled.wait(60):
            write(SampleFailed(id=request.id, message="cancelled", exit_code=3))
            return
        write(answers.answer(request))


def main() -> None:
    behaviour = sys.argv[1] if len(sys.argv) > 1 else "serve"
    if behaviour == "broken":
        sys.exit("ImportError: no module named torch")
    sys.stdout.write("a library greets its users\n")
    sys.stdout.flush()
    write(SamplerReady())
    cancelled: dict[str, threading.Event] = {}
    for line in sys.stdin.buffer:
        request = decode_line(line, *REQUESTS)
        event = cancelled.setdefault(request.id, threading.Event())
        if isinstance(request, CancelRequest):
            event.set()
        else:
            threading.Thread(target=respond, args=(request, event), daemon=True).start()


if __name__ == "__main__":
    main()
