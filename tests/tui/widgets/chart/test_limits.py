"""Axis limits are robust, round and stable."""

from __future__ import annotations

import math

import pytest

from rnnlm_tui.tui.widgets.chart.raster import Bin
from rnnlm_tui.tui.widgets.chart.scale import (
    Limits,
    nice,
    settle,
    settle_end,
    wanted_range,
    with_baselines,
)


def bins(values: list[float]) -> list[Bin]:
    return [Bin(column, value, value, value, 1, column) for column, value in enumerate(values)]


def wanted(
    values: list[float], *, log: bool = False, show_all: bool = False
) -> tuple[float, float] | None:
    return wanted_range([bins(values)], [], len(values), log, show_all)


def test_no_visible_points_have_no_range() -> None:
    assert wanted([]) is None
    assert wanted([math.nan, math.nan]) is None
    assert wanted([-1.0, 0.0], log=True) is None


def test_calm_data_is_shown_whole() -> None:
    assert wanted([float(at % 7) for at in range(100)]) == (0, 6)


def test_first_steep_fall_is_left_out() -> None:
    values = [2000 * math.exp(-at / 2) + 50 + 20 * math.exp(-at / 60) for at in range(100)]
    low, high = wanted(values) or (0, 0)
    assert high < 150
    assert low == min(values)


def test_steep_fall_is_shown_on_request() -> None:
    values = [2000 * math.exp(-at / 2) + 50 for at in range(100)]
    assert wanted(values, show_all=True) == pytest.approx((min(values), max(values)))


def test_one_spike_does_not_flatten_the_rest() -> None:
    values = [1.0 + (at % 5) / 10 for at in range(100)]
    values[60] = 1e6
    assert wanted(values) == (1.0, 1.4)


def test_short_data_is_shown_whole() -> None:
    assert wanted([1000.0, 10.0, 9.0, 8.0]) == (8, 1000)


def test_rising_start_is_not_left_out() -> None:
    assert wanted([0.5] + [1.0 + (at % 5) / 5 for at in range(100)]) == (0.5, 1.8)


def test_the_range_includes_near_baselines_only() -> None:
    assert with_baselines((50, 60), [63, 500], False, False) == (50, 63)
    assert with_baselines((50, 60), [45], False, False) == (45, 60)
    assert with_baselines((50, 60), [math.nan, math.inf], False, False) == (50, 60)
    assert with_baselines((0.4, 0.5), [1.0], False, True) == (0.4, 1.0)
    assert with_baselines((50, 100), [0.0], True, False) == (50, 100)


def test_limits_contain_what_is_wanted() -> None:
    for log in (False, True):
        for low, high in ((46.2, 148.0), (3.7, 3.9), (1e-6, 2e-3), (5.0, 5.0)):
            limits = settle((low, high), log, False, None)
            assert limits.low <= low
            assert high <= limits.high
            assert limits.low < limits.high


def test_limits_from_zero_start_at_zero_and_end_round() -> None:
    assert settle((25_000, 27_600), False, True, None) == Limits(0, 30_000, False)


def test_positive_data_has_no_negative_limit() -> None:
    assert settle((0.1, 90), False, False, None).low == 0


def test_limits_are_kept_while_the_data_fits_and_fills_them() -> None:
    before = settle((50, 100), False, False, None)
    assert settle((52, 99), False, False, before) is before
    assert settle((50, 140), False, False, before) != before
    assert settle((50, 55), False, False, before) != before
    assert settle((50, 100), True, False, before) != before


def test_falling_loss_changes_its_limits_rarely() -> None:
    limits, changes = None, 0
    for step in range(200):
        after = settle((3 + 4 * math.exp(-step / 80), 7.0), False, False, limits)
        changes += after != limits
        limits = after
    assert changes <= 20


def test_end_of_x_is_round_past_the_newest_point_and_stable() -> None:
    assert settle_end(0, 0, None) == 1
    end = settle_end(3751, 0, None)
    assert 3751 < end <= 4500
    assert settle_end(end - 1, 0, end) == end
    assert settle_end(end + 1, 0, end) > end


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1), (1.2, 2), (2.1, 2.5), (2.6, 5), (7, 10), (0.03, 0.05), (1999, 2000)],
)
def test_nice_steps_are_1_2_25_5(value: float, expected: float) -> None:
    assert nice(value) == pytest.approx(expected)


def test_frequent_spikes_of_raw_points_do_not_flatten_the_curve() -> None:
    raw = [
        Bin(column, 1.0, 0.9, 9.0 if column % 10 == 5 else 1.1, 100, 100 * column)
        for column in range(100)
    ]
    curve = [(column, 1.0) for column in range(100)]
    assert wanted_range([raw], [curve], 100, False, False) == (0.9, 1.1)
    assert wanted_range([raw], [curve], 100, False, True) == (0.9, 9.0)


def test_a_bump_of_the_curve_stays_visible_on_a_log_axis() -> None:
    values = [70 + 900 * math.exp(-at / 25) for at in range(400)]
    bump = [
        value * (1 + 60 * math.exp(-(((at - 130) / 4) ** 2))) for at, value in enumerate(values)
    ]
    _, high = wanted_range([bins(bump)], [list(enumerate(bump))], 400, True, False) or (0, 0)
    assert high == pytest.approx(max(bump[40:]))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("width", [0.0, 1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 0.01])
@pytest.mark.parametrize("value", [1e-9, 0.5, 1.0, 27_999.9, 28_000.0, 1e15])
def test_nearly_constant_data_has_distinct_limits(value: float, width: float, log: bool) -> None:
    low, high = value, value * (1 + width)
    limits = settle((low, high), log, False, None)
    assert limits.low < limits.high
    assert limits.low <= low
    assert high <= limits.high
