"""The verb `sample` with a fake sampler: output to a pipe, a file and a terminal."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rnnlm_tui.cli.options import sampler_for
from rnnlm_tui.schema.config import RunConfig, SamplingConfig
from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.schema.sampling import SampleDone, SamplePiece, SampleRequest
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.store.paths import samples_file
from rnnlm_tui.store.runs import create_run
from tests.tui.fakes import FakeSampler
from tests.unit.cli.calls import Verbs
from tests.unit.cli.test_runs import trained_run
from tests.unit.client.logs import record
from tests.unit.store.rows import new_run, write_model
from tests.unit.store.test_states import keep

PROMPT = "\tdef می\u200cخواهم():"
TEXT = "\n\treturn 👩\u200d👩\u200d👧 ❤\ufe0f \u202e\x1b[31m\r\x00 – end"


def texts(request: SampleRequest) -> list[Sequence[str]]:
    """TEXT in two tokens; further samples of a batch end in their number."""
    return [(TEXT[:9], TEXT[9:], *([f" {n}"] if n else [])) for n in range(request.count)]


@dataclass
class LastFirst(FakeSampler):
    """Sends the last sample of a batch first: a sampler may send them in any order."""

    stops_at: str = ""
    options: list[dict[str, str]] = field(default_factory=list)

    async def generate(self, request: SampleRequest) -> AsyncIterator[SamplePiece | SampleDone]:
        parts = [part async for part in super().generate(request)]
        for part in sorted(parts, key=lambda part: -part.sample):
            if self.stops_at and isinstance(part, SampleDone):
                yield part.model_copy(update={"reason": "stop", "stop": self.stops_at})
            else:
                yield part


@pytest.fixture(autouse=True)
def sampler(monkeypatch: pytest.MonkeyPatch) -> LastFirst:
    """Create a finished run `plain-otter` with a checkpoint, and install a fake sampler."""
    directory = new_run()
    write_checkpoint(directory, 20, write_model, None, {"validation_loss": 4.0})
    record(directory)
    fake = LastFirst(texts=texts)

    def start(**options: str) -> LastFirst:
        fake.options.append(options)
        return fake

    monkeypatch.setattr("rnnlm_tui.client.sampler.SamplerClient", start)
    return fake


def prompts_file(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_bytes(text.encode())
    return str(path)


def type_in(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", stdin)


def test_a_pipe_gets_the_exact_text(verb: Verbs) -> None:
    said = verb(["sample", "plain-otter", PROMPT])
    assert said.out == f"{PROMPT}{TEXT}\n"
    assert said.err.endswith("bits per token, seed 7, from plain-otter@20\n")
    raw = verb(["sample", "plain-otter", PROMPT, "--raw"])
    assert (raw.out, raw.err) == (TEXT, "")


@pytest.mark.parametrize(
    ("options", "kept", "greedy"),
    [
        ("--temperature 0", False, True),
        ("--greedy", False, True),
        ("--greedy --temperature 0", False, True),
        ("", True, True),
        ("--temperature 0.5", True, False),
        ("", False, False),
    ],
)
def test_a_temperature_of_zero_is_greedy_and_one_above_is_not(
    options: str, kept: bool, greedy: bool, sampler: LastFirst, verb: Verbs
) -> None:
    directory = create_run(RunConfig(sampling=SamplingConfig(greedy=kept)), "other")
    write_checkpoint(directory, 20, write_model, None, {})
    reported = verb.json(f"sample other The {options}")
    assert sampler.requests[-1].settings.is_greedy is greedy
    assert (reported["greedy"], reported["seed"]) == (greedy, None if greedy else 7)


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
    name: str, text: str, tmp_path: Path, sampler: LastFirst, verb: Verbs
) -> None:
    prompts = ["First", "\tsecond می\u200cخواهم ", "  third"]
    said = verb(f"sample plain-otter --prompts '{prompts_file(tmp_path, name, text)}'")
    assert [request.prompt for request in sampler.requests] == prompts
    assert said.out == "\n".join(f"{prompt}{TEXT}\n" for prompt in prompts), "an empty line between"
    assert "3 samples of 3 prompts, 6 tokens, " in said.err
    assert "seed 7, from plain-otter@20" in said.err


def test_several_samples_of_a_prompt_have_consecutive_seeds(
    tmp_path: Path, sampler: LastFirst, verb: Verbs
) -> None:
    file = prompts_file(tmp_path, "two.txt", "one\ntwo\n")
    out = verb(f"sample plain-otter --prompts {file} -n 2 --seed 40 --json").out
    keys = ("prompt", "prompt_number", "sample_number", "seed", "text")
    lines = list(map(json.loads, out.splitlines()))
    assert [tuple(map(line.get, keys)) for line in lines] == [
        ("one", 1, 1, 40, TEXT),
        ("one", 1, 2, 41, f"{TEXT} 1"),
        ("two", 2, 1, 40, TEXT),
        ("two", 2, 2, 41, f"{TEXT} 1"),
    ]
    assert {(line["run"], line["checkpoint"]) for line in lines} == {("plain-otter", 20)}
    batches = [(request.prompt, request.count) for request in sampler.requests]
    assert batches == [("one", 2), ("two", 2)], "the samples of a prompt are one batch"
    said = verb("sample plain-otter one -n 3")
    assert said.out == f"one{TEXT}\n\none{TEXT} 1\n\none{TEXT} 2\n"
    assert (
        "3 samples of 1 prompt, 8 tokens, 312 tok/s, 4.1 bits per token, seeds 7 to 9" in said.err
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("", "no prompt given"),
        ("one --prompts good.txt", "PROMPT and --prompts are mutually exclusive"),
        ("--prompts none.txt", "cannot read prompts from none.txt: No such file or directory"),
        ("--prompts .", "cannot read prompts from .: Is a directory"),
        ("--prompts empty.txt", "empty.txt has no prompts"),
        ("--prompts latin.txt", "latin.txt is not UTF-8 (byte 1)"),
        ("--prompts long.txt", "long.txt, line 2: the prompt has 20,001 characters, the limit is"),
        ("--prompts bad.jsonl", "bad.jsonl, line 1: not JSON"),
        ("--prompts bad.jsonl", "line 2: not a string or an object with a string “prompt”"),
        ("one -n 0", "-n is 0, must be 1 … 10,000"),
        ("one -n 2 --greedy", "-n 2 would give the same text 2 times"),
        ("one -n 2 --temperature 0", "-n 2 would give the same text 2 times"),
        ("one --greedy --temperature 0.8", "--greedy and --temperature 0.8 are mutually exclusive"),
        ("one --greedy --temperature 0.8", "--temperature 0 is greedy as well"),
        ("one --raw --json", "--raw and --json are mutually exclusive"),
        ("one --raw -n 2", "--raw prints one text, not 2"),
        ("one --alternatives 3", "--alternatives needs --json"),
        ("one --alternatives 51 --json", "--alternatives is 51, must be 0 … 50"),
        (
            "one --alternatives 50 --json --max-new-tokens 5000",
            "--alternatives 50 for 5,000 tokens is too much",
        ),
        ("--prompts - --prompts -", "standard input can be read once"),
        ("one --seed lucky", "--seed is lucky, must be a whole number or random"),
        ("one --seed -1", "--seed is -1, must be at least 0"),
        ("one --seed 1.5", "--seed is 1.5, must be a whole number or random"),
        ("one --typical-p 0", "--typical-p is 0"),
        ("one --penalty-window -1", "--penalty-window is -1, must be at least 0"),
        ("one --min-p 1.5 --top-k -1", "--min-p is 1.5, must be at most 1"),
        ("one --min-p 1.5 --top-k -1", "--top-k is -1, must be at least 0"),
        ("one --top-k many", "--top-k is many, must be a whole number"),
        ("one --state missing", 'no kept state "missing"'),
    ],
)
def test_invalid_prompts_and_options_are_rejected_before_sampling(
    options: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampler: LastFirst,
    verb: Verbs,
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
    said = verb(f"sample plain-otter {options}", code=2)
    assert words in said.err
    assert "config" not in said.err
    assert said.out == ""
    assert sampler.requests == []


def test_sampling_uses_the_settings_of_the_run_unless_told_otherwise(
    sampler: LastFirst, verb: Verbs
) -> None:
    settings = SamplingConfig(temperature=0.5, seed=3, stop=("end",))
    trained_run(config=RunConfig(sampling=settings))
    verb("sample brisk It --top-k 5")
    assert sampler.requests[-1].settings == settings.model_copy(update={"top_k": 5})
    sampler.stops_at = "\n"
    said = verb(r"sample brisk It --stop '\n' --stop a --min-p 0.1 --repetition-penalty 1.2")
    assert 'stopped at "\\n"' in said.err
    found = verb(r"sample brisk It --stop '\n' --stop a --min-p 0.1 --unknown allow --json").json
    assert sampler.requests[-1].settings.stop == ("\n", "a")
    assert (found["reason"], found["stopped_at"], found["stop"]) == ("stop", "\n", ["\n", "a"])
    assert (found["min_p"], found["temperature"], found["unknown_tokens"]) == (0.1, 0.5, "allow")
    assert (found["text"], found["unknown"]) == (TEXT, [])
    assert "prompt_number" not in found
    verb("sample brisk It --stop ''")
    assert not sampler.requests[-1].settings.stop


@pytest.mark.parametrize(
    ("address", "step"),
    [("brisk-heron", 2), ("brisk@best", 2), ("brisk@last", 3), ("brisk-heron@3", 3)],
)
def test_the_best_checkpoint_is_sampled_by_default(
    address: str, step: int, sampler: LastFirst, verb: Verbs
) -> None:
    trained_run()
    verb(f"sample {address} It")
    assert sampler.requests[0].checkpoint.endswith(f"step-{step:09d}")


def test_a_dash_reads_the_prompt_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, sampler: LastFirst, verb: Verbs
) -> None:
    type_in(monkeypatch, b"two\nlines\n")
    verb("sample plain-otter -")
    assert sampler.requests[0].prompt == "two\nlines"
    type_in(monkeypatch, b"x" * 20_001)
    assert "the prompt has too many characters" in verb("sample plain-otter -", code=2).err
    monkeypatch.setattr("sys.stdin", None)
    assert "standard input is closed" in verb("sample plain-otter -", code=2).err


def test_prompts_of_several_files_are_continued_in_order(
    tmp_path: Path, sampler: LastFirst, monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    files = [prompts_file(tmp_path, "b.txt", "1\n2"), prompts_file(tmp_path, "a.jsonl", '"3"')]
    type_in(monkeypatch, b"4\n")
    verb(f"sample plain-otter --prompts {files[0]} --prompts {files[1]} --prompts -")
    assert [request.prompt for request in sampler.requests] == ["1", "2", "3", "4"]


def test_a_batch_has_at_most_64_samples_and_the_seeds_go_on(
    sampler: LastFirst, verb: Verbs
) -> None:
    said = verb(f"sample plain-otter a -n 130 --seed {2**63 - 65} --json")
    assert [(request.settings.seed, request.count) for request in sampler.requests] == [
        (2**63 - 65, 64),
        (2**63 - 1, 1),
        (0, 64),
        (64, 1),
    ]
    found = list(map(json.loads, said.out.splitlines()))
    assert [line["sample_number"] for line in found] == list(range(1, 131))
    assert [line["seed"] for line in found[:66]][-2:] == [2**63 - 1, 0]


def test_every_token_is_reported_with_its_alternatives(sampler: LastFirst, verb: Verbs) -> None:
    reported = verb("sample plain-otter a --json --alternatives 2").json
    assert len(reported["choices"]) == len(reported["ids"]) == reported["tokens"] == 2
    first = reported["choices"][0]
    keys = {"id", "text", "rank", "probability", "filtered", "removed_by"}
    assert set(first) == {*keys, "alternatives"}
    assert (first["id"], first["rank"], first["removed_by"]) == (reported["ids"][0], 1, None)
    assert [(set(row), row["rank"]) for row in first["alternatives"]] == [(keys, 1), (keys, 2)]
    assert "choices" not in verb.json("sample plain-otter a")


def test_a_random_seed_is_drawn_each_time_and_reported(sampler: LastFirst, verb: Verbs) -> None:
    first = verb.json("sample plain-otter a --seed random")["seed"]
    assert sampler.requests[0].settings.seed == first
    err = verb("sample plain-otter a --seed random").err
    second = sampler.requests[1].settings.seed
    assert f"random seed {second}" in err
    assert first != second


def test_a_sample_starts_from_a_kept_state(sampler: LastFirst, verb: Verbs) -> None:
    kept = keep("after-intro")
    said = verb("sample plain-otter a --state after-intro")
    assert sampler.requests[0].state == search()[0].state == str(kept)
    assert "from plain-otter@20, state after-intro" in said.err
    assert verb.json("sample plain-otter a --state after-intro")["state"] == "after-intro"
    assert verb("sample plain-otter ''").out == f"{TEXT}\n", "from the initial state"
    assert sampler.requests[-1].prompt == sampler.requests[-1].state == ""


def test_current_weights_are_named_with_their_step(
    monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    folder = "snapshots/step-000000031-ab"
    answer = CommandResult(id="1", ok=True, status="running", step=31, checkpoint=folder)
    monkeypatch.setattr("rnnlm_tui.client.control.send", lambda *_: answer)
    assert "from plain-otter@now, step 31" in verb("sample plain-otter@now a").err
    reported = verb.json("sample plain-otter@now a")
    assert (reported["checkpoint"], reported["now"]) == (31, True)
    assert search()[0].step == 31


def test_every_sample_is_kept_unless_told_otherwise(verb: Verbs) -> None:
    verb("sample plain-otter one -n 2 --seed 40 --top-k 3")
    found = search()
    assert [(kept.prompt, kept.text, kept.seed, len(kept.ids)) for kept in found] == [
        ("one", f"{TEXT} 1", 41, 3),
        ("one", TEXT, 40, 2),
    ]
    for kept in found:
        assert (kept.run, kept.step, kept.settings.top_k) == ("plain-otter", 20, 3)
    verb("sample plain-otter two --no-keep")
    assert search() == found


def test_a_sample_that_cannot_be_kept_is_reported_once_and_printed(verb: Verbs) -> None:
    samples_file().mkdir()
    said = verb("sample plain-otter one -n 2")
    assert said.out == f"one{TEXT}\n\none{TEXT} 1\n"
    assert said.err.count("the sample is not kept: ") == 1


def test_the_device_is_the_cpu_unless_another_is_named(sampler: LastFirst, verb: Verbs) -> None:
    verb("sample plain-otter one")
    verb("sample plain-otter one --device cuda:1")
    assert sampler.options == [
        {"device": "cpu", "yields": "never"},
        {"device": "cuda:1", "yields": "never"},
    ]


@pytest.mark.parametrize(
    ("device", "threads", "yields"),
    [("cpu", 0, True), ("cpu", 2, True), ("cpu", 1, False), ("cuda", 0, False)],
)
async def test_a_sampler_yields_to_the_training_of_its_weights_that_takes_all_cores(
    sampler: LastFirst, monkeypatch: pytest.MonkeyPatch, device: str, threads: int, yields: bool
) -> None:
    monkeypatch.setattr("rnnlm_tui.system.machine.usable_cores", lambda: 2)
    training = {"training.device": device, "training.threads": threads}
    directory = create_run(parse_config(merge(RunConfig(), training)), "living")
    folders = (
        directory.snapshots_path / "step-000000001-aa",
        directory.checkpoints_path / "step-1",
    )
    for folder in folders:
        async with sampler_for(str(folder), "cpu"):
            pass
    found = [options["yields"] for options in sampler.options]
    assert found == ["always" if yields else "never", "never"]


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
