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

    def __init__(self, data: ChartData | None = None) -> None:
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
def repaints(chart: Chart) -> Iterator[list[tuple[Region, ...]]]:
    """Collect the regions that the chart asks to repaint."""
    asked: list[tuple[Region, ...]] = []
    refresh = chart.refresh

    def noted(
        *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False
    ) -> Chart:
        asked.append(regions)
        return refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    chart.refresh = noted  # type: ignore[method-assign]
    yield asked
    del chart.refresh


async def test_frame_shows_title_legend_ticks_and_unit() -> None:
    app = Charts(training(700))
    async with app.run_test(size=(80, 16)):
        shown = rows(app.chart)
        assert shown[0].startswith("╭─ Perplexity, log ──")
        assert shown[0].endswith("━ train 50.9  ━ val 58.1 ★  ·· bigram 73.0 ─╮")
        assert shown[-1].startswith("╰───── 0 ──")
        assert shown[-1].endswith(" step ─╯")
        assert " 600 " in shown[-1]
        assert {len(row) for row in shown} == {80}


async def test_legend_drops_baselines_then_names_then_series() -> None:
    app = Charts(training(700))
    async with app.run_test(size=(54, 12)) as pilot:
        assert rows(app.chart)[0].endswith("━ train 50.9  ━ val 58.1 ★ ─╮")
        await pilot.resize_terminal(44, 12)
        assert rows(app.chart)[0].endswith("━ 50.9  ━ val 58.1 ★ ─╮")
        await pilot.resize_terminal(42, 12)
        assert rows(app.chart)[0].endswith("━ 50.9  ━ 58.1 ★ ─╮")
        await pilot.resize_terminal(34, 12)
        assert rows(app.chart)[0].endswith("━ 50.9 ─╮")
        await pilot.resize_terminal(22, 12)
        assert "50.9" not in rows(app.chart)[0]


async def test_legend_shows_as_many_series_as_fit() -> None:
    curves = tuple(
        replace(line([1.0, 2.0]).series[0], name=name, marker=name, current=f"{at}.00")
        for at, name in enumerate("ABCD")
    )
    app = Charts(ChartData("Compare", curves, x_end=2))
    async with app.run_test(size=(42, 8)) as pilot:
        assert rows(app.chart)[0].endswith("─ A 0.00  B 1.00  C 2.00 ─╮")
        await pilot.resize_terminal(30, 8)
        assert rows(app.chart)[0].endswith("A 0.00  B 1.00 ─╮")


async def test_showing_the_same_again_repaints_nothing() -> None:
    app = Charts(training(700))
    async with app.run_test(size=(80, 16)):
        with repaints(app.chart) as asked:
            app.chart.show(training(700))
        assert asked == []


async def test_a_few_more_points_repaint_only_the_rows_they_change() -> None:
    app = Charts(training(700))
    async with app.run_test(size=(80, 24)):
        before = rows(app.chart)
        with repaints(app.chart) as asked:
            app.chart.show(training(706))
        after = rows(app.chart)
        changed = {
            y for y, (one, other) in enumerate(zip(before, after, strict=True)) if one != other
        }
        asked_rows = {region.y for regions in asked for region in regions}
        assert all(
            region.height == 1 and region.width < 40 for regions in asked for region in regions
        )
        assert changed <= asked_rows
        assert 0 < len(asked_rows) <= 6


async def test_a_growing_run_repaints_few_cells() -> None:
    app = Charts(training(300))
    async with app.run_test(size=(100, 25)):
        with repaints(app.chart) as asked:
            for steps in range(304, 704, 4):
                app.chart.show(training(steps))
        painted = sum(region.area for regions in asked for region in regions)
        assert painted < 0.05 * 100 * (100 * 25)


async def test_a_new_value_in_the_legend_repaints_only_its_digits() -> None:
    data = line([1.0, 2.0, 3.0])
    data = ChartData(data.title, (replace(data.series[0], current="8"),), x_end=2)
    app = Charts(data)
    async with app.run_test(size=(60, 10)):
        with repaints(app.chart) as asked:
            app.chart.show(ChartData(data.title, (replace(data.series[0], current="9"),), x_end=2))
        (region,) = [region for regions in asked for region in regions]
        assert region.y == 0
        assert region.width <= 2


async def test_legends_show_the_values_at_the_cursor() -> None:
    app = Charts(training(700))
    async with app.run_test(size=(100, 16)):
        app.chart.cursor = 512
        shown = rows(app.chart)
        assert "at step 512  raw" in shown[0]
        assert "@500 ─╮" in shown[0]
        assert "58.1 ★" not in shown[0]
        assert " 512 " in shown[-1]
        assert any("│" in row[8:-8] for row in shown[1:-1])
        app.chart.cursor = None
        assert "58.1 ★" in rows(app.chart)[0]


