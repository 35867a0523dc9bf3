"""Periodic evaluations and samples that fail: reported as events, and the run trains to its end with its checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from rnnlm_tui.contract.validation import config_to_raw, merge
from rnnlm_tui.store.locations import corpora_dir
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.run_directory import RunDirectory
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.supervisor.control_client import send
from rnnlm_tui.supervisor.monitor import summarize
from tests.faults.workers import Workers
from tests.integration.runs import tiny_config, wait_for_step

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers() as started:
        yield started


def notes(run: RunDirectory) -> list[tuple[int, str]]:
    with RunReader(run) as reader:
        return [(event.step, event.text) for event in reversed(reader.events()) if event.kind == "note"]


def test_evaluations_that_fail_are_reported_and_the_run_trains_to_its_end(workers: Workers, text: Path) -> None:
    run = create_run(tiny_config(text, {"training.max_steps": 350, "evaluation.every": 100, "checkpoint.every": 100}), "blind")
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


def test_a_run_of_an_earlier_version_with_an_impossible_temperature_trains_samples_and_keeps_its_checkpoints(workers: Workers, text: Path) -> None:
    run = create_run(tiny_config(text), "cold")
    run.config_path.write_text(tomli_w.dumps(merge(config_to_raw(run.read_config()), {"sampling.temperature": 1e-40, "sampling.repetition_penalty": 1e-38})))
    assert workers.work(run) == 0, run.log_path.read_text()
    summary = summarize(run)
    assert (summary.status, summary.checkpoints.last) == ("finished", 60)
    with RunReader(run) as reader:
        assert [row.step for row in reader.samples()] == [60, 40, 20]
