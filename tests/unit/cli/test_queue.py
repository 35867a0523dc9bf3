"""The verbs `queue …`: add, list, move, remove, pause and resume, in words and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.client import queue
from rnnlm_tui.errors import InputError, RunStateError, WorkerError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EventRow
from rnnlm_tui.store.paths import RunDirectory, queue_file, runs_dir
from rnnlm_tui.store.queue import read_queue
from rnnlm_tui.store.runs import create_run, find_run
from rnnlm_tui.system.locks import RunLock
from tests.integration.runs import write_text
from tests.unit.client.logs import record

SMALL = ("--set", "tokenizer.kind=character", "--set", "training.max_steps=40")


ensure_running = queue.ensure_running


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing starts the waiting runs."""
    monkeypatch.setattr("rnnlm_tui.client.queue.ensure_running", lambda: "")


@pytest.fixture
def two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two waiting runs."""
    text = write_text(tmp_path / "text.txt")
    for name in ("otter", "heron"):
        assert run(["queue", "add", "--name", name, "--set", f"corpus.source={text}", *SMALL]) == 0
    capsys.readouterr()


def waiting() -> list[str]:
    return [entry.run for entry in read_queue().entries]


def test_add_takes_the_options_of_train_and_prints_the_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = write_text(tmp_path / "text.txt")
    file = tmp_path / "config.toml"
    file.write_text(f'preset = "lstm"\n[corpus]\nsource = "{text}"\n')
    assert run(["queue", "add", "--config", str(file), "--name", "otter", *SMALL]) == 0
    out, err = capsys.readouterr()
    assert out == "otter\n"
    assert "otter waits at place 1" in err
    config = RunDirectory(runs_dir() / "otter").read_config()
    assert (config.preset, config.training.max_steps) == ("lstm", 40)
    assert (
        run(["queue", "add", "--preset", "elman", "--set", f"corpus.source={text}", "--json"]) == 0
    )
    added = json.loads(capsys.readouterr().out)
    assert (added["place"], added["state"], added["preset"]) == (2, "waiting", "elman")
    assert waiting() == ["otter", added["run"]]


def test_add_refuses_before_anything_is_created(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = f"corpus.source={tmp_path / 'nothing.txt'}"
    assert run(["queue", "add", "--set", missing]) == InputError.exit_code
    assert "nothing.txt not found" in capsys.readouterr().err
    assert run(["queue", "add", "--set", "optimizer.learnign_rate=1"]) == InputError.exit_code
    assert 'did you mean "optimizer.learning_rate"?' in capsys.readouterr().err
    create_run(RunConfig(), "draft")
    assert run(["queue", "add", "draft", "--preset", "demo"]) == InputError.exit_code
    assert "RUN and --preset are mutually exclusive" in capsys.readouterr().err
    assert run(["queue", "add", "nobody"]) == InputError.exit_code
    assert (waiting(), [path.name for path in runs_dir().iterdir()]) == ([], ["draft"])


def test_a_draft_can_be_added_by_its_first_letters() -> None:
    create_run(RunConfig(), "plain-draft")
    assert run(["queue", "add", "plain", "--stop-on-failure"]) == 0
    assert [(one.run, one.stop_on_failure) for one in read_queue().entries] == [
        ("plain-draft", True)
    ]


@pytest.mark.usefixtures("two")
def test_the_list_has_places_results_and_the_state_of_the_queue(
    capsys: pytest.CaptureFixture[str],
) -> None:
    record(find_run("otter"), Facts(message="it broke"), EventRow(1, 0, "failed", "it broke", 1.0))
    for words in (["queue"], ["queue", "list"]):
        assert run(words) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[1].split()[:3] == ["1", "heron", "waiting"]
        assert out[2].startswith("otter failed ")
        assert out[2].endswith("ago: it broke")
        assert out[3].startswith("queue: its process isn't running")
    assert run(["runs"]) == 0
    assert "waiting 1" in capsys.readouterr().out
    assert run(["queue", "--json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert [found["run"] for found in listing["runs"]] == ["heron"]
    assert [found["outcome"] for found in listing["ended"]] == ["failed"]
    assert listing["process"] is None


@pytest.mark.usefixtures("two")
def test_the_list_is_printed_though_the_process_cannot_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise WorkerError("the queue's process failed to start: no space left")

    monkeypatch.setattr("rnnlm_tui.client.queue.ensure_running", fail)
    assert run(["queue"]) == WorkerError.exit_code
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split()[:3] == ["1", "otter", "waiting"]
    assert "failed to start: no space left" in err


@pytest.mark.usefixtures("two")
def test_runs_move_and_are_removed_by_their_first_letters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["queue", "move", "her", "up"]) == 0
    assert capsys.readouterr().out == "heron waits at place 1\n"
    assert run(["queue", "move", "heron", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"run": "heron", "place": 2}
    for place, words in (
        ("3", "no place 3 in the queue: 2 runs wait, places are 1 to 2"),
        ("0", "no place 0"),
        ("down", "heron is last in the queue already"),
        ("-1", "no such option: -1"),
        ("soon", "PLACE is soon, must be a whole number from 1, or first, last, up or down"),
    ):
        assert run(["queue", "move", "heron", place]) == InputError.exit_code
        assert words in " ".join(capsys.readouterr().err.split()).replace("No such", "no such")
    assert waiting() == ["otter", "heron"]
    assert run(["queue", "remove", "otter", "nobody"]) == RunStateError.exit_code
    out, err = capsys.readouterr()
    assert "otter removed from the queue" in out
    assert "nobody is not waiting in the queue" in err
    assert waiting() == ["heron"]
    with RunLock(find_run("heron").lock_path):
        assert run(["queue", "remove", "heron"]) == RunStateError.exit_code
    assert "`rnnlm-tui stop heron` stops it" in capsys.readouterr().err


@pytest.mark.usefixtures("two")
def test_pause_resume_and_stop_on_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["queue", "pause", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["paused"] is True
    assert run(["queue", "--stop-on-failure"]) == 0
    out = capsys.readouterr().out
    assert "queue: paused; `rnnlm-tui queue resume` resumes it, pauses if a run fails" in out
    assert run(["queue", "resume"]) == 0
    assert (read_queue().paused, read_queue().stop_on_failure) == (False, True)
    assert run(["queue", "--no-stop-on-failure"]) == 0
    assert not read_queue().stop_on_failure


def test_a_damaged_queue_is_kept_aside_and_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.queue.ensure_running", ensure_running)
    queue_file().parent.mkdir(parents=True)
    queue_file().write_text('{"entries": 3}')
    assert run(["queue"]) == 0
    out, err = capsys.readouterr()
    assert "the queue's file was damaged and is kept as queue.json.unusable" in err
    assert "queue: empty" in out
