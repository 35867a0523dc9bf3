"""The layout of the train screen: nothing overlaps, and perplexity goes last."""

from __future__ import annotations

from itertools import combinations, product

import pytest
from textual.geometry import Region, Size

from rnnlm_tui.tui.widgets.train_layout import Places, arrangement

SIZES = [
    Size(width, height)
    for width in (60, 64, 79, 80, 100, 119, 120, 149, 189, 190, 200, 300)
    for height in (12, 15, 16, 21, 25, 33, 34, 37, 49, 50, 57, 97)
]
NARROW, WIDE = Size(80, 21), Size(120, 37)


def filled(size: Size, *, below: int = 0, hidden: tuple[str, ...] = (), cards: int = 0) -> Places:
    """The arrangement, whose panels fill the body without overlap."""
    places = arrangement(size, below=below, hidden=hidden, cards=cards)
    body = Region(0, 0, size.width, size.height)
    assert all(body.contains_region(region) for region in places.values()), (size, places)
    assert all(region.area > 0 for region in places.values()), (size, places)
    overlaps = [one for one in combinations(places, 2) if places[one[0]].overlaps(places[one[1]])]
    assert overlaps == [], size
    assert sum(region.area for region in places.values()) == body.area, (size, places)
    return places


@pytest.mark.parametrize("hidden", [(), ("left",), ("lower",), ("left", "lower")], ids="-".join)
def test_figures_and_perplexity_are_always_there_and_get_the_room_of_a_hidden_sidebar(
    hidden: tuple[str, ...],
) -> None:
    gone = {
        *(("other-runs", "events") if "left" in hidden else ()),
        *(("machine", "samples", "sample-lines") if "lower" in hidden else ()),
    }
    for size in SIZES:
        places = filled(size, hidden=hidden)
        assert places["figures"].height == 3, size
        assert places["perplexity"].height >= 6, size
        assert not gone & set(places), size
        assert places["perplexity"].area >= arrangement(size)["perplexity"].area, size


@pytest.mark.parametrize("cards", [0, 7])
def test_trouble_gets_the_rows_it_needs_beside_a_chart(cards: int) -> None:
    for size, below in product(SIZES, [1, 5, 7, 12, 40]):
        usual, places = arrangement(size), filled(size, below=below, cards=cards)
        chart = places["perplexity"].height
        assert chart >= min(6, usual["perplexity"].height), (size, below)
        name = "samples" if "samples" in usual else "sample-lines"
        if name in usual:
            rows = places[name].height
            assert rows >= min(below, usual[name].height), (size, below)
            assert rows >= below or chart == 6, (size, below)
    assert "machine" in arrangement(NARROW, below=4)
    assert "machine" not in arrangement(NARROW, below=9), "what is wrong matters more"
    alone = arrangement(NARROW, "speed", below=4)
    assert alone["sample-lines"] == Region(0, 17, 80, 4)
    assert arrangement(NARROW, below=4, hidden={"lower"})["sample-lines"].height >= 4
    assert arrangement(WIDE, below=4, hidden={"lower"})["samples"].height >= 4


@pytest.mark.parametrize(
    ("cards", "machine", "perplexity"), [(0, 5, 11), (1, 6, 10), (3, 8, 8), (7, 8, 8)]
)
def test_80_by_24_is_as_drawn_and_other_gpus_get_rows_of_the_perplexity(
    cards: int, machine: int, perplexity: int
) -> None:
    places = filled(NARROW, cards=cards)
    assert {name: region.size for name, region in places.items()} == {
        "figures": Size(80, 3),
        "perplexity": Size(80, perplexity),
        "speed": Size(40, machine),
        "machine": Size(40, machine),
        "sample-lines": Size(80, 2),
    }
    assert arrangement(WIDE, cards=cards) == arrangement(WIDE)
    assert "machine" not in arrangement(Size(60, 12), cards=cards)


def test_120_by_40_is_as_drawn() -> None:
    assert arrangement(WIDE) == {
        "other-runs": Region(0, 0, 24, 16),
        "events": Region(0, 16, 24, 21),
        "figures": Region(24, 0, 96, 3),
        "perplexity": Region(24, 3, 96, 13),
        "loss": Region(24, 16, 32, 9),
        "speed": Region(56, 16, 32, 9),
        "gradient": Region(88, 16, 32, 9),
        "machine": Region(24, 25, 32, 12),
        "samples": Region(56, 25, 64, 12),
    }


def test_a_chart_alone_has_all_the_room() -> None:
    places = arrangement(NARROW, "speed")
    assert {name: region.height for name, region in places.items()} == {"figures": 3, "speed": 18}
