"""The verb `sample` with a fake sampler: output to a pipe, a file and a terminal."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.cli.options import sampler_for, split_address
from rnnlm_tui.cli.prompts import read_prompt
from rnnlm_tui.cli.sample import sample_requests, sample_settings
from rnnlm_tui.cli.sample_report import sample_json
from rnnlm_tui.client.control import weights_path
from rnnlm_tui.errors import ConfigError, InputError
from rnnlm_tui.schema.config import RunConfig, SamplingConfig
from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.schema.sampling import (
    Alternative,
    SampleDone,
    SamplePiece,
    SampleRequest,
    TokenChoice,
)
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.store.paths import RunDirectory, samples_file
from rnnlm_tui.store.runs import create_run
from tests.unit.cli.test_runs import trained_run
from tests.unit.client.logs import record
from tests.unit.store.rows import new_run, write_model
from tests.unit.store.test_states import keep

PROMPT = "\tdef می\u200cخواهم():"
TEXT = "\n\treturn 👩\u200d👩\u200d👧 ❤\ufe0f \u202e\x1b[31m\r\x00 – end"


class ScriptedSampler:
    """Continue every prompt with the same pieces; further samples of a batch end in their number.

    As the real one does, it sends a token of every sample in turn, and the ends as they come.
    """

    requests: ClassVar[list[SampleRequest]] = []
    devices: ClassVar[list[str]] = []
    yields: ClassVar[list[str]] = []
    pieces: tuple[str, ...] = (TEXT[:9], TEXT[9:])

    def __init__(self, *, device: str, yields: str) -> None:
        self.devices.append(device)
        self.yields.append(yields)

    async def start(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def texts(self, sample: int) -> tuple[str, ...]:
        return (*self.pieces, f" {sample}") if sample else self.pieces

    async def generate(self, request: SampleRequest) -> AsyncIterator[SamplePiece | SampleDone]:
        self.requests.append(request)
        for place in range(len(self.texts(1))):
            for sample in reversed(range(request.count)):
                texts = self.texts(sample)
                if place < len(texts):
                    yield SamplePiece(
                        id=request.id, sample=sample, text=texts[place], tokens=place + 1
                    )
                elif place == len(texts):
                    yield self.done(request, sample)
        for sample in reversed(range(1, request.count)):
            yield self.done(request, sample)

    def done(self, request: SampleRequest, sample: int) -> SampleDone:
        pieces = self.texts(sample)
        rows = [
            Alternative(token=token, text=f" {token}", rank=token + 1, probability=0.5, filtered=1)
            for token in range(request.alternatives)
        ]
        return SampleDone(
            id=request.id,
            sample=sample,
            reason="length",
            text="".join(pieces),
            ids=tuple(range(len(pieces))),
            tokens=len(pieces),
            prompt_tokens=3,
            seconds=0.2,
            first_token_seconds=0.1,
            bits_per_token=4.0,
            choices=tuple(TokenChoice(taken=row, alternatives=tuple(rows)) for row in rows[:1]),
        )


@pytest.fixture(autouse=True)
def sampler(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedSampler]:
    """Create a finished run `plain-otter` with a checkpoint, and install a fake sampler."""
    directory = new_run()
    write_checkpoint(directory, 20, write_model, None, {"validation_loss": 4.0})
    record(directory)
    played = type("Played", (ScriptedSampler,), {"requests": [], "devices": [], "yields": []})
    monkeypatch.setattr("rnnlm_tui.client.sampler.SamplerClient", played)
    return played


def test_a_pipe_gets_the_exact_text(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(["sample", "plain-otter", PROMPT]) == 0
    assert capfdbinary.readouterr().out == f"{PROMPT}{TEXT}\n".encode()


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
        (line["text"], line["run"], line["checkpoint"])
        == (TEXT if line["sample_number"] == 1 else f"{TEXT} 1", "plain-otter", 20)
        for line in lines
    )
    assert [(request.prompt, request.count) for request in sampler.requests] == [
        ("one", 2),
        ("two", 2),
    ], "the samples of a prompt are one batch"
    assert run(["sample", "plain-otter", "one", "-n", "3"]) == 0
    out, err = capsys.readouterr()
    assert out == f"one{TEXT}\n\none{TEXT} 1\n\none{TEXT} 2\n"
    assert "seeds 7 to 9" in err


def test_one_sample_of_one_prompt_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "plain-otter", "one", "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["text"] == TEXT
    assert "prompt_number" not in reported


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
        (["one", "--raw", "--json"], "--raw and --json are mutually exclusive"),
        (["one", "--raw", "-n", "2"], "--raw prints one text, not 2"),
        (["one", "--alternatives", "3"], "--alternatives needs --json"),
        (["one", "--alternatives", "51", "--json"], "--alternatives is 51, must be 0 … 50"),
        (
            ["one", "--alternatives", "50", "--json", "--max-new-tokens", "5000"],
            "--alternatives 50 for 5,000 tokens is too much",
        ),
        (["--prompts", "-", "--prompts", "-"], "standard input can be read once"),
        (["one", "--seed", "lucky"], "--seed is lucky, must be a whole number or random"),
        (["one", "--seed", "-1"], "--seed is -1, must be at least 0"),
        (["one", "--seed", "1.5"], "--seed is 1.5, must be a whole number or random"),
        (["one", "--typical-p", "0"], "--typical-p is 0"),
        (["one", "--penalty-window", "-1"], "--penalty-window is -1, must be at least 0"),
        (["one", "--state", "missing"], 'no kept state "missing"'),
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


def request_of(
    directory: RunDirectory, which: str | None, settings: SamplingConfig | None = None
) -> SampleRequest:
    """The request for one sample of the prompt `It`."""
    path = str(weights_path(directory, which))
    return sample_requests(path, ["It"], settings or SamplingConfig())[0]


def test_the_best_checkpoint_is_sampled_by_default() -> None:
    trained_run()
    for address, step in (
        ("brisk-heron", 2),
        ("brisk@best", 2),
        ("brisk@last", 3),
        ("brisk-heron@3", 3),
    ):
        directory, which = split_address(address)
        assert request_of(directory, which).checkpoint.endswith(f"step-{step:09d}")


def test_a_dash_reads_the_prompt_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines\n"))
    assert read_prompt("-") == "two\nlines"
    assert read_prompt("a -") == "a -"


def test_a_closed_standard_input_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="standard input is closed"):
        read_prompt("-")


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
    found = sample_json(request_of(directory, "best", settings), done, directory.name)
    assert (
        found["reason"],
        found["stopped_at"],
        found["stop"],
        found["min_p"],
        found["repetition_penalty"],
    ) == ("stop", "\n", ("\n", "end"), 0.1, 1.2)


def test_raw_prints_the_generated_text_and_nothing_else(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    assert run(["sample", "plain-otter", PROMPT, "--raw"]) == 0
    assert capfdbinary.readouterr() == (TEXT.encode(), b"")


def test_a_batch_has_at_most_64_samples_and_the_seeds_go_on(
    sampler: type[ScriptedSampler], capsys: pytest.CaptureFixture[str]
) -> None:
    last = str(2**63 - 65)
    assert run(["sample", "plain-otter", "a", "-n", "130", "--seed", last, "--json"]) == 0
    assert [(request.settings.seed, request.count) for request in sampler.requests] == [
        (2**63 - 65, 64),
        (2**63 - 1, 1),
        (0, 64),
        (64, 1),
    ]
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["sample_number"] for line in found] == list(range(1, 131))
    assert [line["seed"] for line in found[:66]][-2:] == [2**63 - 1, 0]


def test_every_token_is_reported_with_its_alternatives(
    sampler: type[ScriptedSampler], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sample", "plain-otter", "a", "--json", "--alternatives", "2"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert reported["ids"] == [0, 1]
    first = {
        "id": 0,
        "text": " 0",
        "rank": 1,
        "probability": 0.5,
        "filtered": 1.0,
        "removed_by": None,
    }
    assert reported["choices"] == [
        {**first, "alternatives": [first, {**first, "id": 1, "text": " 1", "rank": 2}]}
    ]
    assert run(["sample", "plain-otter", "a", "--json"]) == 0
    assert "choices" not in json.loads(capsys.readouterr().out)


def test_prompts_of_several_files_are_continued_in_order(
    tmp_path: Path, sampler: type[ScriptedSampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [
        prompts_file(tmp_path, name, text) for name, text in (("b.txt", "1\n2"), ("a.jsonl", '"3"'))
    ]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"4\n"), encoding="utf-8"))
    options = [word for file in (*files, "-") for word in ("--prompts", file)]
    assert run(["sample", "plain-otter", *options]) == 0
    assert [request.prompt for request in sampler.requests] == ["1", "2", "3", "4"]


def test_a_random_seed_is_drawn_each_time_and_reported(
    sampler: type[ScriptedSampler], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sample", "plain-otter", "a", "--seed", "random", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)["seed"]
    assert sampler.requests[0].settings.seed == first
    assert run(["sample", "plain-otter", "a", "--seed", "random"]) == 0
    second = sampler.requests[1].settings.seed
    assert f"random seed {second}" in capsys.readouterr().err
    assert first != second


def test_a_sample_starts_from_a_kept_state(
    sampler: type[ScriptedSampler], capsys: pytest.CaptureFixture[str]
) -> None:
    kept = keep("after-intro")
    assert run(["sample", "plain-otter", "a", "--state", "after-intro"]) == 0
    assert sampler.requests[0].state == str(kept)
    assert "from plain-otter@20, state after-intro" in capsys.readouterr().err
    assert search()[0].state == str(kept)
    assert run(["sample", "plain-otter", "a", "--state", "after-intro", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "after-intro"


def test_current_weights_are_named_with_their_step(
    monkeypatch: pytest.MonkeyPatch,
    sampler: type[ScriptedSampler],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answer(run: RunDirectory, verb: str) -> CommandResult:
        return CommandResult(
            id="1", ok=True, status="running", step=31, checkpoint="snapshots/step-000000031-ab"
        )

    monkeypatch.setattr("rnnlm_tui.client.control.send", answer)
    assert run(["sample", "plain-otter@now", "a"]) == 0
    assert "from plain-otter@now, step 31" in capsys.readouterr().err
    assert run(["sample", "plain-otter@now", "a", "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert (reported["checkpoint"], reported["now"]) == (31, True)
    assert search()[0].step == 31


def test_every_sample_is_kept_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--seed", "40", "--top-k", "3"]
    assert run(["sample", "plain-otter", "one", "-n", "2", *options]) == 0
    found = search()
    assert [(kept.prompt, kept.text, kept.seed, kept.ids) for kept in found] == [
        ("one", f"{TEXT} 1", 41, (0, 1, 2)),
        ("one", TEXT, 40, (0, 1)),
    ]
    assert all(
        (kept.run, kept.step, kept.settings.top_k) == ("plain-otter", 20, 3) for kept in found
    )
    assert run(["sample", "plain-otter", "two", "--no-keep"]) == 0
    assert search() == found


def test_a_sample_that_cannot_be_kept_is_reported_once_and_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    samples_file().mkdir()
    assert run(["sample", "plain-otter", "one", "-n", "2"]) == 0
    out, err = capsys.readouterr()
    assert out == f"one{TEXT}\n\none{TEXT} 1\n"
    assert err.count("the sample is not kept: ") == 1


def test_the_device_is_the_cpu_unless_another_is_named(sampler: type[ScriptedSampler]) -> None:
    assert run(["sample", "plain-otter", "one"]) == 0
    assert run(["sample", "plain-otter", "one", "--device", "cuda:1"]) == 0
    assert sampler.devices == ["cpu", "cuda:1"]
    assert sampler.yields == ["never", "never"]


@pytest.mark.parametrize(
    ("device", "threads", "yields"),
    [("cpu", 0, True), ("cpu", 2, True), ("cpu", 1, False), ("cuda", 0, False)],
)
def test_a_sampler_yields_to_the_training_of_its_weights_that_takes_all_cores(
    sampler: type[ScriptedSampler],
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    threads: int,
    yields: bool,
) -> None:
    monkeypatch.setattr("rnnlm_tui.system.machine.usable_cores", lambda: 2)
    training = {"training.device": device, "training.threads": threads}
    directory = create_run(parse_config(merge(RunConfig(), training)), "living")
    sampler_for(str(directory.snapshots_path / "step-000000001-aa"), "cpu")
    sampler_for(str(directory.checkpoints_path / "step-000000001"), "cpu")
    assert sampler.yields == ["always" if yields else "never", "never"]


def test_an_empty_prompt_starts_from_the_initial_state(
    sampler: type[ScriptedSampler], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sample", "plain-otter", ""]) == 0
    assert capsys.readouterr().out == f"{TEXT}\n"
    assert sampler.requests[0].prompt == ""


PIPED = """
import sys
import rnnlm_tui.client.sampler as sampler
from rnnlm_tui.cli.main import main
sampler.python_command = lambda *_: [sys.executable, "-m", "tests.fakes.sampler"]
main(["sample", "plain-otter", *sys.argv[1:]])
"""
"""The command line in a process of its own, with a sampler that needs no model."""


@pytest.mark.parametrize(
    ("options", "text"),
    [([], b"wait one two two one"), (["--raw"], b" two one"), (["-n", "2"], b"wait one two two")],
    ids=str,
)
def test_a_pipe_gets_the_text_while_it_is_generated(options: list[str], text: bytes) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PIPED, "wait one two", *options],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    ) as process:
        assert process.stdout is not None
        found = b""
        while len(found) < len(text):
            part = os.read(process.stdout.fileno(), 100)
            assert part, "the process ended"
            found += part
        assert found.startswith(text)
        assert process.poll() is None, "the fake sampler has not finished"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
