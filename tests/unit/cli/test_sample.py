"""The verb `sample` on a run whose sampler is played: what reaches a pipe, a file and a terminal."""

from __future__ import annotations

import json
import os
import termios
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.contract.config import RunConfig, SamplingConfig
from rnnlm_tui.contract.requests import SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.runs import create_run
from tests.unit.store.rows import begin, checkpoint_row, new_run, write_model

PROMPT = "\tdef می\u200cخواهم():"
TEXT = "\n\treturn 👩\u200d👩\u200d👧 ❤\ufe0f \u202e\x1b[31m\r\x00 – end"


class PlayedSampler:
    """Continues every prompt with the same pieces."""

    requests: ClassVar[list[SampleRequest]] = []
    pieces: tuple[str, ...] = (TEXT[:9], TEXT[9:])

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def generate(self, request: SampleRequest) -> AsyncIterator[SamplePiece | SampleDone]:
        self.requests.append(request)
        for count, piece in enumerate(self.pieces, start=1):
            yield SamplePiece(id=request.id, text=piece, tokens=count)
        yield SampleDone(
            id=request.id, reason="length", text="".join(self.pieces), tokens=len(self.pieces), prompt_tokens=3, seconds=0.2, first_token_seconds=0.1, bits_per_token=4.0
        )  # fmt: skip


@pytest.fixture(autouse=True)
def sampler(monkeypatch: pytest.MonkeyPatch) -> type[PlayedSampler]:
    """A finished run `plain-otter` with a checkpoint, and a sampler that only plays."""
    directory = new_run()
    write_checkpoint(directory, 20, write_model, None, {})
    with RunDatabase(directory.database_path) as database:
        begin(database)
        database.put_checkpoint(checkpoint_row(20, validation_loss=4.0))
    played = type("Played", (PlayedSampler,), {"requests": []})
    monkeypatch.setattr("rnnlm_tui.supervisor.sampler_client.SamplerClient", played)
    return played


def read_until(descriptor: int, end: str) -> str:
    """What a terminal was sent."""
    found = b""
    while not found.rstrip().endswith(end.encode()):
        found += os.read(descriptor, 65_536)
    return found.decode()


def test_a_pipe_gets_the_exact_text(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["sample", "plain-otter", PROMPT]) == 0
    assert capfdbinary.readouterr().out == f"{PROMPT}{TEXT}\n".encode()


def test_a_terminal_gets_text_and_nothing_that_acts_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert run(["sample", "plain-otter", PROMPT]) == 0
        sent = read_until(ours, "end")
    os.close(ours)
    assert sent == "\tdef می\u200cخواهم():\r\n\treturn 👩\u200d👩\u200d👧 ❤\ufe0f ‹202e›␛[31m␍␀ – end\r\n"


@pytest.mark.parametrize(
    ("options", "kept", "greedy"),
    [(["--temperature", "0"], False, True), (["--greedy"], False, True), (["--greedy", "--temperature", "0"], False, True), ([], True, True),
     (["--temperature", "0.5"], True, False), ([], False, False)],
)  # fmt: skip
def test_a_temperature_of_zero_is_greedy_and_one_above_is_not(
    options: list[str], kept: bool, greedy: bool, sampler: type[PlayedSampler], capsys: pytest.CaptureFixture[str]
) -> None:
    directory = create_run(RunConfig(sampling=SamplingConfig(greedy=kept)), "other")
    write_checkpoint(directory, 20, write_model, None, {})
    assert run(["sample", "other", "The", *options, "--json"]) == 0
    assert sampler.requests[-1].settings.takes_likeliest is greedy
    told = json.loads(capsys.readouterr().out)
    assert (told["greedy"], told["seed"]) == (greedy, None if greedy else 7)


def test_greedy_and_a_temperature_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "plain-otter", "The", "--greedy", "--temperature", "0.8"]) == 2
    err = capsys.readouterr().err
    assert "--greedy and --temperature 0.8 exclude each other" in err
    assert "--temperature 0 is greedy too" in err
