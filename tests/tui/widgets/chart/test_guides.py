"""Reference curves: dotted, named, and without an effect on the x range."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rnnlm_tui.tui.palette import BASELINE, TRAIN, ink
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.widgets.chart.plot import PlotState, draw, last_column, levels, value_at
from rnnlm_tui.tui.widgets.chart.widget import legends, newest, oldest
from tests.tui.widgets.chart.pictures import look, picture, training

CURVE = [(-4, 80.0), (0, 40.0), (10, 20.0)]
GUIDE = ChartSeries(
    "reference", BASELINE, [10, 100, 500, 1_000], [266, 120, 70, 60], current="70.0", smooth=False
)


def with_guide(points: int = 300, log: bool = True) -> ChartData:
    return replace(training(points, log=log), guides=(GUIDE,))


@pytest.mark.parametrize(
    ("column", "value"),
    [(-5, None), (-4, 80.0), (-2, 60.0), (0, 40.0), (5, 30.0), (10, 20.0), (11, None)],
)
def test_between_its_points_a_curve_is_straight(column: int, value: float | None) -> None:
    assert value_at(CURVE, column) == value


def test_the_last_shown_column_is_the_edge_or_the_curves_end() -> None:
    assert (
        last_column(CURVE, 8),
        last_column(CURVE, 50),
        last_column([(60, 1.0)], 50),
        last_column([(-3, 1.0)], 50),
        last_column([], 50),
    ) == (
        7,
        10,
        None,
        None,
        None,
    )


def test_the_range_includes_a_guides_current_and_last_value_but_not_its_steep_start() -> None:
    assert levels(CURVE, 5, 20, show_all=False) == [30.0, 20.0]
    assert max(levels(CURVE, 5, 20, show_all=True)) == 40.0
    plot, _ = picture(with_guide(), 96, 15)
    assert plot.limits is not None
    assert plot.limits.low <= 60
    assert plot.limits.high < 266


@pytest.mark.parametrize("log", [False, True])
def test_a_guide_is_dotted_in_grey_and_named_at_its_end(log: bool) -> None:
    plot, rows = picture(with_guide(log=log), 96, 15)
    assert any(row.rstrip().endswith("reference") for row in rows)
    assert ink(BASELINE) in {style for row in plot.rows for _, style in row}


def test_a_guide_moves_neither_the_x_range_nor_the_newest_point() -> None:
    data = with_guide()
    assert (newest(data), oldest(data)) == (newest(training(300)), oldest(training(300)))


def test_a_chart_without_own_points_stays_empty() -> None:
    data = ChartData("Loss", (ChartSeries("train", TRAIN, [], []),), guides=(GUIDE,), x_end=100)
    assert [row.strip() for row in picture(data, 60, 9)[1] if row.strip()] == ["no points yet"]


def test_points_of_a_guide_beyond_the_limits_are_not_off_scale() -> None:
    assert picture(with_guide(), 96, 15)[0].off_scale == 0


def test_the_legend_names_a_guide_and_shows_its_value_at_the_cursor() -> None:
    data = with_guide()
    seen = look(data)
    plot = draw(data, seen, 96, 15, PlotState())
    assert "·· reference 70.0" in legends(data, seen, plot)[0].plain
    at = look(data, cursor=250)
    assert (
        "·· reference 120 @100" in legends(data, at, draw(data, at, 96, 15, PlotState()))[0].plain
    )
    ended = replace(data, guides=(replace(GUIDE, x=[10, 100, 200, 249]),))
    for some, cursor in ((data, 5), (ended, 250)):
        outside = look(some, cursor=cursor)
        assert (
            "·· reference –"
            in legends(some, outside, draw(some, outside, 96, 15, PlotState()))[0].plain
        )


def test_small_plots_show_a_guide_too() -> None:
    for width, height in ((24, 7), (5, 2), (1, 1)):
        assert len(picture(with_guide(), width, height)[1]) == height
