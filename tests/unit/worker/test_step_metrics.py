"""Rows are committed in batches, in time, with the measured values."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.trainer import StepResult
from rnnlm_tui.schema.metrics import StepRow
from rnnlm_tui.worker.guards import LossGuard
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

    def __call__(self, *rows: StepRow) -> None:
        self.batches.append(list(rows))

    @property
    def rows(self) -> list[StepRow]:
        return [row for batch in self.batches for row in batch]


def made(
    step: int,
    *,
    loss: float = 2.0,
    norm: float = 1.0,
    tokens: int = 100,
    seconds: float = 0.5,
) -> StepResult:
    """The result of a step; on a GPU, `seconds` is the time to launch it."""
    return StepResult(
        step=step,
        epoch=step / 10,
        tokens=tokens,
        tokens_seen=step * tokens,
        learning_rate=0.1,
        seconds=seconds,
        loss=torch.tensor(loss),
        grad_norm=torch.tensor(norm),
    )


def test_the_first_step_is_stored_at_once_and_later_ones_in_batches() -> None:
    clock, store = Clock(), Store()
    metrics = StepMetrics(store, 1, clock=clock)
    for step in range(1, 6):
        metrics.add(made(step))
        clock.now += REPORT_SECONDS / 2.5
    assert [[row.step for row in batch] for batch in store.batches] == [[1], [2, 3, 4]]
    metrics.flush()
    metrics.flush()
    assert [[row.step for row in batch] for batch in store.batches] == [[1], [2, 3, 4], [5]]


def test_rows_have_speed_and_training_time_of_each_step() -> None:
    store = Store()
    metrics = StepMetrics(store, 3, active_seconds=10.0, clock=Clock())
    metrics.add(made(1, tokens=100, seconds=0.5))
    metrics.add(made(2, tokens=50, seconds=0.125))
    metrics.flush()
    assert [(row.attempt, row.tokens_per_second, row.active_seconds) for row in store.rows] == [
        (3, 200.0, 10.5),
        (3, 400.0, 10.625),
    ]
    assert metrics.active_seconds == 10.625


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
        metrics.add(made(step, loss=loss, norm=norm))
        assert len(seen) == shown
    metrics.flush()
    assert seen == [1, 2, 3, 4, 5]
    assert math.isnan(store.rows[2].loss)
    assert math.isinf(store.rows[3].grad_norm)
    assert metrics.train_loss == 3.0


def test_there_is_no_training_loss_before_the_first_step() -> None:
    assert math.isnan(StepMetrics(Store(), 1).train_loss)


class Gpu:
    """Does one step after the other, each in `seconds`, while the host goes on; a read waits."""

    def __init__(self, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
        self.clock, self.seconds, self.busy_to, self.reads = clock, seconds, clock.now, 0
        stack = torch.stack

        def waiting(parts: list[Tensor]) -> Tensor:
            if parts[0].dim():  # all steps of a block
                self.reads += 1
                clock.now = max(clock.now, self.busy_to)
            return stack(parts)

        monkeypatch.setattr("rnnlm_tui.worker.step_metrics.torch.stack", waiting)

    def step(self, number: int, *, launch: float, **settings: Any) -> StepResult:
        """Launch a step, which takes the host this long."""
        self.clock.now += launch
        self.busy_to = max(self.busy_to, self.clock.now) + self.seconds
        return made(number, seconds=launch, **settings)


@pytest.mark.parametrize("launch", [0.000_1, 0.01, 0.4])
@pytest.mark.parametrize("work", [0.000_1, 0.007, 0.3])
def test_a_gpu_is_waited_for_a_few_times_a_second_and_its_time_adds_up(
    monkeypatch: pytest.MonkeyPatch, launch: float, work: float
) -> None:
    clock, store = Clock(), Store()
    gpu, count = Gpu(clock, monkeypatch, seconds=work), max(8, int(2 / max(launch, work)))
    metrics = StepMetrics(store, 1, active_seconds=7.0, asynchronous=True, clock=clock)
    began = clock.now
    for step in range(1, count + 1):
        metrics.add(gpu.step(step, launch=launch, loss=float(step)))
    metrics.flush()
    spent = clock.now - began
    assert [row.step for row in store.rows] == list(range(1, count + 1))
    assert [row.loss for row in store.rows] == [row.step for row in store.rows]
    assert metrics.active_seconds == store.rows[-1].active_seconds == pytest.approx(7 + spent)
    assert gpu.reads <= spent / REPORT_SECONDS + 2


def test_the_time_of_a_block_is_divided_by_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, store = Clock(), Store()
    gpu = Gpu(clock, monkeypatch, seconds=0.1)
    metrics = StepMetrics(store, 1, asynchronous=True, clock=clock)
    metrics.add(gpu.step(1, launch=0.0))
    for step, tokens in [(2, 100), (3, 300)]:
        metrics.add(gpu.step(step, launch=0.0, tokens=tokens))
    metrics.flush()
    assert [len(batch) for batch in store.batches] == [1, 2]
    assert [row.active_seconds for row in store.rows] == pytest.approx([0.1, 0.15, 0.3])
    assert store.rows[2].tokens_per_second == pytest.approx(2_000)


def test_what_is_not_training_does_not_count_as_training_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()
    gpu = Gpu(clock, monkeypatch, seconds=1.0)
    metrics = StepMetrics(Store(), 1, asynchronous=True, clock=clock)
    for step in (1, 2, 3):
        metrics.add(gpu.step(step, launch=0.0))
        metrics.flush()
        clock.now += 1_000  # an evaluation
    metrics.flush()
    assert metrics.active_seconds == pytest.approx(3.0)


def test_bad_steps_of_a_gpu_are_observed_with_their_numbers_when_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, events = Clock(), list[tuple[str, int]]()
    guard = LossGuard(3, lambda kind, step, _: events.append((kind, step)))
    gpu = Gpu(clock, monkeypatch, seconds=0.05)
    metrics = StepMetrics(Store(), 1, observe=guard.add, asynchronous=True, clock=clock)
    step = 0
    while guard.failed_at is None:
        step += 1
        metrics.add(gpu.step(step, launch=0.04, loss=math.nan if step > 20 else 2.0))
    assert (guard.failed_at.step, math.isnan(guard.failed_at.loss)) == (23, True)
    assert 23 < step <= 23 + REPORT_SECONDS / 0.04 + 1
    assert guard.bad_steps == step - 20
    assert events == [("skipped", 21)]


def test_a_device_that_fails_is_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: list[Tensor]) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    store = Store()
    metrics = StepMetrics(store, 1, asynchronous=True, clock=Clock())
    monkeypatch.setattr("rnnlm_tui.worker.step_metrics.torch.stack", lost)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        metrics.add(made(1))
    metrics.flush()
    assert store.rows == []
