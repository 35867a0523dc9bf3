"""The learning rate at the steps that people check."""

from __future__ import annotations

import pytest

from rnnlm_tui.engine.schedule import learning_rate


def rate(step: int, *, kind: str = "cosine", warmup: int = 10, total: int = 110, final: float = 0.1) -> float:
    return learning_rate(step, peak=0.4, kind=kind, warmup_steps=warmup, total_steps=total, final_fraction=final)


def test_warm_up_rises_in_equal_parts_and_reaches_the_peak_at_its_last_step() -> None:
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
