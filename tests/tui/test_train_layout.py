"""The layout of the train screen: nothing overlaps, and perplexity goes last."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product

import pytest
from textual.geometry import Region, Size

from rnnlm_tui.tui.widgets.train_layout import arrangement

SIZES = [
    Size(width, height)
    for width in (60, 64, 79, 80, 100, 119, 120, 149, 189, 190, 200, 300)
    for height in (12, 15, 16, 21, 25, 33, 34, 37, 49, 50, 57, 97)
]


def assert_filled(size: Size, places: Mapping[str, Region]) -> None:
    """The panels fill the body without overlap."""
    body = Region(0, 0, size.width, size.height)
    assert all(body.contains_region(region) for region in places.values()), (size, places)
    assert all(region.area > 0 for region in places.values()), (size, places)
    overlaps = [one for one in combinations(places, 2) if places[one[0]].overlaps(places[one[1]])]
    assert overlaps == [], size
    assert sum(region.area for region in places.values()) == body.area, (size, places)


def test_panels_fill_the_body_and_figures_and_perplexity_are_always_there() -> None:
    for size in SIZES:
        places = arrangement(size)
        assert_filled(size, places)
        assert places["figures"].height == 3, size
        assert places["perplexity"].height >= 6, size


@pytest.mark.parametrize("hidden", [("left",), ("lower",), ("left", "lower")], ids="-".join)
def test_charts_get_the_room_of_a_hidden_sidebar(hidden: tuple[str, ...]) -> None:
    gone = {
        *(("other-runs", "events") if "left" in hidden else ()),
        *(("machine", "samples", "sample-lines") if "lower" in hidden else ()),
    }
    for size in SIZES:
        places = arrangement(size, hidden=hidden)
        assert_filled(size, places)
        assert not gone & set(places), size
        assert places["perplexity"].area >= arrangement(size)["perplexity"].area, size


@pytest.mark.parametrize("cards", [0, 7])
def test_trouble_gets_the_rows_it_needs_beside_a_chart(cards: int) -> None:
    for size, below in product(SIZES, [1, 5, 7, 12, 40]):
        usual, places = arrangement(size), arrangement(size, below=below, cards=cards)
        assert_filled(size, places)
        chart = places["perplexity"].height
        assert chart >= min(6, usual["perplexity"].height), (size, below)
        name = "samples" if "samples" in usual else "sample-lines"
        if name in usual:
            rows = places[name].height
            assert rows >= min(below, usual[name].height), (size, below)
            assert rows >= below or chart == 6, (size, below)


def test_80_by_24_is_as_drawn() -> None:
    places = arrangement(Size(80, 21))
    assert {name: region.height for name, region in places.items()} == {
        "figures": 3,
        "perplexity": 11,
        "speed": 5,
        "machine": 5,
        "sample-lines": 2,
    }
    assert places["speed"].width == places["machine"].width == 40


@pytest.mark.parametrize(
    ("cards", "machine", "perplexity"), [(0, 5, 11), (1, 6, 10), (3, 8, 8), (7, 8, 8)]
)
def test_other_gpus_get_rows_of_the_perplexity(cards: int, machine: int, perplexity: int) -> None:
    places = arrangement(Size(80, 21), cards=cards)
    assert places["machine"].height == places["speed"].height == machine
    assert places["perplexity"].height == perplexity
    assert sum(region.area for region in places.values()) == 80 * 21
    assert arrangement(Size(120, 37), cards=cards) == arrangement(Size(120, 37))
    assert "machine" not in arrangement(Size(60, 12), cards=cards)


def test_120_by_40_is_as_drawn() -> None:
    places = arrangement(Size(120, 37))
    assert places["perplexity"] == Region(24, 3, 96, 13)
    assert places["loss"].size == places["speed"].size == places["gradient"].size == Size(32, 9)
    assert places["machine"].size == Size(32, 12)
    assert places["samples"].size == Size(64, 12)
    assert places["other-runs"].width == places["events"].width == 24


def test_trouble_gets_rows_below_a_chart_alone_and_with_a_hidden_sidebar() -> None:
    assert arrangement(Size(80, 21), "speed", below=4)["sample-lines"] == Region(0, 17, 80, 4)
    assert arrangement(Size(80, 21), below=4, hidden={"lower"})["sample-lines"].height >= 4
    assert arrangement(Size(120, 37), below=4, hidden={"lower"})["samples"].height >= 4


def test_a_chart_alone_has_all_the_room() -> None:
    places = arrangement(Size(80, 21), "speed")
    assert set(places) == {"figures", "speed"}
    assert places["speed"].height == 18