async def test_cursor_label_is_inverse_and_pushes_ticks_aside() -> None:
    app = Charts(training(700))
    async with app.run_test(size=(80, 16)):
        app.chart.cursor = 590
        bottom = app.chart.render_line(app.chart.size.height - 1)
        inverse = [
            segment
            for segment in bottom
            if segment.style and segment.style.bgcolor and segment.style.bgcolor.name == "#ffffff"
        ]
        assert "".join(segment.text for segment in inverse) == " 590 "
        assert " 600 " not in bottom.text


async def test_the_choice_of_log_is_kept_for_new_data_and_shown_in_the_title() -> None:
    app = Charts(training(700))
    async with app.run_test(size=(80, 16)):
        app.chart.toggle_log()
        assert ", log" not in rows(app.chart)[0]
        app.chart.show(training(710))
        assert not app.chart.log_y
        app.chart.reset()
        assert app.chart.log_y


async def test_smoothing_is_kept_between_its_bounds_and_changes_the_curve() -> None:
    app = Charts(training(700, log=False))
    async with app.run_test(size=(80, 16)):
        before = rows(app.chart)
        app.chart.set_smoothing(5)
        assert app.chart.smoothing == 0.999
        assert rows(app.chart) != before
        app.chart.set_smoothing(-1)
        assert app.chart.smoothing == 0


async def test_zoom_pan_follow_and_reset() -> None:
    app = Charts(training(600))
    async with app.run_test(size=(80, 16)):
        chart = app.chart
        assert chart.window == (0, PLANNED)
        chart.zoom(4)
        start, end = chart.window
        assert start < 600 < end
        assert chart.following
        chart.pan(-5)
        assert not chart.following
        assert chart.window[0] < start
        chart.follow()
        assert chart.following
        chart.reset()
        assert chart.window == (0, PLANNED)


async def test_show_all_brings_back_the_steep_start() -> None:
    app = Charts(training(700))
    async with app.run_test(size=(100, 20)):
        assert "from" in rows(app.chart)[1]
        app.chart.show_all = True
        assert not any("from" in row for row in rows(app.chart))
        app.chart.show_all = False
        assert "from" in rows(app.chart)[1]


async def test_another_title_resets_the_view() -> None:
    app = Charts(training(600))
    async with app.run_test(size=(80, 16)):
        app.chart.zoom(4)
        app.chart.show(line([1.0, 2.0, 3.0]))
        assert app.chart.window == (0, 2)
        assert rows(app.chart)[0].startswith("╭─ Line ─")


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 1), (4, 3), (7, 5), (20, 5), (200, 60)])
async def test_any_size_can_be_drawn(size: tuple[int, int]) -> None:
    app = Charts(training(700))
    async with app.run_test(size=(80, 16)) as pilot:
        app.chart.cursor = 300
        await pilot.resize_terminal(*size)
        await pilot.pause()
        assert app.chart.size == size
        assert [len(row) for row in rows(app.chart)] == [size[0]] * size[1]


async def test_no_color_draws_every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Charts(training(700))
    assert app.no_color
    async with app.run_test(size=(80, 16)) as pilot:
        assert "T train 50.9  V val 58.1 ★" in rows(app.chart)[0]
        for cursor in (None, 300):
            app.chart.cursor = cursor
            await pilot.pause()
            for y in range(16):
                assert all(
                    isinstance(segment, Segment) and segment.style is not None
                    for segment in app.chart.render_line(y)
                )
        app.chart.show(ChartData("Empty", ()))
        await pilot.pause()
        assert any("no points yet" in row for row in rows(app.chart))


async def test_focus_colours_the_border() -> None:
    app = Charts(training(700))
    app.chart.can_focus = True
    async with app.run_test(size=(80, 16)) as pilot:
        app.chart.focus()
        await pilot.pause()
        first = next(iter(app.chart.render_line(3)))
        assert first.style is not None
        assert first.style.color == ink(FOCUS).color


async def test_a_click_reports_its_x() -> None:
    app = Charts(training(700))
    async with app.run_test(size=(80, 16)) as pilot:
        await pilot.click(Chart, offset=(42, 6))
        await pilot.click(Chart, offset=(42, 0))
        assert len(app.pointed) == 1
        assert app.pointed[0] == pytest.approx(500, abs=15)
