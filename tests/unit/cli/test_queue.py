"""The verbs `queue …`: add, list, move, remove, pause and resume, in words and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

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
from tests.unit.cli.calls import Verbs
from tests.unit.client.logs import record

SMALL = "--set tokenizer.kind=character --set training.max_steps=40"


ensure_running = queue.ensure_running


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing starts the waiting runs."""
    monkeypatch.setattr("rnnlm_tui.client.queue.ensure_running", lambda: "")


@pytest.fixture
def text(tmp_path: Path) -> str:
    """The setting of a small text."""
    return f"corpus.source={write_text(tmp_path / 'text.txt')}"


@pytest.fixture
def two(text: str, verb: Verbs) -> None:
    """Two waiting runs."""
    for name in ("otter", "heron"):
        verb(f"queue add --name {name} --set {text} {SMALL}")


def waiting() -> list[str]:
    return [entry.run for entry in read_queue().entries]


def test_add_takes_the_options_of_train_and_prints_the_name(
    tmp_path: Path, text: str, verb: Verbs
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('preset = "lstm"\n')
    out, err = verb(f"queue add --config {file} --name otter --set {text} {SMALL}")
    assert out == "otter\n"
    assert "otter waits at place 1: `rnnlm-tui queue` lists the queue" in err
    config = RunDirectory(runs_dir() / "otter").read_config()
    assert (config.preset, config.training.max_steps) == ("lstm", 40)
    verb("queue pause")
    added = verb.json(f"queue add --preset elman --set {text}")
    assert (added["place"], added["state"], added["preset"]) == (2, "waiting", "elman")
    assert waiting() == ["otter", added["run"]]
    create_run(RunConfig(), "plain-draft")
    _, err = verb("queue add plain --stop-on-failure")
    assert "the queue is paused, `rnnlm-tui queue resume` resumes it" in err
    assert [one.stop_on_failure for one in read_queue().entries] == [False, False, True]


def test_add_refuses_before_anything_is_created(tmp_path: Path, verb: Verbs) -> None:
    create_run(RunConfig(), "draft")
    for words, said in (
        (f"--set corpus.source={tmp_path / 'nothing.txt'}", "nothing.txt not found"),
        ("--set optimizer.learnign_rate=1", 'did you mean "optimizer.learning_rate"?'),
        ("nobody", 'no run "nobody"'),
    ):
        assert said in verb(f"queue add {words}", code=InputError.exit_code)[1]
    assert (waiting(), [path.name for path in runs_dir().iterdir()]) == ([], ["draft"])


@pytest.mark.usefixtures("two")
def test_the_list_has_places_results_and_the_state_of_the_queue(verb: Verbs) -> None:
    record(find_run("otter"), Facts(message="it broke"), EventRow(1, 0, "failed", "it broke", 1.0))
    for words in ("queue", "queue list"):
        out = verb(words)[0].splitlines()
        assert out[1].split()[:3] == ["1", "heron", "waiting"]
        assert out[2].startswith("otter failed ")
        assert out[2].endswith("ago: it broke")
        assert out[3].startswith("queue: its process isn't running")
    assert "waiting 1" in verb("runs")[0]
    listing = verb.json("queue")
    assert [found["run"] for found in listing["runs"]] == ["heron"]
    assert [found["outcome"] for found in listing["ended"]] == ["failed"]
    assert listing["process"] is None


@pytest.mark.usefixtures("two")
def test_the_list_is_printed_though_the_process_cannot_start(
    monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    def fail() -> None:
        raise WorkerError("the queue's process failed to start: no space left")

    monkeypatch.setattr("rnnlm_tui.client.queue.ensure_running", fail)
    out, err = verb("queue", code=WorkerError.exit_code)
    assert out.splitlines()[1].split()[:3] == ["1", "otter", "waiting"]
    assert "failed to start: no space left" in err


@pytest.mark.usefixtures("two")
def test_runs_move_and_are_removed_by_their_first_letters(verb: Verbs) -> None:
    assert verb("queue move her up")[0] == "heron waits at place 1\n"
    assert verb.json("queue move heron 2") == {"run": "heron", "place": 2}
    for place, words in (
        ("3", "no place 3 in the queue: 2 runs wait, places are 1 to 2"),
        ("0", "no place 0"),
        ("down", "heron is last in the queue already"),
        ("-1", "no such option: -1"),
        ("soon", "PLACE is soon, must be a whole number from 1, or first, last, up or down"),
    ):
        err = verb(f"queue move heron {place}", code=InputError.exit_code)[1]
        assert words in " ".join(err.split())
    assert waiting() == ["otter", "heron"]
    out, err = verb("queue remove otter nobody", code=RunStateError.exit_code)
    assert "otter removed from the queue" in out
    assert "nobody is not waiting in the queue" in err
    assert waiting() == ["heron"]
    with RunLock(find_run("heron").lock_path):
        err = verb("queue remove heron", code=RunStateError.exit_code)[1]
    assert "`rnnlm-tui stop heron` stops it" in err


@pytest.mark.usefixtures("two")
def test_pause_resume_and_stop_on_failure(verb: Verbs) -> None:
    assert verb.json("queue pause")["paused"] is True
    out = verb("queue --stop-on-failure")[0]
    assert "queue: paused, pauses if a run fails; `rnnlm-tui queue resume` resumes it" in out
    assert verb("queue resume")[0] == "queue resumed\n"
    assert (read_queue().paused, read_queue().stop_on_failure) == (False, True)
    verb("queue --no-stop-on-failure")
    assert not read_queue().stop_on_failure


def test_a_damaged_queue_is_kept_aside_and_reported(
    monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    monkeypatch.setattr("rnnlm_tui.client.queue.ensure_running", ensure_running)
    queue_file().parent.mkdir(parents=True)
    queue_file().write_text('{"entries": 3}')
    out, err = verb("queue")
    assert "the queue's file was damaged and is kept as queue.json.unusable" in err
    assert "queue: empty" in out
