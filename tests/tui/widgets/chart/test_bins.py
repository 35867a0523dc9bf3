"""Points are sorted into dot columns and smoothed."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

import pytest

from rnnlm_tui.tui.views.chart_data import ChartSeries
from rnnlm_tui.tui.widgets.chart.raster import Bin, bins_of, lead_of, smoothed

NAN = math.nan


def series(x: Sequence[float], mean: Sequence[float], **more: object) -> ChartSeries:
    return ChartSeries("s", "#ffffff", array("d", x), array("d", mean), **more)  # type: ignore[arg-type]


def one(*values: float, **more: object) -> Bin:
    """The one dot column of these points."""
    x = [0.1 * at for at in range(len(values))]
    (only,) = bins_of(series(x, values, **more), 0, 10, 11)
    return only


def test_column_keeps_the_mean_and_extremes_of_its_points() -> None:
    assert one(5.0, 1.0, 9.0, 2.0) == Bin(0, 17 / 4, 1.0, 9.0, 4, 0)
    assert one(2, 3, low=[1, 2], high=[8, 4]) == Bin(0, 2.5, 1, 8, 2, 0)
    assert one(2, 8, average="geometric").mean == pytest.approx(4)
    values = array("d", [1.0]) * 100_000
    values[77_777] = 50.0
    bins = bins_of(series(range(100_000), values), 0, 99_999, 200)
    assert len(bins) == 200, "however many points there are"
    assert max(bin.high for bin in bins) == 50.0
    assert sum(bin.points for bin in bins) == 100_000


def test_points_without_a_number_are_left_out_anywhere_and_leave_a_gap_alone() -> None:
    for hole in (NAN, math.inf, -math.inf):
        for values in ([hole, 1.0, 3.0], [1.0, hole, 3.0], [1.0, 3.0, hole]):
            assert one(*values) == Bin(0, 2.0, 1.0, 3.0, 3, 0)
        bins = bins_of(series([0, 5, 10], [1, hole, 2]), 0, 10, 11)
        assert [bin.mean == bin.mean for bin in bins] == [True, False, True]


def test_curve_does_not_depend_on_how_points_are_rolled_up() -> None:
    fine = [math.exp(-at / 300) for at in range(1024)]
    coarse = [sum(fine[at : at + 4]) / 4 for at in range(0, 1024, 4)]
    middles = [at + 1.5 for at in range(0, 1024, 4)]
    many, few = (
        dict(smoothed(bins_of(series(x, values), 0, 1023, 100), 0.97, 100))
        for x, values in ((range(1024), fine), (middles, coarse))
    )
    common = many.keys() & few.keys()
    assert len(common) >= 98
    assert all(many[column] == pytest.approx(few[column], rel=0.02) for column in common)


def test_zoomed_curve_equals_the_whole_one() -> None:
    wave = series(range(2000), [math.sin(at / 40) for at in range(2000)])
    whole = dict(smoothed(bins_of(wave, 0, 1999, 2000), 0.9, 2000))
    bins = bins_of(wave, 1000, 1199, 200, lead_of(0.9, 1999, 199, 200))
    for column, value in smoothed(bins, 0.9, 200 * 1999 / 199):
        if 0 <= column < 200:
            assert value == pytest.approx(whole[1000 + column], abs=0.01)
