"""The app on a home full of hostile text: `python -m tests.faults.hostile_app KIND`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import NoReturn, cast

import pytest

from rnnlm_tui.errors import CorpusError, WorkerError
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.store.state import append_history
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.tui.app import RnnlmApp
from tests.faults.hostile import TEXTS
from tests.faults.hostile_home import fill
from tests.tui.demo_run import CARD, use_machine
from tests.tui.fakes import FakeSampler

OPEN = "gone-run"
"""The run whose worker lives."""


class HostileSampler(FakeSampler):
    """Generates hostile text, or fails with it if the prompt contains `fail`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._hostile = text

    async def generate(self, request: SampleRequest) -> AsyncIterator[SamplePiece | SampleDone]:
        """Yield the text by character, so that no escape sequence arrives in one piece."""
        text = self._hostile
        if "fail" in request.prompt:
            raise WorkerError(f"failed {text}", hint=text)
        for count, character in enumerate(text, start=1):
            yield SamplePiece(id=request.id, text=character, tokens=count)
        yield SampleDone(
            id=request.id,
            reason="stop",
            stop=text[:100],
            text=text,
            tokens=len(text),
            prompt_tokens=3,
            seconds=0.5,
            first_token_seconds=0.1,
            bits_per_token=4.0,
            unknown=(text,),
        )


def main() -> int:
    """Run the app and return its exit code."""
    text = TEXTS[sys.argv[1]]
    fill(text)
    append_history(f"an old {text}")

    def refuse(*_: object, **__: object) -> NoReturn:
        raise WorkerError(f"refused {text}", hint=text)

    def find_nothing(*_: object) -> NoReturn:
        raise CorpusError(f"{text} not found", hint=text)

    run = find_run(OPEN)
    with RunLock(run.lock_path), pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnnlm_tui.store.summaries.STALE_SECONDS", 3_600.0 * 24 * 10_000)
        patch.setattr("rnnlm_tui.client.control.send", refuse)
        patch.setattr("rnnlm_tui.client.start.start_run", find_nothing)
        patch.setattr("rnnlm_tui.client.sampler.SamplerClient", lambda **_: HostileSampler(text))
        use_machine(patch, CARD)
        return cast(int, RnnlmApp(run, "train", fps=10.0).run())


if __name__ == "__main__":
    sys.exit(main())
