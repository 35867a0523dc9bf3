"""Rows are committed in batches, in time, with the measured values; those of a device that isn't
waited for, when they arrive."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.figures import StepFigures
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

    def __call__(self, rows: Sequence[StepRow]) -> None:
        self.batches.append(list(rows))

    @property
    def rows(self) -> list[StepRow]:
        return [row for batch in self.batches for row in batch]


class Steps:
    """Makes the results of steps, on a CPU or on a device."""

    def __init__(self, device: LateDevice | None = None, *, capacity: int = 4_096) -> None:
        self.device = device
        self.figures = StepFigures(
            torch.device("cpu"), capacity=capacity, send=None if device is None else device.send
        )

    def __call__(
        self,
        step: int,
        *,
        loss: float = 2.0,
        norm: float = 1.0,
        tokens: int = 100,
        seconds: float = 0.5,
    ) -> StepResult:
        """A step; on a device, `seconds` is the time to launch it."""
        if self.device is not None:
            self.device.launch(seconds)
        self.figures.write(torch.tensor(loss), torch.tensor(norm))
        return StepResult(
            step=step,
            epoch=step / 10,
            tokens=tokens,
            tokens_seen=step * tokens,
            learning_rate=0.1,
            seconds=seconds,
            figures=self.figures,
            number=self.figures.count(),
        )


def test_the_first_step_is_stored_at_once_and_later_ones_in_batches() -> None:
    clock, store = Clock(), Store()
    made, metrics = Steps(), StepMetrics(store, 1, clock=clock)
    for step in range(1, 6):
        metrics.add(made(step))
        clock.now += REPORT_SECONDS / 2.5
    assert [[row.step for row in batch] for batch in store.batches] == [[1], [2, 3, 4]]
    metrics.flush()
    metrics.flush()
    assert [[row.step for row in batch] for batch in store.batches] == [[1], [2, 3, 4], [5]]


def test_rows_have_speed_and_training_time_of_each_step() -> None:
    store = Store()
    made, metrics = Steps(), StepMetrics(store, 3, active_seconds=10.0, clock=Clock())
    metrics.add(made(1, tokens=100, seconds=0.5))
    metrics.add(made(2, tokens=50, seconds=0.125))
    metrics.flush()
    assert [(row.attempt, row.tokens_per_second, row.active_seconds) for row in store.rows] == [
        (3, 200.0, 10.5),
        (3, 400.0, 10.625),
    ]
    assert metrics.active_seconds == 10.625


def test_time_of_a_device_is_divided_among_the_steps_of_a_block_by_tokens() -> None:
    clock, store = Clock(), Store()
    device = LateDevice(clock, seconds=0.1)
    made = Steps(device)
    metrics = StepMetrics(store, 1, asynchronous=True, clock=clock)
    for step, tokens in [(1, 100), (2, 100), (3, 300), (4, 100)]:
        metrics.add(made(step, tokens=tokens, seconds=0.001))
    metrics.flush(final=True)
    assert [[row.step for row in batch] for batch in store.batches] == [[1], [2], [3, 4]]
    spent = [row.tokens_seen and row.active_seconds for row in store.rows]
    # The device takes as long for each step; what arrives together is divided.
    assert spent == pytest.approx([0.101, 0.201, 0.351, 0.401], abs=1e-3)
    assert store.rows[2].tokens_per_second == pytest.approx(2_000, rel=0.01)


def test_non_finite_losses_are_stored_and_observed_at_once() -> None:
    store, seen = Store(), list[int]()
    made, metrics = (
        Steps(),
        StepMetrics(store, 1, observe=lambda row: seen.append(row.step), clock=Clock()),
    )
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


@dataclass
class Arriving:
    """A copy that arrives when the device has done what was launched before it."""

    clock: Clock
    at: float
    arrive: Callable[[], object]
    waits: int = 0

    def query(self) -> bool:
        here = self.clock.now >= self.at
        if here:
            self.arrive()
        return here

    def synchronize(self) -> None:
        self.waits += self.clock.now < self.at
        self.clock.now = max(self.clock.now, self.at)
        self.arrive()


class LateDevice:
    """Does one step after the other, each in `seconds`, while the host goes on."""

    def __init__(self, clock: Clock, *, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds
        self.busy_to = clock.now
        self.steps, self.furthest = 0, 0.0
        self.copies: list[Arriving] = []

    def launch(self, seconds: float) -> None:
        self.clock.now += seconds
        self.busy_to = max(self.busy_to, self.clock.now) + self.seconds
        self.steps += 1
        self.furthest = max(self.furthest, self.busy_to - self.clock.now)

    def send(self, ring: Tensor, fetched: Tensor) -> Arriving:
        assert all(copy.at <= self.clock.now for copy in self.copies), "the memory is in use"
        now = ring.clone()
        fetched.fill_(-1)  # what would be read too early
        self.copies.append(Arriving(self.clock, self.busy_to, lambda: fetched.copy_(now)))
        return self.copies[-1]


@pytest.mark.parametrize("launch", [0.000_1, 0.01, 0.4])
@pytest.mark.parametrize("work", [0.000_1, 0.007, 0.3, 3.0])
def test_rows_of_a_device_are_right_and_their_time_adds_up(launch: float, work: float) -> None:
    clock, store = Clock(), Store()
    device = LateDevice(clock, seconds=work)
    made, count = Steps(device, capacity=1_024), max(8, min(3_000, int(5 / max(launch, work))))
    metrics = StepMetrics(store, 1, active_seconds=7.0, asynchronous=True, clock=clock)
    began = clock.now
    for step in range(1, count + 1):
        metrics.add(made(step, loss=float(step), seconds=launch))
    metrics.flush(final=True)
    metrics.flush(final=True)
    assert [row.step for row in store.rows] == [row.loss for row in store.rows]
    assert [row.step for row in store.rows] == list(range(1, count + 1))
    assert clock.now == pytest.approx(max(device.busy_to, began + count * launch))
    assert metrics.active_seconds == pytest.approx(7 + clock.now - began)
    assert store.rows[-1].active_seconds == metrics.active_seconds
    speed = count * 100 / (clock.now - began)
    middle = store.rows[count // 3 : 2 * count // 3]
    rates = [row.tokens_per_second for row in middle]
    assert sum(rates) / len(rates) == pytest.approx(speed, rel=0.3)
    # The host is ahead by what two blocks take, or two steps.
    assert device.furthest <= 2.5 * max(REPORT_SECONDS, 2 * work)
    assert len(device.copies) <= (clock.now - began) / REPORT_SECONDS * 1.5 + count / 256 + 12


def test_a_block_is_committed_one_flush_late_and_the_last_one_waited_for() -> None:
    clock, store = Clock(), Store()
    made = Steps(LateDevice(clock, seconds=10.0))
    metrics = StepMetrics(store, 1, asynchronous=True, clock=clock)
    metrics.add(made(1))
    assert store.rows == []
    assert math.isnan(metrics.train_loss)
    metrics.add(made(2))
    assert [row.step for row in store.rows] == [1]
    metrics.flush()
    assert [row.step for row in store.rows] == [1, 2]
    metrics.add(made(3))
    metrics.flush(final=True)
    assert [row.step for row in store.rows] == [1, 2, 3]


def test_more_steps_than_the_ring_holds_never_overwrite_what_was_not_read() -> None:
    clock, store = Clock(), Store()
    made = Steps(LateDevice(clock, seconds=0.0), capacity=16)
    metrics = StepMetrics(store, 1, asynchronous=True, clock=clock)
    for step in range(1, 500):
        metrics.add(made(step, loss=float(step), seconds=0.0))
    metrics.flush(final=True)
    assert [row.loss for row in store.rows] == [float(step) for step in range(1, 500)]
    assert max(map(len, store.batches)) <= 4


def test_what_is_not_training_does_not_count_as_training_time() -> None:
    clock, store = Clock(), Store()
    made = Steps(LateDevice(clock, seconds=1.0))
    metrics = StepMetrics(store, 1, asynchronous=True, clock=clock)
    metrics.add(made(1, seconds=0.0))
    metrics.add(made(2, seconds=0.0))
    metrics.flush(final=True)
    clock.now += 1_000  # an evaluation
    metrics.add(made(3, seconds=0.0))
    metrics.flush(final=True)
    clock.now += 1_000
    metrics.flush(final=True)
    assert metrics.active_seconds == pytest.approx(3.0)


def test_bad_steps_of_a_device_are_observed_with_their_numbers_a_flush_later() -> None:
    clock, store = Clock(), Store()
    made, guard = Steps(LateDevice(clock, seconds=0.05)), LossGuard(3)
    metrics = StepMetrics(store, 1, observe=guard.add, asynchronous=True, clock=clock)
    step = 0
    while guard.failed_at is None:
        step += 1
        metrics.add(made(step, loss=math.nan if step > 20 else 2.0, seconds=0.000_1))
    assert (guard.failed_at.step, math.isnan(guard.failed_at.loss)) == (23, True)
    assert 23 < step <= 23 + 2 * REPORT_SECONDS / 0.05 + 1
    metrics.flush(final=True)
    assert guard.bad_steps == step - 20
    assert [(event.step, event.kind) for event in guard.take_events()] == [(21, "skipped")]


def test_a_device_that_fails_is_reported_once() -> None:
    class Lost:
        def query(self) -> bool:
            return False

        def synchronize(self) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    made, store = Steps(), Store()
    made.figures = StepFigures(torch.device("cpu"), send=lambda *_: Lost())
    metrics = StepMetrics(store, 1, asynchronous=True, clock=Clock())
    metrics.add(made(1))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        metrics.flush(final=True)
    metrics.flush(final=True)
    assert store.rows == []
