"""Patience counts stored evaluations, however often the worker dies in between."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from tests.faults.workers import Workers
from tests.integration.runs import tiny_config

pytestmark = [
    pytest.mark.usefixtures("warm"),
    pytest.mark.fault("the validation loss stops falling"),
]

LEARNS_NOTHING: Mapping[str, object] = {
    "optimizer.learning_rate": 1e-12,
    "optimizer.weight_decay": 0.0,
    "training.max_steps": 200,
    "training.patience": 3,
    "evaluation.every": 5,
    "checkpoint.every": 5,
}
"""Every evaluation has the same loss, so the fourth is the third in a row without improvement."""


def evaluated(run: RunDirectory) -> list[int]:
    with RunReader(run) as reader:
        return [row.step for row in reader.evaluations() if row.split == "validation"]


def weights_hash(run: RunDirectory, which: str = "last") -> str:
    return sha256((checkpoint_path(run, which) / "model.safetensors").read_bytes()).hexdigest()


def test_a_run_killed_while_patience_counts_ends_at_the_step_of_an_undisturbed_one(
    workers: Workers, text: Path
) -> None:
    whole = create_run(tiny_config(text, LEARNS_NOTHING), "whole")
    assert workers.work(whole) == 0
    assert evaluated(whole) == [5, 10, 15, 20]
    summary = summarize(whole)
    assert (summary.status, summary.step, summary.test.step) == ("finished", 20, 20)
    assert (
        summary.message
        == "stopped early: 3 evaluations without a better validation loss; best at step 5"
    )
    with RunReader(whole) as reader:
        assert "stopping early: no better validation loss in 3 evaluations" in [
            event.text for event in reader.events() if event.step == 20
        ]

    killed = create_run(tiny_config(text, LEARNS_NOTHING), "killed")
    assert (
        workers.work(killed, "rename.before:kill:3") == -signal.SIGKILL
    )  # the evaluation of step 15 is stored, its checkpoint isn't; perhaps that of step 20, too
    crashed = summarize(killed)
    assert crashed.patience is not None
    assert (crashed.status, crashed.patience.limit) == ("crashed", 3)
    assert crashed.patience.waited in (2, 3)
    assert workers.work(killed, "rename.after:kill") == -signal.SIGKILL  # at step 15 again
    assert workers.work(killed) == 0
    assert evaluated(killed) == [5, 10, 15, 20]
    assert (summarize(killed).status, summarize(killed).message) == ("finished", summary.message)
    assert weights_hash(killed) == weights_hash(whole)


def test_a_run_killed_between_its_best_evaluation_and_the_save_keeps_the_same_best_weights(
    workers: Workers, text: Path
) -> None:
    learns = {
        "training.max_steps": 40,
        "evaluation.every": 8,
        "checkpoint.every": 0,
        "optimizer.learning_rate": 0.01,
    }
    whole, seldom, killed = (
        create_run(tiny_config(text, {**learns, **changes}), name)
        for name, changes in (("w", {}), ("s", {"evaluation.every": 0}), ("k", {}))
    )
    assert workers.work(whole) == workers.work(seldom) == 0
    assert evaluated(whole) == [8, 16, 24, 32, 40]
    assert (
        workers.work(killed, "rename.before:kill") == -signal.SIGKILL
    )  # the evaluation of step 8 is stored, and there is nothing to resume from
    assert (
        workers.work(killed, "rename.before:kill:2") == -signal.SIGKILL
    )  # at step 16 of the second life
    assert summarize(killed).checkpoints.last == 8
    assert (
        workers.work(killed, "rename.after:kill") == -signal.SIGKILL
    )  # at step 16 again, its checkpoint not in the index
    assert workers.work(killed) == 0
    assert evaluated(killed) == evaluated(whole)
    assert (
        summarize(killed).checkpoints.best
        == summarize(killed).validation.best_step
        == summarize(whole).checkpoints.best
    )
    assert weights_hash(killed, "best") == weights_hash(whole, "best")
    assert (
        weights_hash(killed) == weights_hash(whole) == weights_hash(seldom)
    )  # so intermediate saves change nothing
