"""Whole plots: what no picture of a screen shows, such as outliers, gaps and odd values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from rnnlm_tui.tui.palette import TRAIN, ink
from rnnlm_tui.tui.views.chart_data import Baseline, ChartData, ChartSeries, MarksStyle
from rnnlm_tui.tui.widgets.chart.plot import Plot, PlotOptions, draw
from rnnlm_tui.tui.widgets.chart.scale import value_at_y
from rnnlm_tui.tui.widgets.chart.widget import legends
from tests.tui.widgets.chart.pictures import line, look, picture, training

STYLES: tuple[MarksStyle, ...] = ("braille", "block", "ascii")


def curve(
    x: Sequence[float], mean: Sequence[float], x_end: float = 100, **more: object
) -> ChartData:
    """One curve that isn't smoothed; `marker`, `star` or `name` are the series', others the
    chart's."""
    named = {
        name: more.pop(name) for name in ("marker", "star", "low", "high", "smooth") if name in more
    }
    series = ChartSeries("a", TRAIN, x, mean, **{"smooth": False, **named})  # type: ignore[arg-type]
    return ChartData("Line", (series,), x_end=x_end, **more)  # type: ignore[arg-type]


def text_of(plot: Plot) -> str:
    return "\n".join("".join(text for text, _ in row) for row in plot.rows)


def high(plot: Plot) -> float:
    assert plot.limits is not None
    return value_at_y(plot.limits.high, plot.look.log)


def low(plot: Plot) -> float:
    assert plot.limits is not None
    return value_at_y(plot.limits.low, plot.look.log)


def test_every_row_fills_its_width_and_labels_keep_their_room() -> None:
    for width, height in ((96, 14), (24, 7), (5, 2), (1, 1), (40, 3), (0, 3), (0, 0)):
        for marks in STYLES:
            plot, rows = picture(training(700), width, height, marks=marks)
            assert [len(row) + plot.gutter for row in rows] == [width] * height
    thousands, ones = curve([0, 1], [1000, 1500], 2), curve([0, 1], [1, 2], 2)
    before = draw(thousands, look(thousands), 60, 12)
    after = draw(ones, look(ones), 60, 12, before)
    assert after.gutter == before.gutter, "though the labels got shorter"
    assert picture(curve([], []), 60, 9)[0].gutter == picture(curve([1], [7.62]), 60, 9)[0].gutter


def test_a_baseline_is_named_where_there_is_room_with_an_arrow_if_it_is_outside() -> None:
    over = curve([0, 100], [1, 1], baselines=(Baseline(1.0, "level 1.0"),))
    assert not any("level" in row for row in picture(over, 60, 9)[1])
    far = curve([0, 50], [900, 800], baselines=(Baseline(3.0, "goal 3.0"),))
    assert picture(far, 60, 9)[1][-1].endswith("goal 3.0 ↓")
    seen = PlotOptions(0.0, 100.0, 100.0, False, 0.0, False, "braille")
    legend = next(legends(draw(far, seen, 60, 9))).plain
    assert legend.endswith("·· goal 3.0 ↓")


def test_a_steep_start_is_labelled_with_its_first_value_unless_all_is_shown() -> None:
    plot, rows = picture(training(700), 96, 15)
    assert high(plot) < 500
    assert " to " not in text_of(plot)
    assert "↑ from 1,7" in rows[0]
    plot, rows = picture(training(700), 96, 15, show_all=True)
    assert high(plot) > 1700
    assert not any("from" in row for row in rows)
    for peak in (0.2, 3.0):  # far below
        values = [0.2, peak, *(0.2 + 0.01 * step for step in range(60))]
        values += [1.0 + 0.1 * step / 940 for step in range(940)]
        plot, rows = picture(line(values, smooth=True), 80, 14)
        assert low(plot) > 0.3
        assert " to " not in text_of(plot)
        assert any("↓ from 0.2" in row for row in rows)


def test_outliers_are_named_at_their_edge() -> None:
    values = [1 + (at % 5) / 10 for at in range(200)]
    values[90], values[130], values[150], values[151] = 1e6, -1e6, -1e6, -2e6
    _, rows = picture(curve(range(200), values, 400), 80, 9)
    assert rows[0].endswith("↑ to 1e6")
    assert rows[-1].endswith("↓ to -2e6")
    tops = [9.0 if at % 10 == 5 else 1.1 for at in range(200)]  # over the raw band
    band = curve(range(200), [1.0] * 200, 199, low=[0.9] * 200, high=tops, smooth=True)
    assert picture(band, 80, 9)[1][0].endswith(" ↑ to 9.00")


def test_gap_in_the_data_is_a_gap_in_the_curve_and_one_without_points_is_crossed() -> None:
    _, rows = picture(line([5.0] * 40 + [math.nan] * 40 + [5.0] * 40), 60, 4)
    (row,) = [row for row in rows if row.strip()]
    assert " " * 15 in row.strip()
    for log in (True, False):
        data = curve([0, 100], [8, 4], log_y=log)
        plot = draw(data, look(data)._replace(start=40.0, end=60.0), 40, 9)
        assert low(plot) > 4
        assert sum(style == ink(TRAIN) for row in plot.rows for _, style in row) >= 3


def test_moving_the_cursor_redraws_no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    data = training(700)
    plot = draw(data, look(data), 60, 10)
    first = plot.rows
    fresh = [draw(data, look(data), 60, 10, cursor=at).rows for at in (0, 30, 31, 699)]
    monkeypatch.setattr("rnnlm_tui.tui.widgets.chart.plot.curve_layer", None)
    monkeypatch.setattr("rnnlm_tui.tui.widgets.chart.plot.wanted_range", None)
    moved = [draw(data, look(data), 60, 10, plot, cursor=at).rows for at in (0, 30, 31, 699)]
    assert moved == fresh
    assert draw(data, look(data), 60, 10, plot).rows == first


def test_the_same_part_always_has_the_same_range() -> None:
    data, plot = training(700), None
    for start, end in ((0, 1000), (20, 60), (0, 120), (0, 1000)):
        plot = draw(data, look(data)._replace(start=start, end=end), 96, 14, plot)
    assert plot is not None
    assert plot.limits == draw(data, look(data), 96, 14).limits


def test_a_short_last_batch_makes_no_spike_unless_all_is_shown() -> None:
    values = [1.0 + 0.05 * math.sin(step) for step in range(900)]
    ends = tuple(range(99, 900, 100))
    for end in ends:
        values[end] = 9.0
    data = line(values, smooth=True)
    data = data._replace(series=(data.series[0]._replace(left_out=ends),))
    plot, _ = picture(data, 60, 12)
    assert high(plot) < 1.5
    assert " to " not in text_of(plot)
    assert high(picture(data, 60, 12, show_all=True)[0]) >= 9.0
    assert data.series[0].mean[99] == 9.0, "the cursor and a CSV file still have it"
