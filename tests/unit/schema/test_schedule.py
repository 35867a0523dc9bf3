"""The learning rate at the steps where schedules change."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.config import ScheduleConfig, ScheduleKind
from rnnlm_tui.schema.estimates import Schedule


def rate(step: int, *, kind: ScheduleKind = "cosine", warmup: int = 10, total: int = 110) -> float:
    schedule = Schedule(0.4, warmup, ScheduleConfig(kind=kind, final_fraction=0.1))
    return schedule.rate(step, total_steps=total)


def test_warm_up_is_linear_and_reaches_the_peak_at_its_last_step() -> None:
    assert rate(1) == pytest.approx(0.04)
    assert rate(5) == pytest.approx(0.2)
    assert rate(10) == 0.4


def test_cosine_is_exact_in_the_middle_and_at_max_steps() -> None:
    assert rate(60) == pytest.approx(0.4 * 0.55)
    assert rate(110) == pytest.approx(0.04, rel=1e-12)
    assert rate(500) == pytest.approx(0.04, rel=1e-12)


def test_cosine_without_warm_up_starts_at_the_peak() -> None:
    assert rate(1, warmup=0) == 0.4
    assert rate(110, warmup=0) == pytest.approx(0.04)


def test_constant_stays_at_the_peak_after_the_warm_up() -> None:
    assert rate(1, kind="constant") == pytest.approx(0.04)
    assert [rate(step, kind="constant") for step in (10, 11, 110, 999)] == [0.4] * 4


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_run_of_one_step_takes_the_peak(warmup: int) -> None:
    assert rate(1, warmup=warmup, total=1) == 0.4


def test_rate_never_rises_after_the_warm_up() -> None:
    rates = [rate(step) for step in range(10, 111)]
    assert rates == sorted(rates, reverse=True)


def decayed(
    step: int, *, warmup: int = 0, after: int = 4, factor: float = 0.5, steps_per_epoch: int = 10
) -> float:
    config = ScheduleConfig(kind="decay", decay_after=after, decay_factor=factor)
    schedule = Schedule(20.0, warmup, config)
    return schedule.rate(step, total_steps=130, steps_per_epoch=steps_per_epoch)


def test_decay_keeps_the_peak_for_the_first_epochs_then_halves_it_at_the_first_step_of_each() -> (
    None
):
    # Zaremba's small model: 4 epochs at the peak, then half in each further one, 13 in all.
    last_steps = [decayed(10 * epoch) for epoch in range(1, 14)]
    first_steps = [decayed(10 * epoch - 9) for epoch in range(1, 14)]
    assert last_steps == first_steps
    assert last_steps == [20.0 / 2 ** max(0, epoch - 4) for epoch in range(1, 14)]


def test_decay_by_another_factor_equals_the_published_medium_model() -> None:
    rates = {
        epoch: decayed(100 * epoch, after=6, factor=1 / 1.2, steps_per_epoch=100)
        for epoch in (6, 7, 8, 39)
    }
    assert rates == pytest.approx({6: 20.0, 7: 16.6667, 8: 13.8889, 39: 20 / 1.2**33}, rel=1e-5)


def test_decay_from_the_start_begins_in_the_first_epoch_and_a_warm_up_comes_before_it() -> None:
    assert [decayed(step, after=0, steps_per_epoch=5) for step in (1, 5, 6)] == [10.0, 10.0, 5.0]
    early = [decayed(step, warmup=4, after=1, steps_per_epoch=3) for step in (1, 2, 4, 5, 6, 7)]
    assert early == [5.0, 10.0, 20.0, 10.0, 10.0, 5.0]
