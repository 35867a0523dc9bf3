"""Axis limits are robust, round and stable; ticks are round, distinct and don't touch."""

from __future__ import annotations

import math
import time
from itertools import pairwise, product

import pytest

from rnnlm_tui.tui.views.chart_data import XFormat
from rnnlm_tui.tui.widgets.chart.raster import Bin, Scale
from rnnlm_tui.tui.widgets.chart.scale import (
    Limits,
    settle,
    wanted_range,
    x_at,
    x_ticks,
    y_labels,
    y_of,
    y_ticks,
)


def settled(
    low: float, high: float, *, log: bool = False, before: Limits | None = None
) -> tuple[Limits, Limits]:
    """The wanted limits, and those that come of them."""
    ends = Limits(y_of(low, log), y_of(high, log))
    return ends, settle(ends, log, False, before)


def test_a_bump_of_the_curve_stays_visible_on_a_log_axis() -> None:
    bump = [
        y_of((70 + 900 * math.exp(-at / 25)) * (1 + 60 * math.exp(-(((at - 130) / 4) ** 2))), True)
        for at in range(400)
    ]
    bins = [Bin(column, y, y, y, 1, column) for column, y in enumerate(bump)]
    found = wanted_range([bins], [list(enumerate(bump))], 400, True, show_all=False)
    assert found is not None
    assert found.high == pytest.approx(max(bump[40:]))


def test_limits_are_round_kept_while_the_data_fills_them_and_start_at_zero_where_they_can() -> None:
    for log in (False, True):
        for low, high in ((46.2, 148.0), (3.7, 3.9), (1e-6, 2e-3), (5.0, 5.0)):
            ends, limits = settled(low, high, log=log)
            assert limits.low <= ends.low <= ends.high <= limits.high
            assert limits.low < limits.high
    assert settle(Limits(25_000, 27_600), False, True, None) == (0, 30_000)
    assert settled(0.1, 90)[1].low == 0
    _, before = settled(50, 100)
    assert settled(52, 99, before=before)[1] is before
    for low, high in ((50, 140), (50, 55)):
        assert settled(low, high, before=before)[1] != before
    limits, changes = before, 0
    for step in range(200):  # a falling loss
        _, after = settled(3 + 4 * math.exp(-step / 80), 7.0, before=limits)
        changes += after != limits
        limits = after
    assert changes <= 20


def ticks(low: float, high: float, rows: int, *, log: bool = False) -> dict[float, float]:
    """The place of each tick, 0.5 in the middle of the first row."""
    limits = Limits(y_of(low, log), y_of(high, log))
    scale = Scale(*limits, rows * 4)

    def place(y: float) -> float:
        return (scale.row(y) + 0.5) / 4

    found = y_ticks(limits, rows, 4, log)
    places = {value: place(y_of(value, log)) for _, value in found}
    assert [row for row, _ in found] == [math.floor(at) for at in places.values()]
    return places


def test_ticks_never_touch_and_those_of_a_coarse_log_axis_are_at_their_values() -> None:
    for low, high, rows in (
        (45, 150, 9), (33, 210, 14), (0.3, 9000, 20), (58, 61, 8), (55, 10_000, 6), (55, 5_000, 7),
        (60, 2_000, 5), (50, 100_000, 9),
    ):  # fmt: skip
        found = ticks(low, high, rows, log=True)
        assert len(found) >= 2
        places = sorted(map(math.floor, found.values()))
        assert all(b - a >= 2 for a, b in pairwise(places)) or high / low < 1.2
        if (high / low) ** (1 / rows) >= 1.4:
            assert all(abs(place - math.floor(place) - 0.5) <= 0.3 for place in found.values())
    assert list(ticks(3.5, 7.2, 7)) in ([4, 5, 6, 7], [4, 6])
    assert y_labels(list(ticks(0, 30_000, 3)), False) == ["0", "15k", "30k"]


def test_labels_have_the_fewest_distinct_decimals() -> None:
    for numbers, log, unit, words in (
        ([0, 0.5, 1, 1.5], False, "", "0 0.5 1 1.5"),
        ([40, 60, 80], False, "", "40 60 80"),
        ([0, 0.001, 0.002, 0.004], False, "", "0 1e-3 2e-3 4e-3"),
        ([0, 5, 10], False, "%", "0% 5% 10%"),
        ([1000, 1500, 2000], False, "", "1k 1.5k 2k"),
        ([1e6, 2e6], False, "", "1M 2M"),
        ([10, 100, 1000, 10000], True, "", "10 100 1k 10k"),
        ([1_900, 1_950, 2_000, 2_050, 2_100], True, "", "1.90k 1.95k 2k 2.05k 2.10k"),
        ([], False, "", ""),
    ):
        assert y_labels(numbers, log, unit) == words.split()
    for low, high, log in (
        (3.111, 3.112, False), (998, 1004, False), (0.00001, 0.9, False), (1_890, 2_110, True),
        (99_990, 100_040, False), (990, 1_010, True), (27_000, 27_100, True), (57.0, 58.0, True),
    ):  # fmt: skip
        found = y_labels(list(ticks(low, high, 12, log=log)), log)
        assert len(set(found)) == len(found) >= 2


def labels(start: float, end: float, width: int, form: XFormat = "count") -> list[str]:
    return [label for _, label in x_ticks(start, end, width, form)]


def test_x_ticks_are_round_distinct_and_in_their_unit() -> None:
    assert labels(0, 4754, 71) == ["0", "1k", "2k", "3k", "4k"]
    assert labels(2800, 3750, 96)[0] == "2.8k"
    assert "3,702" in labels(3700, 3712, 96)
    assert "0.2" in labels(0, 1, 60), "epochs have parts"
    assert labels(0, 1, 60, "whole") == ["0", "1"]
    assert x_ticks(5, 5, 60) == x_ticks(0, 10, 3) == []
    for end, unit in ((100, "30 s"), (3600, "15 min"), (7 * 86400, "2 d")):
        assert unit in labels(0, end, 60, "duration")
    now = 1_760_000_000.0
    clock = x_ticks(now, now + 3600, 60, "clock")
    times = [time.localtime(value) for value, _ in clock]
    assert all(at.tm_sec == 0 and at.tm_min % 5 == 0 for at in times)
    assert clock[0][1] == time.strftime("%H:%M", times[0])
    texts = [x_at(2140, "count"), x_at(1.25, "count"), x_at(99, "duration")]
    assert texts == ["2,140", "1.25", "1 min 39 s"], "at the cursor in full"


AXES: tuple[tuple[float, float, XFormat], ...] = (
    (0, 113, "duration"), (55, 200, "duration"), (3_000, 9_000, "duration"), (0, 2_750, "count"),
    (970_000, 1_130_000, "count"), (1_180, 2_900, "count"), (900, 1_100, "whole"),
)  # fmt: skip


def test_an_axis_has_one_unit_equal_steps_and_room_for_every_label() -> None:
    for (start, end, form), width in product(AXES, (24, 40, 60, 90, 150)):
        shown = x_ticks(start, end, width, form)
        places, texts = [value for value, _ in shown], [text for _, text in shown if text != "0"]
        assert len({round(b - a, 6) for a, b in pairwise(places)}) <= 1
        assert len({text.strip("0123456789.,- ") for text in texts}) <= 1
        assert len(set(texts)) == len(texts)
        for (a, text), (b, other) in pairwise(shown):
            assert (b - a) / (end - start) * width >= (len(text) + len(other)) / 2 + 2
