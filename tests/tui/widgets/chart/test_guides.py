"""Reference curves: named, and without an effect on the x range."""

from __future__ import annotations

from dataclasses import replace

from rnnlm_tui.tui.palette import BASELINE, TRAIN, ink
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.widgets.chart.plot import draw
from rnnlm_tui.tui.widgets.chart.scale import y_of
from rnnlm_tui.tui.widgets.chart.widget import legends, newest, oldest
from tests.tui.widgets.chart.pictures import look, picture, training

GUIDE = ChartSeries(
    "reference", BASELINE, [10, 100, 500, 1_000], [266, 120, 70, 60], current="70.0", smooth=False
)
DATA = replace(training(300), guides=(GUIDE,))


def test_a_guide_is_named_at_its_end_and_widens_the_range_without_its_steep_start() -> None:
    for log in (False, True):
        plot, rows = picture(replace(DATA, log_y=log), 96, 15)
        assert any(row.rstrip().endswith("reference") for row in rows)
        assert ink(BASELINE) in {style for row in plot.rows for _, style in row}
        assert plot.limits is not None
        assert plot.limits.low <= y_of(60, log)
        assert plot.limits.high < y_of(266, log)
    assert (newest(DATA), oldest(DATA)) == (newest(training(300)), oldest(training(300)))
    assert [len(picture(DATA, *size)[1]) for size in ((24, 7), (5, 2), (1, 1))] == [7, 2, 1]
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
        assert words in next(legends(draw(data, seen, 96, 15))).plain
