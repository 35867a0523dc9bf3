"""The visible part of x: zoom, pan, follow, reset."""

from __future__ import annotations

from array import array

from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.widgets.chart.widget import Window


def data(last: int, end: float | None = 1000, first: int = 1) -> ChartData:
    x = array("d", range(first, last + 1))
    return ChartData("Loss", (ChartSeries("train", "#5fd7ff", x, x),), x_end=end)


def fitted(shown: ChartData) -> Window:
    window = Window()
    window.fit(shown)
    return window


def test_the_whole_range_ends_at_the_plan_or_at_a_stable_round_x() -> None:
    for shown, whole in (
        (data(10), (0, 1000)),
        (data(1200), (0, 1200)),  # past its plan
        (data(5600, 6000, first=5000), (5000, 6000)),
        (ChartData("Loss", ()), (0, 1)),
    ):
        assert fitted(shown).shown == whole
    window = fitted(data(100, None))
    first = window.shown
    assert first[1] > 100
    window.fit(data(int(first[1]) - 1, None))
    assert window.shown == first
    window, ends = Window(), []  # an estimated end moves only when visible
    for end in (1000.0, 1004.0, 995.0, 1040.0, 1041.0):
        window.fit(data(500)._replace(x_end=end))
        ends.append(window.whole[1])
    assert ends == [1000.0, 1000.0, 1000.0, 1040.0, 1040.0]
    window.fit(data(1041)._replace(x_end=1041.0))
    assert window.whole[1] == 1041.0
