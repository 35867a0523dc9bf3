"""Periodic evaluations and samples that fail: reported as events, and the run trains to its end
with its checkpoints."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from rnnlm_tui.client.control import send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.store.paths import RunDirectory, corpora_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from tests.faults.workers import Workers
from tests.integration.runs import tiny_config, wait_for_step

pytestmark = pytest.mark.fault("a periodic evaluation or sample fails")


def notes(run: RunDirectory) -> list[tuple[int, str]]:
    with RunReader(run) as reader:
        return [
            (event.step, event.text) for event in reversed(reader.events()) if event.kind == "note"
        ]


def test_evaluations_that_fail_are_reported_and_the_run_trains_to_its_end(
    workers: Workers, text: Path
) -> None:
    run = create_run(
        tiny_config(
            text, {"training.max_steps": 350, "evaluation.every": 100, "checkpoint.every": 100}
        ),
        "blind",
    )
    workers.start(run)
    wait_for_step(run, 1)
    send(run, "pause")
    for split in ("validation", "test"):
        for path in corpora_dir().glob(f"*/{split}.bin"):
            path.unlink()
    send(run, "resume")
    assert workers.wait() == 0, run.log_path.read_text()
    summary = summarize(run)
    assert (summary.status, summary.step, summary.checkpoints.last) == ("finished", 350, 350)
    told = [(step, words) for step, words in notes(run) if words.startswith("no ")]
    assert [(step, words.partition(":")[0]) for step, words in told] == [
        (100, "no evaluation"),
        (200, "no evaluation"),
        (300, "no evaluation"),
        (350, "no evaluation"),
        (350, "no test"),
    ]
    assert all("FileNotFoundError" in words for _, words in told)
    assert "Traceback" in run.log_path.read_text()


def test_a_kill_between_the_last_validation_and_the_test_leaves_one_row_per_step_and_set(
    workers: Workers, text: Path
) -> None:
    """At its end a run validates on the whole set and then tests; the next attempt repeats both."""
    changes = {
        "training.max_steps": 20,
        "evaluation.max_sentences": 10,
        "evaluation.prompts": (),
        "checkpoint.every": 0,
    }
    run = create_run(tiny_config(text, changes), "cut-short")
    assert workers.work(run, "evaluation.inside:kill:3") == -signal.SIGKILL
    # The kill may come before the recorder's thread has appended the newest row.
    before = [("first 10 validation sentences", 1), ("validation", 1)]
    assert evaluated(run) in (before, before[:1])
    assert workers.work(run) == 0, run.log_path.read_text()
    assert evaluated(run) == [
        ("first 10 validation sentences", 1),
        ("validation", 2),
        ("test", 2),
    ]


def evaluated(run: RunDirectory) -> list[tuple[str, int]]:
    """Name and attempt of every evaluation."""
    with RunReader(run) as reader:
        return [(row.name, row.attempt) for row in reader.evaluations()]
