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

NAN = math.nan


def wanted(
    values: list[float], *, log: bool = False, show_all: bool = False
) -> tuple[float, float] | None:
    bins = [Bin(column, value, value, value, 1, column) for column, value in enumerate(values)]
    return wanted_range([bins], [], len(values), log, show_all)


def test_the_range_is_that_of_the_data_without_outliers() -> None:
    spiked = [1.0 + (at % 5) / 10 for at in range(100)]
    spiked[60] = 1e6
    for values, log, found in (
        ([], False, None),
        ([NAN, NAN], False, None),
        ([-1.0, 0.0], True, None),
        ([float(at % 7) for at in range(100)], False, (0, 6)),
        (spiked, False, (1.0, 1.4)),
        ([1000.0, 10.0, 9.0, 8.0], False, (8, 1000)),  # too few to tell
        ([0.5] + [1.0 + (at % 5) / 5 for at in range(100)], False, (0.5, 1.8)),  # it rises
    ):
        assert wanted(values, log=log) == found


def test_a_bump_of_the_curve_stays_visible_on_a_log_axis() -> None:
    bump = [
        (70 + 900 * math.exp(-at / 25)) * (1 + 60 * math.exp(-(((at - 130) / 4) ** 2)))
        for at in range(400)
    ]
    bins = [Bin(column, value, value, value, 1, column) for column, value in enumerate(bump)]
    _, high = wanted_range([bins], [list(enumerate(bump))], 400, True, False) or (0, 0)
    assert high == pytest.approx(max(bump[40:]))


def test_the_range_includes_near_baselines_only() -> None:
    for wanted, values, log, from_zero, found in (
        ((50, 60), [63, 500], False, False, (50, 63)),
        ((50, 60), [45], False, False, (45, 60)),
        ((50, 60), [NAN, math.inf], False, False, (50, 60)),
        ((0.4, 0.5), [1.0], False, True, (0.4, 1.0)),
        ((50, 100), [0.0], True, False, (50, 100)),
    ):
        assert with_baselines(wanted, values, log, from_zero) == found


def test_limits_are_round_contain_what_is_wanted_and_start_at_zero_where_they_can() -> None:
    for log in (False, True):
        for low, high in ((46.2, 148.0), (3.7, 3.9), (1e-6, 2e-3), (5.0, 5.0)):
            limits = settle((low, high), log, False, None)
            assert limits.low <= low
            assert high <= limits.high
            assert limits.low < limits.high
    assert settle((25_000, 27_600), False, True, None) == Limits(0, 30_000, False)
    assert settle((0.1, 90), False, False, None).low == 0


def test_limits_are_kept_while_the_data_fits_and_fills_them() -> None:
    before = settle((50, 100), False, False, None)
    assert settle((52, 99), False, False, before) is before
    for low, high, log in ((50, 140, False), (50, 55, False), (50, 100, True)):
        assert settle((low, high), log, False, before) != before
    limits, changes = None, 0
    for step in range(200):  # a falling loss
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
    steps = [nice(value) for value in (1, 1.2, 2.1, 2.6, 7, 0.03, 1999)]
    assert steps == pytest.approx([1, 2, 2.5, 5, 10, 0.05, 2000])
