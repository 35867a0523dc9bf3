"""The verb `sample` with a fake sampler: output to a pipe, a file and a terminal."""

from __future__ import annotations

import io
import json
import os
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.cli.options import split_address
from rnnlm_tui.cli.sample import read_prompt, sample_json, sample_request, sample_settings
from rnnlm_tui.errors import ConfigError, InputError, UnknownCheckpointError, UnknownRunError
from rnnlm_tui.schema.config import RunConfig, SamplingConfig
from rnnlm_tui.schema.sampling import MAX_PROMPT_CHARACTERS, SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.runs import create_run
from tests.unit.cli.test_runs import trained_run
from tests.unit.store.rows import begin, checkpoint_row, new_run, write_model

PROMPT = "\tdef می\u200cخواهم():"
TEXT = "\n\treturn 👩\u200d👩\u200d👧 ❤\ufe0f \u202e\x1b[31m\r\x00 – end"


class ScriptedSampler:
    """Continue every prompt with the same pieces."""

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
            id=request.id,
            reason="length",
            text="".join(self.pieces),
            tokens=len(self.pieces),
            prompt_tokens=3,
            seconds=0.2,
            first_token_seconds=0.1,
            bits_per_token=4.0,
        )


@pytest.fixture(autouse=True)
def sampler(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedSampler]:
    """Create a finished run `plain-otter` with a checkpoint, and install a fake sampler."""
    directory = new_run()
    write_checkpoint(directory, 20, write_model, None, {})
    with RunDatabase(directory.database_path) as database:
        begin(database)
        database.put_checkpoint(checkpoint_row(20, validation_loss=4.0))
    played = type("Played", (ScriptedSampler,), {"requests": []})
    monkeypatch.setattr("rnnlm_tui.client.sampler.SamplerClient", played)
    return played


def read_until(descriptor: int, end: str) -> str:
    """Read a terminal's output up to `end`."""
    found = b""
    while not found.rstrip().endswith(end.encode()):
        found += os.read(descriptor, 65_536)
    return found.decode()


def test_a_pipe_gets_the_exact_text(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["sample", "plain-otter", PROMPT]) == 0
    assert capfdbinary.readouterr().out == f"{PROMPT}{TEXT}\n".encode()


def test_a_terminal_gets_text_without_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert run(["sample", "plain-otter", PROMPT]) == 0
        sent = read_until(ours, "end")
    os.close(ours)
    assert (
        sent
        == "\tdef می\u200cخواهم():\r\n\treturn 👩\u200d👩\u200d👧 ❤\ufe0f ‹202e›␛[31m␍␀ – end\r\n"
    )


@pytest.mark.parametrize(
    ("options", "kept", "greedy"),
    [
        (["--temperature", "0"], False, True),
        (["--greedy"], False, True),
        (["--greedy", "--temperature", "0"], False, True),
        ([], True, True),
        (["--temperature", "0.5"], True, False),
        ([], False, False),
    ],
)
def test_a_temperature_of_zero_is_greedy_and_one_above_is_not(
    options: list[str],
    kept: bool,
    greedy: bool,
    sampler: type[ScriptedSampler],
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = create_run(RunConfig(sampling=SamplingConfig(greedy=kept)), "other")
    write_checkpoint(directory, 20, write_model, None, {})
    assert run(["sample", "other", "The", *options, "--json"]) == 0
    assert sampler.requests[-1].settings.is_greedy is greedy
    reported = json.loads(capsys.readouterr().out)
    assert (reported["greedy"], reported["seed"]) == (greedy, None if greedy else 7)


def test_greedy_and_a_temperature_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "plain-otter", "The", "--greedy", "--temperature", "0.8"]) == 2
    err = capsys.readouterr().err
    assert "--greedy and --temperature 0.8 are mutually exclusive" in err
    assert "--temperature 0 is greedy as well" in err


