"""The points of a chart as CSV."""

from __future__ import annotations

import csv
import io
import math

from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries, points_csv

TRAIN = ChartSeries(
    "train", "#5fd7ff", [4.0, 8.0, 12.0], [3.0, math.nan, 2.5], [2.0, 1.0, 2.25], [4.0, 5.0, 3.0]
)
VALIDATION = ChartSeries("val", "#ffaf5f", [10.0], [2.75])


def test_every_point_of_every_curve_is_a_row() -> None:
    text, count = points_csv(ChartData("Loss", (TRAIN, VALIDATION), x_label="active time"))
    rows = list(csv.reader(io.StringIO(text)))
    assert count == 4
    assert rows[0] == ["series", "active_time", "value", "lowest", "highest"]
    assert rows[1] == ["train", "4", "3", "2", "4"]
    assert rows[2] == ["train", "8", "nan", "1", "5"]
    assert rows[4] == ["val", "10", "2.75", "", ""]


def test_only_the_visible_part_is_written_and_an_unnamed_curve_has_the_title() -> None:
    text, count = points_csv(
        ChartData("Tokens/s", (ChartSeries("", "#5fd7ff", [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),)),
        (1.5, 3.0),
    )
    assert count == 2
    assert text.splitlines()[1:] == ["tokens/s,2,2,,", "tokens/s,3,3,,"]
