"""The machine's charts: readings between the steps, on every x axis."""

from __future__ import annotations

from array import array
from dataclasses import replace
from itertools import pairwise

import pytest

from rnnlm_tui.tui.views import chart_data
from rnnlm_tui.tui.views.chart_data import AXES, Axis
from rnnlm_tui.tui.views.charts import busy_data, memory_data
from tests.tui.fakes import START, make_series, make_snapshot


@pytest.mark.parametrize("axis", AXES)
def test_readings_are_placed_between_the_steps_of_their_time(axis: Axis) -> None:
    series = make_series(1_000, width=10)
    places = chart_data.x_values(series, axis)
    times = [
        series.time[0] - 100,
        (series.time[39] + series.time[40]) / 2,
        series.time[-1],
        series.time[-1] + 50,
    ]
    found = chart_data.x_of_times(series, axis, times)
    assert list(found) == sorted(found)
    assert found[1] == pytest.approx((places[39] + places[40]) / 2)
    assert found[2] == pytest.approx(places[-1])
    if axis != "wall":
        assert (found[0], found[3]) == (0.0, places[-1])


def test_a_clock_that_was_set_back_holds_still_until_it_has_caught_up() -> None:
    series = make_series(40, width=10)
    back = replace(series, time=array("d", [100.0, 110.0, 90.0, 120.0]))
    assert list(chart_data.x_values(back, "wall")) == [100.0, 110.0, 110.0, 120.0]
    assert all(
        one <= other
        for one, other in pairwise(chart_data.x_of_times(back, "step", [95.0, 105.0, 85.0, 115.0]))
    )


@pytest.mark.parametrize("axis", AXES)
def test_a_run_on_a_card_shows_the_card_and_its_memory(axis: Axis) -> None:
    snapshot = make_snapshot()
    busy, memory = busy_data(snapshot, axis), memory_data(snapshot, axis)
    assert (busy.title, busy.series[0].current, busy.y_unit) == ("GPU", "71 %", " %")
    assert (
        memory.title,
        [series.current for series in memory.series],
        memory.baselines[0].label,
    ) == ("GPU memory, GiB", ["0.6", "4.7"], "23 GiB")
    assert memory.series[1].mean[0] == pytest.approx(4.7)
    assert memory.x_end == chart_data.planned_end(snapshot, axis)


def test_a_run_on_the_cores_shows_these_and_the_memory_of_the_machine() -> None:
    snapshot = make_snapshot(gpu=False)
    busy, memory = busy_data(snapshot, "step"), memory_data(snapshot, "step")
    assert (busy.title, [series.name for series in busy.series], busy.series[1].current) == (
        "CPU",
        ["run", "all"],
        "71 %",
    )
    assert (memory.title, [series.current for series in memory.series]) == (
        "Memory, GiB",
        ["0.9", "9.1"],
    )


def test_a_run_without_readings_has_empty_charts() -> None:
    snapshot = make_snapshot("preparing", 0)
    for axis in AXES:
        assert all(
            len(series.x) == 0
            for make in (busy_data, memory_data)
            for series in make(snapshot, axis).series
        )


def test_readings_before_the_first_step_are_there() -> None:
    snapshot = replace(make_snapshot(), series=make_series(0))
    assert set(busy_data(snapshot, "step").series[0].x) == {0.0}
    assert busy_data(snapshot, "wall").series[0].x[0] == START