def prompts_file(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_bytes(text.encode())
    return str(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prompts.txt", "First\n\n\tsecond می\u200cخواهم \r\n  third"),
        (
            "prompts.jsonl",
            '"First"\n\n{"prompt": "\\tsecond می\u200cخواهم ", "id": 2}\n{"prompt": "  third"}\n',
        ),
    ],
)
def test_prompts_of_a_file_are_continued_in_order(
    name: str,
    text: str,
    tmp_path: Path,
    sampler: type[ScriptedSampler],
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    prompts = ["First", "\tsecond می\u200cخواهم ", "  third"]
    assert run(["sample", "plain-otter", "--prompts", prompts_file(tmp_path, name, text)]) == 0
    out, err = capfdbinary.readouterr()
    assert [request.prompt for request in sampler.requests] == prompts
    assert out == "\n".join(f"{prompt}{TEXT}\n" for prompt in prompts).encode(), (
        "exact, an empty line between two"
    )
    assert b"3 samples of 3 prompts, 6 tokens, " in err
    assert b"seed 7, from plain-otter@20" in err


def test_several_samples_of_a_prompt_have_consecutive_seeds(
    tmp_path: Path, sampler: type[ScriptedSampler], capsys: pytest.CaptureFixture[str]
) -> None:
    file = prompts_file(tmp_path, "two.txt", "one\ntwo\n")
    assert (
        run(["sample", "plain-otter", "--prompts", file, "-n", "2", "--seed", "40", "--json"]) == 0
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [
        (line["prompt"], line["prompt_number"], line["sample_number"], line["seed"])
        for line in lines
    ] == [
        ("one", 1, 1, 40),
        ("one", 1, 2, 41),
        ("two", 2, 1, 40),
        ("two", 2, 2, 41),
    ]
    assert all(
        (line["text"], line["run"], line["checkpoint"]) == (TEXT, "plain-otter", 20)
        for line in lines
    )
    assert len({request.id for request in sampler.requests}) == 4
    assert run(["sample", "plain-otter", "one", "-n", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.count(TEXT) == 3
    assert "seeds 7 to 9" in err


def test_one_sample_of_one_prompt_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "plain-otter", "one", "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["text"] == TEXT
    assert "prompt_number" not in reported


def test_prompts_are_read_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, sampler: type[ScriptedSampler]
) -> None:
    monkeypatch.setattr(
        "sys.stdin", io.TextIOWrapper(io.BytesIO("eins\nzwei ü\n".encode()), encoding="utf-8")
    )
    assert run(["sample", "plain-otter", "--prompts", "-"]) == 0
    assert [request.prompt for request in sampler.requests] == ["eins", "zwei ü"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no prompt given"),
        (["one", "--prompts", "good.txt"], "PROMPT and --prompts are mutually exclusive"),
        (
            ["--prompts", "missing.txt"],
            "cannot read prompts from missing.txt: No such file or directory",
        ),
        (["--prompts", "."], "cannot read prompts from .: Is a directory"),
        (["--prompts", "empty.txt"], "empty.txt has no prompts"),
        (["--prompts", "latin.txt"], "latin.txt is not UTF-8 (byte 1)"),
        (
            ["--prompts", "long.txt"],
            "long.txt, line 2: the prompt has 20,001 characters, the limit is 20,000",
        ),
        (["--prompts", "bad.jsonl"], "bad.jsonl, line 1: not JSON"),
        (
            ["--prompts", "bad.jsonl"],
            "bad.jsonl, line 2: not a string or an object with a string “prompt”",
        ),
        (["one", "-n", "0"], "-n is 0, must be 1 … 10,000"),
        (["one", "-n", "2", "--greedy"], "-n 2 would give the same text 2 times"),
        (["one", "-n", "2", "--temperature", "0"], "-n 2 would give the same text 2 times"),
    ],
    ids=str,
)
def test_invalid_prompts_and_options_are_rejected_before_sampling(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampler: type[ScriptedSampler],
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "good.txt": "a",
        "empty.txt": "\n\n",
        "long.txt": "a\n" + "b" * 20_001,
        "bad.jsonl": "not json\n{}\n",
    }.items():
        prompts_file(tmp_path, name, text)
    (tmp_path / "latin.txt").write_bytes("aü".encode("latin-1"))
    assert run(["sample", "plain-otter", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert sampler.requests == []


def test_sampling_uses_the_settings_of_the_run() -> None:
    directory = trained_run(config=RunConfig(sampling=SamplingConfig(temperature=0.5, seed=3)))
    assert sample_settings(directory, {"top_k": 5, "seed": None}) == SamplingConfig(
        temperature=0.5, seed=3, top_k=5
    )
    with pytest.raises(ConfigError) as caught:
        sample_settings(directory, {"temperature": 0.001, "top_p": 2.0})
    assert {problem.path for problem in caught.value.problems} == {
        "sampling.temperature",
        "sampling.top_p",
    }


def test_options_out_of_range_are_reported_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    trained_run()
    assert run(["sample", "brisk-heron", "We", "--min-p", "1.5", "--top-k", "-1"]) == 2
    err = capsys.readouterr().err
    assert "--min-p is 1.5, must be at most 1" in err
    assert "--top-k is -1, must be at least 0" in err
    assert "config" not in err
    assert run(["sample", "brisk-heron", "We", "--top-k", "many"]) == 2
    assert "--top-k is many, must be a whole number" in capsys.readouterr().err


def test_the_best_checkpoint_is_sampled_by_default() -> None:
    trained_run()
    for address, step in (
        ("brisk-heron", 2),
        ("brisk@best", 2),
        ("brisk@last", 3),
        ("brisk-heron@3", 3),
    ):
        directory, which = split_address(address)
        assert sample_request(directory, which, "x", SamplingConfig()).checkpoint.endswith(
            f"step-{step:09d}"
        )


def test_an_unknown_checkpoint_or_run_lists_the_available_ones() -> None:
    trained_run()
    directory, which = split_address("brisk-heron@4")
    with pytest.raises(UnknownCheckpointError, match="best, last and 2, 3"):
        sample_request(directory, which, "x", SamplingConfig())
    with pytest.raises(UnknownRunError):
        split_address("other@best")


def test_a_prompt_that_is_too_long_is_rejected() -> None:
    with pytest.raises(InputError, match="20,001 characters, the limit is 20,000"):
        read_prompt("x" * (MAX_PROMPT_CHARACTERS + 1))


def test_a_dash_reads_the_prompt_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines\n"))
    assert read_prompt("-") == "two\nlines"
    assert read_prompt("a -") == "a -"


def test_a_prompt_that_is_not_utf_8_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"))
    for prompt in ("-", "\udcff"):
        with pytest.raises(InputError, match="not UTF-8"):
            read_prompt(prompt)


def test_a_sample_has_all_json_keys() -> None:
    directory = trained_run()
    done = SampleDone(
        id="1",
        reason="length",
        text=" goes on",
        tokens=2,
        prompt_tokens=1,
        seconds=0.1,
        first_token_seconds=0.1,
        bits_per_token=4.0,
    )
    seeded = sample_json(
        sample_request(directory, "best", "It", SamplingConfig(seed=1)), done, directory.name
    )
    assert {"text", "tokens", "seed", "checkpoint"} <= set(seeded)
    assert (seeded["text"], seeded["tokens"], seeded["seed"], seeded["checkpoint"]) == (
        " goes on",
        2,
        1,
        2,
    )
    assert (
        sample_json(
            sample_request(directory, "best", "It", SamplingConfig(greedy=True)),
            done,
            directory.name,
        )["seed"]
        is None
    )


def test_a_sample_reports_the_stop_string_that_ended_it() -> None:
    directory = trained_run()
    settings = SamplingConfig(min_p=0.1, repetition_penalty=1.2, stop=("\n", "end"))
    done = SampleDone(
        id="1",
        reason="stop",
        stop="\n",
        text=" goes on",
        tokens=2,
        prompt_tokens=1,
        seconds=0.1,
        first_token_seconds=0.1,
        bits_per_token=4.0,
    )
    found = sample_json(sample_request(directory, "best", "It", settings), done, directory.name)
    assert (
        found["reason"],
        found["stopped_at"],
        found["stop"],
        found["min_p"],
        found["repetition_penalty"],
    ) == ("stop", "\n", ["\n", "end"], 0.1, 1.2)


def test_an_empty_stop_string_is_rejected() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.stop"):
        sample_settings(trained_run(), {"stop": ["a", ""]})
