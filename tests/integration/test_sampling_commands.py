"""The verbs `sample`, `score`, `state` and `samples` with a real sampler on a real run."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rnnlm_tui.cli.main import run as run_command
from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import find_run
from tests.faults.workers import Workers, warm_starts
from tests.integration.runs import (
    ENDLESS,
    kill,
    start,
    tiny_config,
    wait_for_step,
    wait_until_ended,
    write_text,
)

pytestmark = pytest.mark.usefixtures("warm")

Command = Callable[..., str]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command that must exit with `code`; its standard output, or its errors if it fails."""

    def run(*words: str, code: int = 0) -> str:
        assert run_command(words) == code, capfd.readouterr().err
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return err if code else out

    return run


@pytest.fixture(scope="module")
def trained_home(tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> Path:
    """A data folder with a run on the characters of a text: checkpoints at 20, 40 and 60."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, warm_starts(workers):
        patch.setenv("RNNLM_TUI_HOME", str(folder / "home"))
        wait_until_ended(start(tiny_config(write_text(folder / "text.txt")), "tiny"))
    return folder / "home"


@pytest.fixture
def trained(trained_home: Path, home: Path) -> RunDirectory:
    """That run, in this test's own data folder."""
    shutil.copytree(trained_home, home, symlinks=True)
    return find_run("tiny")


def parsed(text: str) -> Any:
    return json.loads(text)


def test_samples_of_a_batch_equal_single_ones_and_report_their_probabilities(
    trained: RunDirectory, command: Command
) -> None:
    options = (
        "--max-new-tokens",
        "30",
        "--top-k",
        "5",
        "--top-p",
        "1",
        "--temperature",
        "0.7",
        "--json",
    )
    lines = command("sample", "tiny", "The cat", "-n", "3", "--alternatives", "8", *options)
    batch = [parsed(line) for line in lines.splitlines()]
    alone = parsed(command("sample", "tiny", "The cat", "--seed", "9", *options))
    assert alone["bits_per_token"] == pytest.approx(batch[2].pop("bits_per_token"))
    changing = ("bits_per_token", "seconds", "choices", "prompt_number", "sample_number")
    assert {key: value for key, value in alone.items() if key not in changing} == {
        key: value for key, value in batch[2].items() if key not in changing
    }
    for sample in batch[:2]:
        assert "".join(choice["text"] for choice in sample["choices"]) == sample["text"]
        assert [choice["id"] for choice in sample["choices"]] == sample["ids"]
        bits = [-math.log2(choice["probability"]) for choice in sample["choices"]]
        assert sum(bits) / len(bits) == pytest.approx(sample["bits_per_token"], rel=1e-4)
        for choice in sample["choices"]:
            rows = choice["alternatives"]
            assert [row["rank"] for row in rows] == list(range(1, 9))
            assert [row["removed_by"] for row in rows] == [None] * 5 + ["top-k"] * 3
            assert sum(row["filtered"] for row in rows) == pytest.approx(1)
            assert choice["filtered"] > 0
    assert [(kept.text, kept.ids) for kept in search()[1:]] == [
        (sample["text"], tuple(sample["ids"])) for sample in reversed(batch)
    ]


def test_raw_text_and_text_from_standard_input_are_exact(trained: RunDirectory) -> None:
    def piped(*words: str, given: bytes = b"") -> bytes:
        done = subprocess.run(
            [sys.executable, "-m", "rnnlm_tui", "sample", "tiny", *words],
            input=given,
            capture_output=True,
            check=True,
            timeout=120,
        )
        return done.stdout

    settings = ("--seed", "3", "--max-new-tokens", "40")
    whole = piped("The cat", *settings)
    assert b"The cat" + piped("-", "--raw", *settings, given=b"The cat\n") + b"\n" == whole
    assert [kept.seed for kept in search()] == [3, 3]


def test_a_score_is_that_of_its_tokens(trained: RunDirectory, text: Path, command: Command) -> None:
    found = parsed(command("score", "tiny@last", str(text), "--json"))
    rows = [
        line.split("\t")
        for line in command("score", "tiny@last", str(text), "--tokens").splitlines()
    ]
    bits = [float(first) for first, _ in rows if first]
    assert found["tokens"] == len(bits)
    assert sum(bits) / len(bits) * math.log(2) == pytest.approx(found["loss"], abs=1e-4)
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]))
    assert found["bits_per_byte"] > 0
    with RunReader(trained) as reader:
        evaluated = reader.evaluations()[-1]
    assert found["loss"] == pytest.approx(evaluated.loss, abs=0.5), "the same kind of text"


def test_files_that_are_no_text_are_refused_by_their_names(
    trained: RunDirectory, tmp_path: Path, command: Command
) -> None:
    binary, latin = tmp_path / "binary.bin", tmp_path / "latin.txt"
    binary.write_bytes(b"abc\0\1\2" * 100)
    latin.write_bytes("Größe und Maß\n".encode("latin-1") * 50)
    errors = command("score", "tiny", str(binary), str(latin), code=2)
    assert "binary.bin is binary: NUL at byte 3" in errors
    assert "latin.txt is not UTF-8: 0xf6 at byte 2" in errors


def test_a_kept_state_continues_its_text(trained: RunDirectory, command: Command) -> None:
    options = ("--seed", "5", "--max-new-tokens", "50", "--raw")
    whole = command("sample", "tiny", "The old cat sat", *options)
    kept = command("state", "keep", "tiny", "before", "The o")
    assert kept.startswith("before kept: 6 tokens read by tiny@60"), "the end token comes first"
    command("state", "keep", "tiny", "after", "ld cat sat", "--state", "before")
    assert command("sample", "tiny", "", "--state", "after", *options) == whole
    shown = parsed(command("state", "show", "after", "--json"))
    assert (shown["text"], shown["run"], shown["step"]) == ("The old cat sat", "tiny", 60)
    assert parsed(command("state", "list", "--json"))[0]["name"] == "after"
    command("state", "delete", "before", "after", "--yes")
    assert command("state", "list").startswith("no kept states")


def test_current_weights_of_a_running_run_are_sampled_and_scored(
    text: Path, command: Command
) -> None:
    changes = {"training.max_steps": ENDLESS, "checkpoint.every": 0, "evaluation.every": 0}
    run = start(tiny_config(text, changes), "living")
    first = wait_for_step(run, 5)
    sampled = parsed(command("sample", "living@now", "The", "--json"))
    assert sampled["now"] is True
    assert sampled["checkpoint"] >= first
    scored = parsed(command("score", "living@now", str(text), "--json"))
    assert scored["checkpoint"] >= sampled["checkpoint"]
    kill(run)


def test_characters_outside_the_vocabulary_are_named(
    trained: RunDirectory, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["sample", "tiny", "The ☃ cat\x1b[31m", "--max-new-tokens", "5"]) == 0
    assert "unknown to this model, read as <unk>: ☃, ␛" in capfd.readouterr().err
