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
DATA = replace(training(300), guides=(GUIDE,))


def test_between_its_points_a_curve_is_straight_and_ends_at_its_last_or_the_edge() -> None:
    for column, value in (
        (-5, None), (-4, 80.0), (-2, 60.0), (0, 40.0), (5, 30.0), (10, 20.0), (11, None),
    ):  # fmt: skip
        assert value_at(CURVE, column) == value
    for curve, columns, last in (
        (CURVE, 8, 7), (CURVE, 50, 10), ([(60, 1.0)], 50, None), ([(-3, 1.0)], 50, None),
        ([], 50, None),
    ):  # fmt: skip
        assert last_column(curve, columns) == last


def test_the_range_includes_a_guides_current_and_last_value_but_not_its_steep_start() -> None:
    assert levels(CURVE, 5, 20, show_all=False) == [30.0, 20.0]
    assert max(levels(CURVE, 5, 20, show_all=True)) == 40.0
    plot, _ = picture(DATA, 96, 15)
    assert plot.limits is not None
    assert plot.limits.low <= 60
    assert plot.limits.high < 266
    assert plot.off_scale == 0
    assert (newest(DATA), oldest(DATA)) == (newest(training(300)), oldest(training(300)))


@pytest.mark.parametrize("log", [False, True])
def test_a_guide_is_dotted_in_grey_and_named_at_its_end(log: bool) -> None:
    plot, rows = picture(replace(DATA, log_y=log), 96, 15)
    assert any(row.rstrip().endswith("reference") for row in rows)
    assert ink(BASELINE) in {style for row in plot.rows for _, style in row}
    for width, height in ((24, 7), (5, 2), (1, 1)):
        assert len(picture(DATA, width, height)[1]) == height
    empty = ChartData("Loss", (ChartSeries("train", TRAIN, [], []),), guides=(GUIDE,), x_end=100)
    assert [row.strip() for row in picture(empty, 60, 9)[1] if row.strip()] == ["no points yet"]


def test_the_legend_names_a_guide_and_shows_its_value_at_the_cursor() -> None:
    ended = replace(DATA, guides=(replace(GUIDE, x=[10, 100, 200, 249]),))
    for data, cursor, words in (
        (DATA, None, "·· reference 70.0"),
        (DATA, 250, "·· reference 120 @100"),
        (DATA, 5, "·· reference –"),
        (ended, 250, "·· reference –"),
    ):
        seen = look(data, cursor=cursor)
        assert words in legends(data, seen, draw(data, seen, 96, 15, PlotState()))[0].plain
