"""The generated long run that other tests use is valid."""

from __future__ import annotations

import pytest

from rnnlm_tui.client.monitor import RunMonitor, summarize
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from tests.fakes.long_run import EVERY, REDONE, STEPS_A_SECOND, build, train_on

STEPS = 6_000


@pytest.fixture
def long_run(home: object) -> RunDirectory:
    return build("long-haul", STEPS)


def test_the_long_run_is_a_valid_finished_run(long_run: RunDirectory) -> None:
    summary = summarize(long_run)
    assert (summary.status, summary.step, summary.attempt, summary.checkpoints.count) == (
        "finished",
        STEPS,
        2,
        12,
    )
    assert summary.checkpoints.best == min(
        range(EVERY, STEPS + 1, EVERY),
        key=lambda step: [
            row.loss for row in RunReader(long_run).evaluations() if row.step == step
        ],
    )
    with RunReader(long_run) as reader:
        assert [row.step for row in reader.steps_since()] == list(range(1, STEPS + 1))
        assert len(reader.machine()) == (STEPS + REDONE) // STEPS_A_SECOND
        assert reader.damaged_lines == 0
        assert [(row.attempt, row.start_step) for row in reader.attempts()] == [(1, 0), (2, 3_500)]


def test_the_long_run_can_be_continued_by_a_worker(home: object) -> None:
    run = build("long-haul", STEPS, ended=False)
    assert summarize(run).status == "crashed"
    monitor = RunMonitor(run)
    assert monitor.snapshot().summary.step == STEPS
    train_on(run, seconds=0.4)
    assert monitor.snapshot().summary.step > STEPS
