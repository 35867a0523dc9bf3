"""The visible part of x: zoom, pan, follow, reset."""

from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.widgets.chart.widget import Window


def data(last: int, end: float | None = 1000, first: int = 1) -> ChartData:
    x = array("d", range(first, last + 1))
    return ChartData("Loss", (ChartSeries("train", "#5fd7ff", x, x),), x_end=end)


def test_whole_runs_to_the_planned_end() -> None:
    assert Window().shown(data(10)) == (0, 1000)


def test_an_estimated_end_moves_only_when_visible() -> None:
    window = Window()
    ends = [
        window.whole(replace(data(500), x_end=end))[1]
        for end in (1000.0, 1004.0, 995.0, 1040.0, 1041.0)
    ]
    assert ends == [1000.0, 1000.0, 1000.0, 1040.0, 1040.0]
    assert window.whole(replace(data(1041), x_end=1041.0))[1] == 1041.0


def test_run_past_its_plan_is_still_shown() -> None:
    assert Window().shown(data(1200)) == (0, 1200)


def test_without_a_plan_the_end_is_round_and_stable() -> None:
    window = Window()
    first = window.shown(data(100, None))
    assert first[1] > 100
    assert window.shown(data(int(first[1]) - 1, None)) == first


def test_x_far_from_zero_starts_at_its_first_point() -> None:
    assert Window().shown(data(5200, 6000, first=5000))[0] == 5000


def test_no_points_give_a_range() -> None:
    start, end = Window().shown(ChartData("Loss", ()))
    assert start < end


def test_zoom_keeps_the_cursor_where_it_is() -> None:
    window = Window()
    window.zoom(data(900), 2, 250)
    start, end = window.shown(data(900))
    assert end - start == pytest.approx(500)
    assert (250 - start) / (end - start) == pytest.approx(0.25)


def test_zoom_without_a_cursor_shows_the_newest_points() -> None:
    window = Window()
    window.zoom(data(600), 4, None)
    start, end = window.shown(data(600))
    assert start < 600 <= end
    assert end - start == pytest.approx(250)


def test_zoom_out_ends_at_the_whole() -> None:
    window = Window()
    window.zoom(data(600), 4, None)
    window.zoom(data(600), 0.1, None)
    assert window.shown(data(600)) == (0, 1000)


def test_zoom_in_has_an_end() -> None:
    window = Window()
    for _ in range(60):
        window.zoom(data(600), 2, 300)
    start, end = window.shown(data(600))
    assert end - start >= 1


def test_pan_moves_stops_at_the_ends_and_stops_following() -> None:
    window = Window()
    window.zoom(data(600), 4, 500)
    window.pan(data(600), -0.5)
    assert not window.following
    window.pan(data(600), -99)
    assert window.shown(data(600))[0] == 0
    window.pan(data(600), 99)
    assert window.shown(data(600))[1] == 1000


def test_a_following_window_stays_and_then_jumps() -> None:
    window = Window()
    window.zoom(data(600), 10, None)
    before = window.shown(data(600))
    window.catch_up(data(605))
    assert window.shown(data(605)) == before
    window.catch_up(data(700))
    start, end = window.shown(data(700))
    assert start < 700 < end
    assert end - start == pytest.approx(before[1] - before[0])


def test_follow_returns_to_the_newest_point() -> None:
    window = Window()
    window.zoom(data(600), 10, 100)
    window.pan(data(600), 0.1)
    window.catch_up(data(900))
    assert window.shown(data(900))[1] < 900
    window.follow(data(900))
    start, end = window.shown(data(900))
    assert start < 900 <= end


def test_reset_shows_all() -> None:
    window = Window()
    window.zoom(data(600), 10, 100)
    window.reset()
    assert window.shown(data(600)) == (0, 1000)
    assert window.following


def test_a_window_shows_the_part_of_its_lead() -> None:
    lead, other = Window(), Window()
    lead.zoom(data(600, None), 4, 300)
    assert other.take(lead, data(600, None))
    few = data(100, None)
    assert other.shown(few) == lead.shown(data(600, None))
    assert other.whole(few) == lead.whole(data(600, None))
    assert not other.take(lead, data(600, None))
    lead.reset()
    other.take(lead, data(600, None))
    assert other.shown(few) == lead.shown(data(600, None))
    other.lead(few)
    assert other.whole(few)[1] < 600


def test_a_given_part_is_shown_and_an_empty_one_shows_all() -> None:
    window = Window()
    window.put((100, 200), following=False)
    assert window.shown(data(600)) == (100, 200)
    assert not window.following
    window.put((200, 200), following=False)
    assert window.shown(data(600)) == (0, 1000)
