"""The chart widget: legend, repainting only changed rows, zoom and other view settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.geometry import Region

from rnnlm_tui.tui.palette import FOCUS, ink
from rnnlm_tui.tui.widgets.chart import Chart, ChartData
from tests.tui.widgets.chart.pictures import PLANNED, line, training


class Charts(App[None]):
    """One chart that fills the screen."""

    def __init__(self, data: ChartData) -> None:
        super().__init__()
        self.chart = Chart(data)
        self.pointed: list[float] = []

    def compose(self) -> ComposeResult:
        yield self.chart

    def on_chart_pointed(self, event: Chart.Pointed) -> None:
        self.pointed.append(event.x)


def rows(chart: Chart) -> list[str]:
    return [chart.render_line(y).text for y in range(chart.size.height)]


@contextmanager
def repaints(chart: Chart) -> Iterator[list[Region]]:
    """Collect the regions that the chart asks to repaint."""
    asked: list[Region] = []
    refresh = chart.refresh

    def noted(*regions: Region, **named: bool) -> Chart:
        asked.extend(regions)
        return refresh(*regions, **named)

    chart.refresh = noted  # type: ignore[method-assign]
    yield asked
    del chart.refresh


async def test_the_frame_shows_title_ticks_unit_and_as_much_of_the_legend_as_fits() -> None:
    app = Charts(training(700))
    async with app.run_test(size=(80, 16)) as pilot:
        shown = rows(app.chart)
        assert shown[0].startswith("╭─ Perplexity, log ──")
        assert shown[-1].startswith("╰───── 0 ──")
        assert shown[-1].endswith(" step ─╯")
        assert " 600 " in shown[-1]
        assert {len(row) for row in shown} == {80}
        curves = tuple(
            replace(line([1.0, 2.0]).series[0], name=name, marker=name, current=f"{at}.00")
            for at, name in enumerate("ABCD")
        )
        for data, width, legend in (
            (training(700), 80, "━ train 50.9  ━ val 58.1 ★  ·· bigram 73.0 ─╮"),
            (training(700), 54, "━ train 50.9  ━ val 58.1 ★ ─╮"),
            (training(700), 44, "━ 50.9  ━ val 58.1 ★ ─╮"),
            (training(700), 42, "━ 50.9  ━ 58.1 ★ ─╮"),
            (training(700), 34, "━ 50.9 ─╮"),
            (training(700), 22, "──╮"),
            (ChartData("Compare", curves, x_end=2), 42, "─ A 0.00  B 1.00  C 2.00 ─╮"),
            (ChartData("Compare", curves, x_end=2), 30, "A 0.00  B 1.00 ─╮"),
        ):
            app.chart.show(data)
            await pilot.resize_terminal(width, 12)
            await pilot.pause()
            assert rows(app.chart)[0].endswith(legend)
        app.chart.show(training(700))
        app.chart.cursor = 300
        for size in ((1, 1), (2, 2), (3, 1), (4, 3), (7, 5), (20, 5), (200, 60)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert [len(row) for row in rows(app.chart)] == [size[0]] * size[1]


async def test_only_what_changed_is_repainted() -> None:
    app = Charts(training(300))
    async with app.run_test(size=(100, 25)):
        with repaints(app.chart) as asked:
            app.chart.show(training(300))
            assert asked == []
            for steps in range(304, 704, 4):
                app.chart.show(training(steps))
        assert sum(region.area for region in asked) < 0.05 * 100 * (100 * 25)
        before = rows(app.chart)
        with repaints(app.chart) as asked:
            app.chart.show(training(708))
        both = enumerate(zip(before, rows(app.chart), strict=True))
        assert {y for y, (one, other) in both if one != other} <= {region.y for region in asked}
        assert all(region.height == 1 and region.width < 40 for region in asked)
        assert 0 < len({region.y for region in asked}) <= 6
        data = line([1.0, 2.0, 3.0])
        app.chart.show(replace(data, series=(replace(data.series[0], current="8"),)))
        with repaints(app.chart) as asked:  # a new value in the legend
            app.chart.show(replace(data, series=(replace(data.series[0], current="9"),)))
        (region,) = asked
        assert region.y == 0
        assert region.width <= 2


async def test_the_cursor_is_in_legend_plot_and_bottom_edge_and_a_click_reports_its_x() -> None:
    app = Charts(training(700))
    async with app.run_test(size=(80, 16)) as pilot:
        await pilot.click(Chart, offset=(42, 6))
        await pilot.click(Chart, offset=(42, 0))
        assert app.pointed == [pytest.approx(500, abs=15)]
        app.chart.cursor = 590
        bottom = app.chart.render_line(app.chart.size.height - 1)
        inverse = [
            segment.text
            for segment in bottom
            if segment.style and segment.style.bgcolor and segment.style.bgcolor.name == "#ffffff"
        ]
        assert "".join(inverse) == " 590 "
        assert " 600 " not in bottom.text
        await pilot.resize_terminal(100, 16)
        app.chart.cursor = 512
        await pilot.pause()
        shown = rows(app.chart)
        assert "at step 512  raw" in shown[0]
        assert "@500 ─╮" in shown[0]
        assert "58.1 ★" not in shown[0]
        assert " 512 " in shown[-1]
        assert any("│" in row[8:-8] for row in shown[1:-1])
        app.chart.cursor = None
        assert "58.1 ★" in rows(app.chart)[0]


async def test_the_view_is_kept_for_new_data_until_a_reset_or_another_title() -> None:
    app = Charts(training(600))
    async with app.run_test(size=(100, 20)) as pilot:
        chart = app.chart
        assert "from" in rows(chart)[1]
        for show_all in (True, False):
            chart.show_all = show_all
            assert any("from" in row for row in rows(chart)) != show_all
        before = rows(chart)
        chart.smoothing = 0.999
        assert rows(chart) != before
        chart.toggle_log()
        assert ", log" not in rows(chart)[0]
        chart.show(training(610))
        assert not chart.log_y
        assert chart.range.shown == (0, PLANNED)
        chart.range.zoom(4, None)
        start, end = chart.range.shown
        assert start < 610 < end
        assert chart.range.following
        chart.range.pan(-0.1)
        assert not chart.range.following
        assert chart.range.shown[0] < start
        chart.range.follow()
        assert chart.range.following
        chart.reset()
        assert chart.range.shown == (0, PLANNED)
        assert chart.log_y
        chart.show(replace(training(610), x_end=PLANNED + 5))  # an end that hardly moves is kept
        assert chart.range.shown == (0, PLANNED)
        chart.reset()
        assert chart.range.shown == (0, PLANNED + 5)
        chart.range.zoom(4, None)
        chart.show(line([1.0, 2.0, 3.0]))
        assert chart.range.shown == (0, 2)
        assert rows(chart)[0].startswith("╭─ Line ─")
        chart.can_focus = True
        chart.focus()
        await pilot.pause()
        first = next(iter(chart.render_line(3)))
        assert first.style is not None
        assert first.style.color == ink(FOCUS).color


async def test_no_color_draws_every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Charts(training(700))
    assert app.no_color
    async with app.run_test(size=(80, 16)) as pilot:
        assert "T train 50.9  V val 58.1 ★" in rows(app.chart)[0]
        for cursor in (None, 300):
            app.chart.cursor = cursor
            await pilot.pause()
            segments = [segment for y in range(16) for segment in app.chart.render_line(y)]
            assert all(isinstance(one, Segment) and one.style is not None for one in segments)
        app.chart.show(ChartData("Empty", ()))
        await pilot.pause()
        assert any("no points yet" in row for row in rows(app.chart))
