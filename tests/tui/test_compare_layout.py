"""The layout of the compare screen: nothing overlaps, and the chart has room at every size."""

from __future__ import annotations

from itertools import combinations

import pytest
from textual.geometry import Size

from rnnlm_tui.tui.widgets.compare import compare_arrangement
from rnnlm_tui.tui.widgets.train_layout import CHART_LEAST

CHARTS = ("validation", "loss", "bits", "speed", "gradient", "rate")
SIZES = [
    Size(width, height)
    for width in (60, 80, 120, 190, 200, 300)
    for height in (12, 15, 21, 37, 50, 57, 97)
]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.width}x{size.height}")
@pytest.mark.parametrize("lines", [0, 3, 8, 40])
def test_nothing_overlaps_and_the_chart_has_room(size: Size, lines: int) -> None:
    places = compare_arrangement(size, CHARTS, "loss", lines)
    regions = list(places.values())
    assert all(
        region.x >= 0
        and region.y >= 0
        and region.right <= size.width
        and region.bottom <= size.height
        for region in regions
    )
    assert not any(one.overlaps(other) for one, other in combinations(regions, 2))
    assert sum(region.area for region in regions) == size.area
    assert all(places[name].height >= CHART_LEAST for name in CHARTS if name in places)


def test_at_80_by_24_two_runs_have_the_chart_their_figures_and_four_settings() -> None:
    places = compare_arrangement(Size(80, 21), CHARTS, "validation", 1 + 2 + 1 + 4)
    assert (places["validation"].height, places["compared-runs"].height) == (11, 10)
    assert "loss" not in places


def test_at_60_by_15_the_table_is_still_there() -> None:
    places = compare_arrangement(Size(60, 12), CHARTS, "validation", 10)
    assert (places["validation"].height, places["compared-runs"].height) == (6, 6)


def test_a_large_terminal_shows_the_other_charts_beside_the_chosen_one() -> None:
    places = compare_arrangement(Size(200, 57), CHARTS, "bits", 10)
    assert set(places) == {*CHARTS, "compared-runs"}
    assert places["bits"].width > 2 * places["loss"].width - 2


def test_alone_the_chosen_chart_has_everything() -> None:
    assert compare_arrangement(Size(80, 21), CHARTS, "speed", 10, alone=True) == {
        "speed": Size(80, 21).region
    }
