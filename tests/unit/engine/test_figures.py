"""StepFigures: the newest losses and norms on the device, fetched without stopping it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.figures import StepFigures
from rnnlm_tui.schema.metrics import StepRow
from rnnlm_tui.worker.step_metrics import StepMetrics
from tests.fakes.cuda import FakeCuda

from .builders import trainer_of
from .test_graphs import card as graphs_card
from .test_graphs import graphed, plain_trainer
from .test_resident import VIEWS, WAITING, Operations

CPU = torch.device("cpu")
card = graphs_card
"""The fixture: CUDA graphs without CUDA."""


def write(figures: StepFigures, *losses: float) -> list[int]:
    numbers = []
    for loss in losses:
        figures.write(torch.tensor(loss), torch.tensor(-loss))
        numbers.append(figures.count())
    return numbers


def pairs(*losses: float) -> list[tuple[float, float]]:
    return [(loss, -loss) for loss in losses]


def test_steps_are_read_as_they_were_written_around_the_end_of_the_ring() -> None:
    figures = StepFigures(CPU, capacity=8)
    for start in range(0, 50, 5):
        losses = [start + step / 4 for step in range(5)]
        numbers = write(figures, *losses)
        assert figures.fetch().read(numbers) == pairs(*losses)
        assert figures.of(numbers[-1]).tolist() == list(pairs(losses[-1])[0])


def test_what_is_not_finite_is_read_as_such() -> None:
    figures = StepFigures(CPU)
    numbers = write(figures, math.nan, math.inf)
    (loss, norm), (infinite, _) = figures.fetch().read(numbers)
    assert math.isnan(loss)
    assert math.isnan(norm)
    assert infinite == math.inf


def test_steps_that_were_overwritten_or_are_to_come_are_refused() -> None:
    figures = StepFigures(CPU, capacity=4)
    numbers = write(figures, 1.0, 2.0, 3.0, 4.0, 5.0)
    fetch = figures.fetch()
    for wrong in (numbers[0], 5):
        with pytest.raises(IndexError, match=f"no figures of step {wrong}"):
            figures.of(wrong)
        with pytest.raises(IndexError):
            fetch.read([wrong])
    assert fetch.read(numbers[1:]) == pairs(2.0, 3.0, 4.0, 5.0)


def test_a_graphs_trials_take_no_place() -> None:
    figures = StepFigures(CPU, capacity=16)
    before = write(figures, 1.0, 2.0)
    for _ in range(10):
        figures.write(torch.tensor(9.0), torch.tensor(9.0))
    figures.align()
    after = write(figures, 3.0)
    assert figures.fetch().read([*before, *after]) == pairs(1.0, 2.0, 3.0)


def test_writing_waits_for_nothing_and_launches_little() -> None:
    figures = StepFigures(CPU)
    seen = []
    for loss in (1.0, 2.0):
        given = torch.tensor(loss), torch.tensor(loss)
        with Operations() as operations:
            figures.write(*given)
        seen.append(operations.calls)
    assert seen[0] == seen[1]
    names = [name for name, _ in seen[0] if not any(part in name for part in VIEWS)]
    assert len(names) == 4, names
    assert not [name for name in names if any(part in name for part in WAITING)]


def test_a_copy_on_its_way_is_waited_for() -> None:
    figures = StepFigures(CPU, capacity=4, send=send_late)
    numbers = write(figures, 1.0, 2.0)
    fetch = figures.fetch()
    write(figures, 3.0, 4.0, 5.0)
    assert not fetch.arrived
    assert fetch.read(numbers) == pairs(1.0, 2.0)
    assert StepFigures(CPU).fetch().arrived


def test_a_steps_result_has_its_own_loss_while_later_steps_run() -> None:
    trainer = trainer_of("stream")
    results = [trainer.train_step() for _ in range(4)]
    losses = [result.loss.item() for result in results]
    assert len(set(losses)) == 4
    assert [result.grad_norm.item() > 0 for result in results] == [True] * 4
    numbers = [result.number for result in results]
    assert [loss for loss, _ in trainer.figures.fetch().read(numbers)] == losses


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_rows_of_replayed_steps_arrive_late_and_are_those_without_graphs(
    card: FakeCuda, data_mode: str
) -> None:
    """Also when graphs are recorded again while losses are on their way: their trial writes to the
    ring, too."""
    found: dict[bool, list[StepRow]] = {}
    for late in (False, True):
        trainer = plain_trainer(data_mode, optimizer="sgd")
        if late:
            trainer = graphed(trainer)
            trainer.figures = StepFigures(CPU, capacity=128, send=send_late)
        rows: list[StepRow] = []
        metrics = StepMetrics(rows.extend, 1, asynchronous=late, clock=lambda: 0.0)
        for step in range(23):
            if step == 12:
                trainer.set_max_grad_norm(0.25)
            metrics.add(trainer.train_step())
        assert len(rows) < 23
        metrics.flush(final=True)
        found[late] = rows
    assert card.replays
    for plain, replayed in zip(found[False], found[True], strict=True):
        assert (plain.step, plain.tokens_seen) == (replayed.step, replayed.tokens_seen)
        assert (plain.loss, plain.grad_norm) == pytest.approx(
            (replayed.loss, replayed.grad_norm), rel=1e-4
        )


class Late:
    """A copy that arrives when it is waited for."""

    def __init__(self, arrive: Callable[[], object]) -> None:
        self._arrive = arrive

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        self._arrive()


def send_late(ring: Tensor, fetched: Tensor) -> Late:
    now = ring.clone()
    fetched.fill_(math.nan)  # what would be read too early
    return Late(lambda: fetched.copy_(now))
