"""The layout of the train screen: nothing overlaps, and perplexity goes last."""

from __future__ import annotations

from itertools import combinations

import pytest
from textual.geometry import Region, Size

from rnnlm_tui.tui.widgets.train_layout import arrangement

SIZES = [
    Size(width, height)
    for width in (60, 64, 79, 80, 100, 119, 120, 149, 189, 190, 200, 300)
    for height in (12, 15, 16, 21, 25, 33, 34, 37, 49, 50, 57, 97)
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_panels_fill_the_body_without_overlap(size: Size) -> None:
    places = arrangement(size)
    body = Region(0, 0, size.width, size.height)
    assert all(body.contains_region(region) for region in places.values()), places
    assert all(region.width > 0 and region.height > 0 for region in places.values()), places
    assert [
        pair for pair in combinations(places, 2) if places[pair[0]].overlaps(places[pair[1]])
    ] == []
    assert sum(region.area for region in places.values()) == body.area


@pytest.mark.parametrize("hidden", [("left",), ("lower",), ("left", "lower")], ids="-".join)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_charts_get_the_room_of_a_hidden_sidebar(size: Size, hidden: tuple[str, ...]) -> None:
    places, whole = arrangement(size, hidden=hidden), arrangement(size)
    assert sum(region.area for region in places.values()) == size.area
    assert [
        pair for pair in combinations(places, 2) if places[pair[0]].overlaps(places[pair[1]])
    ] == []
    assert not ({"other-runs", "events"} & set(places) if "left" in hidden else set())
    assert not (
        {"machine", "samples", "sample-lines"} & set(places) if "lower" in hidden else set()
    )
    assert places["perplexity"].area >= whole["perplexity"].area


@pytest.mark.parametrize("cards", [0, 7])
@pytest.mark.parametrize("below", [1, 5, 7, 12, 40])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_trouble_gets_the_rows_it_needs_beside_a_chart(size: Size, below: int, cards: int) -> None:
    usual, places = arrangement(size), arrangement(size, below=below, cards=cards)
    assert sum(region.area for region in places.values()) == size.area
    assert [
        pair for pair in combinations(places, 2) if places[pair[0]].overlaps(places[pair[1]])
    ] == []
    assert places["perplexity"].height >= min(6, usual["perplexity"].height)
    name = "samples" if "samples" in usual else "sample-lines"
    if name in usual:
        assert places[name].height >= min(below, usual[name].height)
        assert places[name].height >= below or places["perplexity"].height == 6 or "rate" in places


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_figures_and_perplexity_are_always_there(size: Size) -> None:
    places = arrangement(size)
    assert places["figures"].height == 3
    assert places["perplexity"].height >= 6


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


def test_200_by_60_shows_every_chart() -> None:
    places = arrangement(Size(200, 57))
    assert {
        "perplexity",
        "loss",
        "gradient",
        "speed",
        "rate",
        "score",
        "machine",
        "samples",
        "events",
        "other-runs",
    } < set(places)
    assert places["perplexity"].width == 112


def test_trouble_gets_rows_below_a_chart_alone_and_with_a_hidden_sidebar() -> None:
    assert arrangement(Size(80, 21), "speed", below=4)["sample-lines"] == Region(0, 17, 80, 4)
    assert arrangement(Size(80, 21), below=4, hidden={"lower"})["sample-lines"].height >= 4
    assert arrangement(Size(120, 37), below=4, hidden={"lower"})["samples"].height >= 4


def test_a_chart_alone_has_all_the_room() -> None:
    places = arrangement(Size(80, 21), "speed")
    assert set(places) == {"figures", "speed"}
    assert places["speed"].height == 18
