"""Points are sorted into dot columns and smoothed."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import pytest

from rnnlm_tui.tui.views.chart_data import ChartSeries
from rnnlm_tui.tui.widgets.chart.raster import Bin, bins_of, lead_of, smoothed

NAN = math.nan


def series(
    x: Sequence[float],
    mean: Sequence[float],
    *,
    geometric: bool = False,
    low: Sequence[float] | None = None,
    high: Sequence[float] | None = None,
) -> ChartSeries:
    return ChartSeries(
        "s",
        "#ffffff",
        array("d", x),
        array("d", mean),
        low and array("d", low),
        high and array("d", high),
        geometric=geometric,
    )


def test_first_and_last_x_are_in_the_first_and_last_column() -> None:
    assert [bin.column for bin in bins_of(series([0, 50, 100], [1, 2, 3]), 0, 100, 11)] == [
        0,
        5,
        10,
    ]


def test_column_keeps_the_extremes_of_its_points() -> None:
    values = [5.0, 1.0, 9.0, 2.0]
    (only,) = bins_of(series([0.1, 0.2, 0.3, 0.4], values), 0, 10, 11)
    assert only == Bin(0, sum(values) / 4, 1.0, 9.0, 4, 0)


def test_no_spike_is_lost_among_many_points() -> None:
    values = array("d", [1.0]) * 100_000
    values[77_777] = 50.0
    bins = bins_of(ChartSeries("s", "#ffffff", array("d", range(100_000)), values), 0, 99_999, 200)
    assert max(bin.high for bin in bins) == 50.0
    assert sum(bin.points for bin in bins) == 100_000


def test_buckets_bring_their_own_extremes() -> None:
    (only,) = bins_of(series([1, 1.1], [2, 3], low=[1, 2], high=[8, 4]), 1, 100, 10)
    assert (only.low, only.mean, only.high) == (1, 2.5, 8)


@pytest.mark.parametrize("hole", [NAN, math.inf, -math.inf])
def test_nan_points_are_left_out_anywhere(hole: float) -> None:
    for values in ([hole, 1.0, 3.0], [1.0, hole, 3.0], [1.0, 3.0, hole]):
        (only,) = bins_of(series([0, 0.1, 0.2], values), 0, 10, 11)
        assert (only.low, only.mean, only.high) == (1.0, 2.0, 3.0)
        assert only.infinite == (0 if hole != hole else 1)


def test_column_without_a_number_is_a_gap() -> None:
    bins = bins_of(series([0, 5, 10], [1, NAN, 2]), 0, 10, 11)
    assert [bin.mean == bin.mean for bin in bins] == [True, False, True]


def test_window_keeps_a_point_on_each_side_for_the_lines_that_enter() -> None:
    bins = bins_of(series(range(100), range(100)), 40, 50, 11)
    assert [bin.first for bin in bins] == list(range(39, 52))
    assert [bin.column for bin in bins] == list(range(-1, 12))


def test_no_points_and_no_width_give_no_columns() -> None:
    assert bins_of(series([], []), 0, 10, 10) == []
    assert bins_of(series([1], [1]), 5, 5, 10) == []


def test_geometric_mean_is_the_exponential_of_the_mean_logarithm() -> None:
    (only,) = bins_of(series([0, 0.1], [2, 8], geometric=True), 0, 10, 11)
    assert only.mean == pytest.approx(4)


def test_smoothing_of_zero_is_the_mean_of_each_column() -> None:
    bins = bins_of(series([0, 1, 2], [3, 1, 2]), 0, 10, 11)
    assert smoothed(bins, 0.0, 11, False) == [(0, 3), (1, 1), (2, 2)]


def test_constant_stays_constant_under_smoothing() -> None:
    bins = bins_of(series(range(50), [4.0] * 50), 0, 49, 50)
    assert all(value == pytest.approx(4.0) for _, value in smoothed(bins, 0.99, 50, False))


def test_average_starts_at_the_first_value_and_lags_behind_a_jump() -> None:
    bins = bins_of(series(range(100), [0.0] * 50 + [1.0] * 50), 0, 99, 100)
    values = [value for _, value in smoothed(bins, 0.99, 100, False)]
    assert values[0] == 0
    assert 0 < values[50] < values[60] < values[99] < 1


def test_curve_does_not_depend_on_how_points_are_rolled_up() -> None:
    fine = [math.exp(-at / 300) for at in range(1024)]
    coarse = [sum(fine[at : at + 4]) / 4 for at in range(0, 1024, 4)]
    many = smoothed(bins_of(series(range(1024), fine), 0, 1023, 100), 0.97, 100, False)
    few = smoothed(
        bins_of(series([at + 1.5 for at in range(0, 1024, 4)], coarse), 0, 1023, 100),
        0.97,
        100,
        False,
    )
    common = dict(many).keys() & dict(few).keys()
    assert len(common) >= 98
    assert all(
        dict(many)[column] == pytest.approx(dict(few)[column], rel=0.02) for column in common
    )


def test_average_restarts_after_a_gap() -> None:
    bins = bins_of(series([0, 1, 2], [100, NAN, 1]), 0, 10, 11)
    values = smoothed(bins, 0.999, 11, False)
    assert values[1][1] != values[1][1]
    assert values[2] == (2, 1.0)


def test_zoomed_curve_equals_the_whole_one() -> None:
    values = [math.sin(at / 40) for at in range(2000)]
    whole = dict(smoothed(bins_of(series(range(2000), values), 0, 1999, 2000), 0.9, 2000, False))
    lead = lead_of(0.9, 1999, 199, 200)
    part = smoothed(
        bins_of(series(range(2000), values), 1000, 1199, 200, lead), 0.9, 200 * 1999 / 199, False
    )
    assert all(
        value == pytest.approx(whole[1000 + column], abs=0.01)
        for column, value in part
        if 0 <= column < 200
    )
