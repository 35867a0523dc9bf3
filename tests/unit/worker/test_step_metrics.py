"""Rows are committed in batches, in time, with the measured values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from rnnlm_tui.engine.trainer import StepResult
from rnnlm_tui.schema.metrics import StepRow
from rnnlm_tui.worker.step_metrics import REPORT_SECONDS, StepMetrics


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Store:
    """Remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[list[StepRow]] = []

    def __call__(self, rows: Sequence[StepRow]) -> None:
        self.batches.append(list(rows))

    @property
    def rows(self) -> list[StepRow]:
        return [row for batch in self.batches for row in batch]


def result(
    step: int, *, loss: float = 2.0, norm: float = 1.0, tokens: int = 100, seconds: float = 0.5
) -> StepResult:
    return StepResult(
        step, step / 10, tokens, step * tokens, torch.tensor(loss), torch.tensor(norm), 0.1, seconds
    )


def test_the_first_step_is_stored_at_once_and_later_ones_in_batches() -> None:
    clock, store = Clock(), Store()
    metrics = StepMetrics(store, 1, clock=clock)
    for step in range(1, 6):
        metrics.add(result(step))
        clock.now += REPORT_SECONDS / 2.5
    assert [[row.step for row in batch] for batch in store.batches] == [[1], [2, 3, 4]]
    metrics.flush()
    metrics.flush()
    assert [[row.step for row in batch] for batch in store.batches] == [[1], [2, 3, 4], [5]]


def test_rows_have_speed_and_training_time_of_each_step() -> None:
    store = Store()
    metrics = StepMetrics(store, 3, active_seconds=10.0, clock=Clock())
    metrics.add(result(1, tokens=100, seconds=0.5))
    metrics.add(result(2, tokens=50, seconds=0.125))
    metrics.flush()
    assert [(row.attempt, row.tokens_per_second, row.active_seconds) for row in store.rows] == [
        (3, 200.0, 10.5),
        (3, 400.0, 10.625),
    ]
    assert metrics.active_seconds == 10.625


def test_time_of_an_asynchronous_device_is_divided_among_steps() -> None:
    store = Store()
    metrics = StepMetrics(store, 1, asynchronous=True, clock=Clock())
    metrics.add(result(1))
    metrics.add(result(2, tokens=300, seconds=0.1))
    metrics.add(result(3, tokens=100, seconds=0.3))
    metrics.flush()
    speeds = [row.tokens_per_second for row in store.rows[1:]]
    assert speeds == [pytest.approx(1_000), pytest.approx(1_000)]


def test_non_finite_losses_are_stored_and_observed_at_once() -> None:
    store, seen = Store(), list[int]()
    metrics = StepMetrics(store, 1, observe=lambda row: seen.append(row.step), clock=Clock())
    for step, loss, norm, shown in [
        (1, 2.0, 1.0, 1),
        (2, 2.0, 1.0, 1),
        (3, math.nan, 1.0, 3),
        (4, 2.0, math.inf, 4),
        (5, 5.0, 1.0, 4),
    ]:
        metrics.add(result(step, loss=loss, norm=norm))
        assert len(seen) == shown
    metrics.flush()
    assert seen == [1, 2, 3, 4, 5]
    assert math.isnan(store.rows[2].loss)
    assert math.isinf(store.rows[3].grad_norm)
    assert metrics.train_loss == 3.0


def test_there_is_no_training_loss_before_the_first_step() -> None:
    assert math.isnan(StepMetrics(Store(), 1).train_loss)
