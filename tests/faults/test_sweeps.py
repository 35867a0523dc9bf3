"""Sweeps of real short runs: through the queue with a failing run and a kill of the queue's
process, and stopped by the median of the others."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from rnnlm_tui.client.listing import listed_runs
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.queue import entries
from rnnlm_tui.client.sweeps import read_sweep, sweeps_in
from rnnlm_tui.store.paths import RunDirectory, queue_lock
from rnnlm_tui.store.queue import read_queue
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run, find_run
from rnnlm_tui.system.locks import read_lock
from tests.faults.test_queue import no_queue_stays
from tests.faults.workers import Workers
from tests.integration.runs import settings, tiny_config, wait_for
from tests.unit.cli.calls import Verbs
from tests.unit.cli.conftest import verb

__all__ = ["no_queue_stays", "verb"]

pytestmark = [
    pytest.mark.usefixtures("warm"),
    pytest.mark.fault(
        "a worker is killed before its first step, or the queue's process at any moment"
    ),
]
TINY = settings(
    *("tokenizer.kind=character", "tokenizer.vocab_size=64", "model.embedding_dim=8"),
    *("model.num_layers=1", "model.tie_weights=false", "training.bptt=16"),
    *("training.device=cpu", "training.threads=1", "training.max_steps=12", "evaluation.every=6"),
    "checkpoint.every=0",
)


def test_a_sweep_goes_on_after_failed_runs_and_a_kill_of_the_queues_process(
    text: Path, verb: Verbs
) -> None:
    """The text becomes too short for two of the runs while they wait."""
    verb("queue pause")
    grid = "--sweep training.batch_size=4,8000,8 --sweep model.hidden_size=4,8"
    verb(f"train {text} {grid} --sweep-name sizes", *TINY)
    text.write_text(text.read_text()[:10_000])
    verb("queue resume")

    wait_for(lambda: len(entries().ended) >= 2, "the end of two runs")
    process = read_lock(queue_lock()).pid
    assert process is not None
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: not read_lock(queue_lock()).held, "the end of the killed process")
    assert read_queue().entries, "some runs still wait"
    verb("queue")
    wait_for(lambda: not read_queue().entries, "the end of the queue")

    listing = listed_runs()
    sweep = read_sweep("sizes", sweeps_in(listing.runs)["sizes"], listing.config_of)
    states = {run.run: state for run, state, *_ in sweep.rows(())}
    assert sorted(states) == [f"sizes-{number}" for number in range(1, 7)]
    failed = {"sizes-3", "sizes-4"}
    assert {name: state for name, state in states.items() if state != "finished"} == (
        dict.fromkeys(failed, "failed")
    )
    for name in states:
        with RunReader(find_run(name)) as reader:
            assert len(reader.attempts()) == 1


@pytest.fixture
def swept(text: Path) -> Callable[..., RunDirectory]:
    """Creates a run of the sweep `rates` that may be pruned at step 10."""

    def create(name: str, rate: float, tag: str = "sweep:rates", **more: object) -> RunDirectory:
        changes = {
            "optimizer.learning_rate": rate, "training.max_steps": 15, "evaluation.every": 5,
            "evaluation.prune_step": 6, "checkpoint.every": 0, **more,
        }  # fmt: skip
        return create_run(tiny_config(text, changes), name, tags=[tag])

    return create


def test_a_run_worse_than_the_median_of_three_others_stops_and_resumed_by_hand_trains_on(
    swept: Callable[..., RunDirectory], workers: Workers
) -> None:
    for number in (1, 2, 3):
        run = swept(f"early-{number}", 0.01 if number < 3 else 1e-9)
        assert workers.work(run) == 0
        assert summarize(run).status == "finished", "two others are too few"
    good, bad, elsewhere, other = (
        swept("best", 0.03),
        swept("bad", 1e-9),
        swept("elsewhere", 1e-9, tag="sweep:other"),
        swept("other-text", 1e-9, **{"tokenizer.vocab_size": 40}),
    )
    for run in (good, bad, elsewhere, other):
        assert workers.work(run) == 0
    ends = {run.name: summarize(run).status for run in (good, bad, elsewhere, other)}
    assert [name for name, status in ends.items() if status != "finished"] == ["bad"]
    pruned = summarize(bad)
    assert (pruned.status, pruned.step, pruned.checkpoints.last) == ("stopped", 10, 10)
    with RunReader(bad) as reader:
        (note,) = [event for event in reader.events() if event.text.startswith("pruned")]
    assert (note.step, note.text) == (10, pruned.message)
    assert "pruned at step 10: validation loss 3." in note.text
    assert ", median of 4 others 2." in note.text

    assert workers.work(bad) == 0
    assert (summarize(bad).status, summarize(bad).step) == ("finished", 15)
