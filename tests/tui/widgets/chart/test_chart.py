"""The chart widget: its legend, what it repaints, and the range that it keeps."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region

from rnnlm_tui.tui.widgets.chart import Chart, ChartData
from tests.tui.widgets.chart.pictures import PLANNED, line, training


class Charts(App[None]):
    """One chart that fills the screen."""

    def __init__(self, data: ChartData) -> None:
        super().__init__()
        self.chart = Chart()
        self.chart.show(data)

    def compose(self) -> ComposeResult:
        yield self.chart


def rows(chart: Chart) -> list[str]:
    return [row.text for row in chart.render_lines(chart.size.region)]


async def test_only_what_changed_is_repainted_and_the_range_is_kept_until_another_title(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Charts(training(300))
    async with app.run_test(size=(100, 25)):
        chart, asked, refresh = app.chart, list[Region](), app.chart.refresh

        def noted(*regions: Region, **named: bool) -> Chart:
            asked.extend(regions)
            return refresh(*regions, **named)

        monkeypatch.setattr(chart, "refresh", noted)
        chart.show(training(300))
        assert asked == []
        chart.show(training(704))
        before = rows(chart)
        asked.clear()
        chart.show(training(708))
        both = enumerate(zip(before, rows(chart), strict=True))
        assert {y for y, (one, other) in both if one != other} <= {region.y for region in asked}
        assert 0 < len({region.y for region in asked}) <= 6
        chart.range.zoom(4)
        chart.show(training(711)._replace(x_end=PLANNED + 5))
        start, end = chart.range.shown
        assert end - start == PLANNED / 4, "an end that hardly moves is kept"
        chart.show(line([1.0, 2.0, 3.0]))
        assert chart.range.shown == (0, 2)
        assert rows(chart)[0].startswith("╭─ Line ─")
