"""Tick values and their labels."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import pytest

from rnnlm_tui.tui.views.chart_data import XFormat
from rnnlm_tui.tui.widgets.chart.raster import Scale
from rnnlm_tui.tui.widgets.chart.scale import Limits, fixed, x_at, x_ticks, y_labels, y_ticks


def ticks(low: float, high: float, rows: int, *, log: bool = False) -> list[float]:
    scale = Scale(low, high, log, rows * 4)
    return y_ticks(Limits(low, high, log), rows, lambda value: (scale.row(value) + 0.5) / 4)


def test_small_axis_from_zero_has_top_middle_and_zero() -> None:
    values = ticks(0, 30_000, 3)
    assert y_labels(values, False) == ["0", "15k", "30k"]


def test_linear_ticks_leave_a_row_free() -> None:
    values = ticks(3.5, 7.2, 7)
    assert values == [4, 5, 6, 7] or values == [4, 6]
    assert len(values) <= 3 or 2 * len(values) > 7


@pytest.mark.parametrize(
    ("low", "high", "rows"), [(45, 150, 9), (33, 210, 14), (0.3, 9000, 20), (58, 61, 8)]
)
def test_log_ticks_never_touch(low: float, high: float, rows: int) -> None:
    scale = Scale(low, high, True, rows * 4)
    places = sorted(round(scale.row(value)) // 4 for value in ticks(low, high, rows, log=True))
    assert len(places) >= 2
    assert all(b - a >= 2 for a, b in pairwise(places)) or high / low < 1.2


@pytest.mark.parametrize(
    ("low", "high", "rows"), [(55, 10_000, 6), (55, 5_000, 7), (60, 2_000, 5), (50, 100_000, 9)]
)
def test_labels_of_a_coarse_log_axis_are_at_their_values(
    low: float, high: float, rows: int
) -> None:
    scale = Scale(low, high, True, rows * 4)
    values = ticks(low, high, rows, log=True)
    assert len(values) >= 2
    for value in values:
        place = (scale.row(value) + 0.5) / 4
        assert abs(place - math.floor(place) - 0.5) <= 0.3


def test_labels_have_the_fewest_distinct_decimals() -> None:
    assert y_labels([0, 0.5, 1, 1.5], False) == ["0", "0.5", "1", "1.5"]
    assert y_labels([40, 60, 80], False) == ["40", "60", "80"]
    assert y_labels([0, 0.001, 0.002, 0.004], False) == ["0", "1e-3", "2e-3", "4e-3"]
    assert y_labels([0, 5, 10], False, " %") == ["0 %", "5 %", "10 %"]
    assert y_labels([1000, 1500, 2000], False) == ["1k", "1.5k", "2k"]
    assert y_labels([1e6, 2e6], False) == ["1M", "2M"]
    assert y_labels([10, 100, 1000, 10000], True) == ["10", "100", "1k", "10k"]
    assert y_labels([1.2, 1.5, 2], True) == ["1.2", "1.5", "2"]
    assert y_labels([], False) == []
    assert len(set(y_labels([100_000, 100_020, 100_040], False))) == 3


def test_labels_of_one_axis_differ() -> None:
    for low, high in ((0.0, 1.0), (3.111, 3.112), (57.0, 58.0), (998, 1004), (0.00001, 0.9)):
        labels = y_labels(ticks(low, high, 12), False)
        assert len(set(labels)) == len(labels)


def test_labels_of_a_narrow_log_axis_differ() -> None:
    assert y_labels([1_900, 1_950, 2_000, 2_050, 2_100], True) == [
        "1.90k",
        "1.95k",
        "2k",
        "2.05k",
        "2.10k",
    ]
    for low, high in ((1_890, 2_110), (990, 1_010), (27_000, 27_100), (57.0, 58.0)):
        labels = y_labels(ticks(low, high, 12, log=True), True)
        assert len(set(labels)) == len(labels) >= 2


def test_x_ticks_of_the_demo_are_thousands() -> None:
    assert [label for _, label in x_ticks(0, 4754, 71)] == ["0", "1k", "2k", "3k", "4k"]
    assert [label for _, label in x_ticks(0, 4754, 24)] == ["0", "2k", "4k"]


def test_x_ticks_of_a_window_are_distinct() -> None:
    labels = [label for _, label in x_ticks(2800, 3750, 96)]
    assert labels[0] == "2.8k"
    assert len(set(labels)) == len(labels) >= 4
    close = [label for _, label in x_ticks(3700, 3712, 96)]
    assert "3,702" in close
    assert len(set(close)) == len(close)


@pytest.mark.parametrize(
    ("end", "labels"),
    [
        (100, ["0", "20 s", "40 s", "60 s", "80 s", "100 s"]),
        (3600, ["0", "10 min", "20 min", "30 min"]),
        (7 * 86400, ["0", "1 d", "2 d"]),
    ],
)
def test_time_spans_are_written_in_their_units(end: float, labels: list[str]) -> None:
    shown = [label for _, label in x_ticks(0, end, 60, "duration")]
    assert shown[0] == "0"
    assert len(set(shown)) == len(shown)
    assert set(shown) & set(labels[1:])


def test_clock_ticks_are_at_round_local_times() -> None:
    now = 1_760_000_000.0
    shown = x_ticks(now, now + 3600, 60, "clock")
    assert all(
        time.localtime(value).tm_sec == 0 and time.localtime(value).tm_min % 5 == 0
        for value, _ in shown
    )
    assert shown[0][1] == time.strftime("%H:%M", time.localtime(shown[0][0]))


def test_epochs_have_decimals_if_the_step_needs_them() -> None:
    assert [label for _, label in x_ticks(0, 2, 60)] == ["0", "0.5", "1", "1.5", "2"]


def test_no_ticks_without_a_range_or_room() -> None:
    assert x_ticks(5, 5, 60) == []
    assert x_ticks(0, 10, 3) == []


def test_cursor_x_is_written_in_full() -> None:
    assert x_at(2140, "count") == "2,140"
    assert x_at(1.25, "count") == "1.25"
    assert x_at(99, "duration") == "1 min 39 s"


def test_fixed_drops_decimals_of_whole_numbers() -> None:
    assert fixed([0.5, 1.0], 0.5) == ["0.5", "1"]


@pytest.mark.parametrize("width", [24, 40, 60, 90, 150])
@pytest.mark.parametrize(
    ("start", "end", "form"),
    [
        (0, 113, "duration"),
        (55, 200, "duration"),
        (3_000, 9_000, "duration"),
        (0, 2_750, "count"),
        (970_000, 1_130_000, "count"),
        (1_180, 2_900, "count"),
        (900, 1_100, "whole"),
    ],
)
def test_an_axis_has_one_unit_equal_steps_and_room_for_every_label(
    start: float, end: float, form: XFormat, width: int
) -> None:
    shown = x_ticks(start, end, width, form)
    values, texts = [value for value, _ in shown], [text for _, text in shown if text != "0"]
    assert len({round(b - a, 6) for a, b in pairwise(values)}) <= 1
    assert len({text.strip("0123456789.,- ") for text in texts}) <= 1
    for (a, text), (b, other) in pairwise(shown):
        assert (b - a) / (end - start) * width >= (len(text) + len(other)) / 2 + 2


def test_steps_have_no_ticks_between_whole_ones() -> None:
    assert [label for _, label in x_ticks(0, 1, 60, "whole")] == ["0", "1"]
    assert [label for _, label in x_ticks(10, 13, 60, "whole")] == ["10", "11", "12", "13"]
    assert "0.2" in [label for _, label in x_ticks(0, 1, 60)], "epochs have parts"
