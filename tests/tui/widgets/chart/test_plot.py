"""Whole plots: curves, labels, notes, marks and the cursor."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from rnnlm_tui.tui.palette import RAW, TEXT, TRAIN, VALIDATION, ink
from rnnlm_tui.tui.theme import SIGNS
from rnnlm_tui.tui.views.chart_data import Baseline, ChartData, ChartSeries, Mark, MarksStyle
from rnnlm_tui.tui.widgets.chart.plot import BAND_ROWS, PlotOptions, PlotState, draw
from rnnlm_tui.tui.widgets.chart.widget import legends
from tests.tui.widgets.chart.pictures import line, look, picture, training

STYLES: tuple[MarksStyle, ...] = ("braille", "block", "ascii")


def test_diagonal_is_drawn_dot_for_dot() -> None:
    data = ChartData("Line", (ChartSeries("a", TRAIN, [0, 7], [0, 7], smooth=False),), x_end=7)
    plot = draw(data, look(data), 4, 2, PlotState())
    assert plot.limits is not None
    assert ["".join(text for text, _ in row) for row in plot.rows] == ["  ⡠⠊", "⡠⠊  "]


def test_every_row_fills_the_width_and_has_styles() -> None:
    for width, height in ((96, 14), (24, 7), (5, 2), (1, 1), (40, 3)):
        for marks in STYLES:
            plot, rows = picture(training(700), width, height, marks=marks)
            assert len(rows) == height
            assert {len(row) + plot.gutter for row in rows} == {width}
            assert all(style is not None for row in plot.rows for _, style in row)


def test_no_room_draws_nothing_without_an_error() -> None:
    assert picture(training(10), 0, 0)[1] == []
    assert picture(training(10), 0, 3)[1] == ["", "", ""]


def test_tick_labels_are_aligned_and_unique() -> None:
    plot, _ = picture(training(700), 96, 15)
    assert len(plot.labels) >= 4
    values = [float(plot.labels[row]) for row in sorted(plot.labels)]
    assert values == sorted(values, reverse=True)


def test_baseline_is_dotted_with_its_name_in_the_empty_part() -> None:
    _, rows = picture(training(600), 96, 15)
    (row,) = [row for row in rows if "bigram 73.0" in row]
    assert row.endswith("bigram 73.0")
    assert row.startswith(("⠂⠂", "⠁⠁", "⠄⠄", "⡀⡀"))


def test_baseline_name_is_left_out_over_curves() -> None:
    data = ChartData(
        "Line",
        (ChartSeries("a", TRAIN, [0, 100], [1, 1], smooth=False),),
        (Baseline(1.0, "level 1.0"),),
        x_end=100,
    )
    assert not any("level" in row for row in picture(data, 60, 9)[1])


def test_far_baseline_is_named_with_an_arrow() -> None:
    data = ChartData(
        "Line",
        (ChartSeries("a", TRAIN, [0, 50], [900, 800], smooth=False),),
        (Baseline(3.0, "goal 3.0"),),
        x_end=100,
    )
    assert picture(data, 60, 9)[1][-1].endswith("goal 3.0 ↓")


def test_steep_start_is_labelled_with_its_first_value() -> None:
    plot, rows = picture(training(700), 96, 15)
    assert "↑ from 1,7" in rows[0]
    assert plot.limits is not None
    assert plot.limits.high < 500
    assert plot.off_scale == 0


def test_show_all_leaves_nothing_out() -> None:
    plot, rows = picture(training(700), 96, 15, show_all=True)
    assert plot.limits is not None
    assert plot.limits.high > 1700
    assert not any("from" in row for row in rows)


def test_outliers_are_counted() -> None:
    values = [1 + (at % 5) / 10 for at in range(200)]
    values[90], values[130], values[131] = 1e6, 1e6, math.inf
    assert picture(line(values, smooth=True), 80, 12)[0].off_scale == 3


def test_outliers_are_counted_at_their_edge() -> None:
    values = [1 + (at % 5) / 10 for at in range(200)]
    values[90], values[130], values[150], values[151] = 1e6, -1e6, -1e6, -2e6
    data = ChartData(
        "Line", (ChartSeries("a", TRAIN, range(200), values, smooth=False),), x_end=400
    )
    plot, rows = picture(data, 80, 9)
    assert plot.off_scale == 4
    assert rows[0].endswith("↑ 1 off scale")
    assert rows[-1].endswith("↓ 3 off scale")


def test_outliers_are_counted_over_raw_bands() -> None:
    high = [9.0 if at % 10 == 5 else 1.1 for at in range(200)]
    data = ChartData(
        "Line", (ChartSeries("a", TRAIN, range(200), [1.0] * 200, [0.9] * 200, high),), x_end=199
    )
    plot, rows = picture(data, 80, 9)
    assert plot.off_scale == 20
    assert rows[0].endswith(" ↑ 20 off scale")


@pytest.mark.parametrize("marks", STYLES)
def test_the_best_point_has_a_star_on_its_curve(marks: MarksStyle) -> None:
    data = ChartData(
        "Line",
        (ChartSeries("a", TRAIN, [0, 20, 40], [9, 2, 5], smooth=False, star=(20, 2)),),
        x_end=40,
    )
    _, rows = picture(data, 41, 9, marks=marks)
    assert [(row, text.index("★")) for row, text in enumerate(rows) if "★" in text] == [(8, 18)]


def test_evaluations_are_marked_if_there_is_room_but_after_other_marks() -> None:
    crowd = replace(training(700), marks=(Mark(250, "c", TEXT),), evaluated=range(0, 700, 20))
    assert "e" not in picture(crowd, 96, 14)[1][-1]
    few = replace(crowd, marks=(Mark(252, "c", TEXT),), evaluated=range(50, 700, 100))
    row = picture(few, 96, 14)[1][-1]
    assert (row.count("e"), row.count("c")) == (6, 1)


def test_a_curve_without_its_band_shows_only_the_average() -> None:
    data = training(700)
    bare = replace(data, series=(replace(data.series[0], band=False), data.series[1]))
    assert ink(RAW) not in {style for row in picture(bare, 96, 14)[0].rows for _, style in row}


def test_outlier_note_goes_where_there_is_room() -> None:
    data = training(700, log=False)
    first = data.series[0]
    mean = list(first.mean)
    mean[400] = 1e7
    spiked = ChartData(data.title, (ChartSeries("train", TRAIN, first.x, mean),), x_end=1000)
    assert picture(spiked, 96, 15)[1][0].endswith("1 off scale")


def test_curve_is_bright_over_its_dim_band_and_validation_is_orange() -> None:
    plot, _ = picture(training(700), 96, 15)
    styles = {style for row in plot.rows for _, style in row}
    assert {ink(TRAIN), ink(RAW), ink(VALIDATION)} <= styles


def test_gap_in_the_data_is_a_gap_in_the_curve() -> None:
    _, rows = picture(line([5.0] * 40 + [math.nan] * 40 + [5.0] * 40), 60, 4)
    (row,) = [row for row in rows if row.strip()]
    assert "⠉" in row or "⠒" in row or "⠤" in row or "⣀" in row
    assert " " * 15 in row.strip()


def test_marks_have_their_own_row() -> None:
    _, rows = picture(training(700), 96, 15)
    assert rows[-1].count("c") == 1
    assert rows[-1].count("★") == 1
    assert set(rows[-1]) == {" ", "c", "★"}


def test_small_plot_gives_the_marks_row_to_the_curve() -> None:
    assert not any("★" in row for row in picture(training(700), 60, 4)[1])


def test_cursor_is_a_line_that_leaves_curves_visible() -> None:
    _, without = picture(training(700), 96, 15)
    _, rows = picture(training(700), 96, 15, cursor=800)
    column = rows[0].index("│")
    assert all(row[column] == "│" for row in rows)
    _, rows = picture(training(700), 96, 15, cursor=500)
    column = rows[0].index("│")
    kept = [after[column] for after in rows if after[column] != "│"]
    assert kept
    assert kept[0] in {row[column] for row in without}


def test_in_ascii_curves_have_signs_and_the_line_filter_knows_all_others() -> None:
    _, rows = picture(
        ChartData("P", training(700).series, training(700).baselines, x_end=1000, log_y=True),
        96,
        15,
        marks="ascii",
        cursor=300,
    )
    text = "".join(rows)
    assert all(sign.isascii() or sign in SIGNS for sign in text)
    assert all(sign in text for sign in "*o:.│↑")


def test_markers_name_curves_without_colour() -> None:
    data = training(700)
    plot = draw(data, look(data, no_colour=True), 96, 15, PlotState())
    text = "".join(text for row in plot.rows for text, _ in row)
    assert "T" in text
    assert "V" in text


def test_chosen_marker_is_at_the_end_of_its_curve() -> None:
    data = ChartData(
        "Line", (ChartSeries("a", TRAIN, [0, 50], [1, 1], smooth=False, marker="A"),), x_end=100
    )
    (row,) = [row for row in picture(data, 60, 3)[1] if "A" in row]
    assert row.rstrip().endswith("A")
    assert 25 <= row.index("A") <= 32


def test_the_letter_of_a_curve_that_continues_is_at_the_edge() -> None:
    data = ChartData(
        "Line",
        (ChartSeries("a", TRAIN, [0, 50, 70, 100], [0, 0, 9, 10], marker="A", smooth=False),),
        x_end=100,
    )
    plot = draw(data, replace(look(data), end=75.0), 40, 9, PlotState())
    rows = ["".join(text for text, _ in row) for row in plot.rows]
    assert [row.index("A") for row in rows if "A" in row] == [40 - plot.gutter - 1]


def test_an_empty_chart_shows_its_note() -> None:
    data = ChartData(
        "Loss",
        (ChartSeries("train", TRAIN, [], []),),
        note="the first step is on its way",
        x_end=100,
    )
    _, rows = picture(data, 60, 9)
    assert [row.strip() for row in rows if row.strip()] == [
        "no points yet",
        "the first step is on its way",
    ]
    assert [row.strip() for row in picture(data, 24, 9)[1] if row.strip()] == ["no points yet"]


@pytest.mark.parametrize("log", [True, False])
def test_a_curve_crosses_a_range_without_points(log: bool) -> None:
    data = ChartData(
        "Line", (ChartSeries("a", TRAIN, [0, 100], [8, 4], smooth=False),), x_end=100, log_y=log
    )
    plot = draw(data, replace(look(data), start=40.0, end=60.0), 40, 9, PlotState())
    assert plot.limits is not None
    assert plot.limits.low > 4
    assert sum(style == ink(TRAIN) for row in plot.rows for _, style in row) >= 3


def test_a_range_without_points_does_not_announce_any() -> None:
    data = replace(training(300), note="soon")
    plot = draw(data, replace(look(data), start=900.0, end=990.0), 60, 9, PlotState())
    text = "\n".join("".join(sign for sign, _ in row) for row in plot.rows)
    assert "no points in this range" in text
    assert "soon" not in text


def test_dots_begin_in_the_same_column_before_and_after_the_first_point() -> None:
    empty = ChartData("Loss", (ChartSeries("train", TRAIN, [], []),), x_end=100)
    first = ChartData("Loss", (ChartSeries("train", TRAIN, [1], [7.62]),), x_end=100)
    assert picture(empty, 60, 9)[0].gutter == picture(first, 60, 9)[0].gutter


@pytest.mark.parametrize(
    "values",
    [
        [3.0],
        [3.0, 3.0],
        [0.0, 0.0],
        [-1.0, -2.0],
        [1e-300, 1e300],
        [-1e308, 1e308],
        [5e-324, 1.0],
        [5e-324, 5e-324],
        [math.inf, 1.0, 2.0],
        [math.nan] * 3,
    ],
)
@pytest.mark.parametrize("log", [False, True])
def test_extreme_values_can_be_drawn(values: list[float], log: bool) -> None:
    data = ChartData(
        "Line",
        (ChartSeries("a", TRAIN, list(range(len(values))), values),),
        (Baseline(1.7e308, "huge"), Baseline(5e-324, "tiny")),
        x_end=10,
        log_y=log,
        y_from_zero=not log,
    )
    assert [len(picture(data, 40, 8, marks=marks)[1]) for marks in STYLES] == [8, 8, 8]


def test_labels_keep_their_room_when_they_get_shorter() -> None:
    memory = PlotState()
    wide = ChartData(
        "Line", (ChartSeries("a", TRAIN, [0, 1], [1000, 1500], smooth=False),), x_end=2
    )
    first = draw(wide, look(wide), 60, 12, memory).gutter
    narrow = ChartData("Line", (ChartSeries("a", TRAIN, [0, 1], [1, 2], smooth=False),), x_end=2)
    assert draw(narrow, look(narrow), 60, 12, memory).gutter == first


def test_more_points_of_the_same_curve_give_the_same_plot() -> None:
    thin = [math.exp(-at / 300) for at in range(1001)]
    thick = [math.exp(-at / 3000) for at in range(10_001)]
    few = picture(line(thin), 60, 12)[1]
    many = picture(line(thick, x=[at / 10 for at in range(10_001)]), 60, 12)[1]
    same = sum(
        a == b
        for one, other in zip(few, many, strict=True)
        for a, b in zip(one, other, strict=True)
    )
    assert same >= 0.97 * 60 * 12 - 12 * 5


def test_without_colour_letters_repeat_along_both_curves() -> None:
    data = training(700)
    plot = draw(data, look(data, no_colour=True), 96, 15, PlotState())
    text = "".join(text for row in plot.rows for text, _ in row)
    assert min(text.count("T"), text.count("V")) >= 3


@pytest.mark.parametrize("marks", STYLES)
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_nan_levels_stars_and_guides_are_ignored(
    value: float, log: bool, marks: MarksStyle
) -> None:
    judged = ChartSeries("val", VALIDATION, [10.0], [value], smooth=False, star=(10.0, value))
    guide = ChartSeries("reference", TEXT, [0.0, 20.0, 30.0], [5.0, 6.0, value], smooth=False)
    plain = training(700)
    data = replace(
        plain,
        series=(*plain.series[:1], judged),
        baselines=(Baseline(value, "bigram"),),
        guides=(guide,),
        log_y=log,
    )
    plot, rows = picture(data, 60, 12, marks=marks)
    assert plot.labels
    assert "bigram" not in "".join(rows)


def test_a_few_unevenly_spread_evaluations_are_marked() -> None:
    uneven = replace(training(700), marks=(), evaluated=[50, 60, 150, 300, 310, 500])
    assert picture(uneven, 96, 14)[1][-1].count("e") >= 5


def test_the_same_part_always_has_the_same_range() -> None:
    data, memory = training(700), PlotState()
    fresh = draw(data, look(data), 96, 14, PlotState()).limits
    for start, end in ((0, 1000), (20, 60), (0, 120), (0, 1000)):
        limits = draw(data, replace(look(data), start=start, end=end), 96, 14, memory).limits
    assert limits == fresh


@pytest.mark.parametrize("end", [100, 120])
def test_the_letter_of_a_curve_is_beside_its_best_point(end: int) -> None:
    falling = ChartSeries(
        "b", TRAIN, [0, 50, 100], [9, 5, 1], marker="B", smooth=False, star=(100, 1)
    )
    _, rows = picture(ChartData("Line", (falling,), x_end=end), 60, 9)
    assert ("B★" if end == 100 else "★B") in "".join(rows)


def test_a_level_out_of_view_has_an_arrow_in_the_legend_too() -> None:
    data = ChartData(
        "Line",
        (ChartSeries("a", TRAIN, [0, 100], [900, 800], current="800", smooth=False),),
        (Baseline(3.0, "goal 3.0"),),
        x_end=100,
    )
    seen = PlotOptions(0.0, 100.0, 100.0, False, 0.0, False, "braille")
    assert "·· goal 3.0 ↓" in legends(data, seen, draw(data, seen, 60, 9, PlotState()))[0].plain
    near = replace(data, baselines=(Baseline(850.0, "goal 850"),))
    assert legends(near, seen, draw(near, seen, 60, 9, PlotState()))[0].plain.endswith(
        "·· goal 850"
    )


def _with_short_batches() -> ChartData:
    """Return a level curve with a spike at the end of each of nine epochs."""
    values = [1.0 + 0.05 * math.sin(step) for step in range(900)]
    ends = tuple(range(99, 900, 100))
    for end in ends:
        values[end] = 9.0
    data = line(values, smooth=True)
    return replace(data, series=(replace(data.series[0], left_out=ends),))


def test_a_short_last_batch_makes_no_spike_unless_all_is_shown() -> None:
    data = _with_short_batches()
    plot, rows = picture(data, 60, 12)
    assert plot.limits is not None
    assert plot.limits.high < 1.5
    assert plot.off_scale == 0
    assert not any("off" in row for row in rows)
    everything, _ = picture(data, 60, 12, show_all=True)
    assert everything.limits is not None
    assert everything.limits.high >= 9.0
    assert data.series[0].mean[99] == 9.0, "the cursor and a CSV file still have it"


def test_a_small_chart_shows_the_curve_without_its_raw_points_and_scales_to_it() -> None:
    data = training(700)
    small, large = picture(data, 60, BAND_ROWS - 1)[0], picture(data, 60, BAND_ROWS)[0]
    raw = {style for row in small.rows for _, style in row if style.color == ink(RAW).color}
    assert not raw
    assert any(style.color == ink(RAW).color for row in large.rows for _, style in row)
    assert small.limits is not None
    assert large.limits is not None
    assert small.limits.low > large.limits.low
    assert small.off_scale == 0


@pytest.mark.parametrize("peak", [0.2, 3.0])
def test_a_curve_that_starts_far_below_is_labelled_and_not_off_scale(
    peak: float,
) -> None:
    values = [0.2, peak, *(0.2 + 0.01 * step for step in range(60))] + [
        1.0 + 0.1 * step / 940 for step in range(940)
    ]
    plot, rows = picture(line(values, smooth=True), 80, 14)
    assert plot.limits is not None
    assert plot.limits.low > 0.3
    assert any("↓ from 0.2" in row for row in rows)
    assert plot.off_scale == 0


@pytest.mark.parametrize("marks", STYLES[:2])
@pytest.mark.parametrize("end", [60, 100])
def test_curves_that_end_together_keep_their_letters(marks: MarksStyle, end: int) -> None:
    series = tuple(
        ChartSeries(
            letter, TRAIN, [0, end], [start, 1.0], marker=letter, smooth=False, star=(end, 1.0)
        )
        for letter, start in zip("ABCDEFGH", range(2, 10), strict=True)
    )
    _, rows = picture(ChartData("Line", series, x_end=100), 50, 12, marks=marks)
    shown = "".join(rows)
    assert [shown.count(letter) for letter in "ABCDEFGH"] == [1] * 8
    lowest = [index for index, row in enumerate(rows) if set(row) & set("ABCDEFGH")]
    assert lowest[-1] - lowest[0] <= 4, "near the end that they share"


def test_moving_the_cursor_redraws_no_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    data, memory = training(700), PlotState()
    first = draw(data, look(data), 60, 10, memory)
    looks = [replace(look(data), cursor=float(at)) for at in (0, 30, 31, 699)]
    fresh = [draw(data, one, 60, 10, PlotState()).rows for one in looks]
    monkeypatch.setattr("rnnlm_tui.tui.widgets.chart.plot.curve_layer", None)
    monkeypatch.setattr("rnnlm_tui.tui.widgets.chart.plot.wanted_range", None)
    assert [draw(data, one, 60, 10, memory).rows for one in looks] == fresh
    assert draw(data, look(data), 60, 10, memory).rows == first.rows
