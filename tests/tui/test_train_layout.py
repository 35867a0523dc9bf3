"""The layout of the train screen: nothing overlaps, and perplexity goes last."""

from __future__ import annotations

from itertools import combinations, product

from textual.geometry import Region, Size

from rnnlm_tui.tui.widgets.train_layout import Places, arrangement

SIZES = [
    Size(width, height)
    for width in (60, 64, 79, 80, 100, 119, 120, 149, 189, 190, 200, 300)
    for height in (12, 15, 16, 21, 25, 33, 34, 37, 49, 50, 57, 97)
]


def fill(size: Size, places: Places) -> None:
    """Panels fill the body without overlap."""
    body = Region(0, 0, size.width, size.height)
    assert all(body.contains_region(region) for region in places.values()), (size, places)
    assert all(region.area > 0 for region in places.values()), (size, places)
    overlaps = [one for one in combinations(places, 2) if places[one[0]].overlaps(places[one[1]])]
    assert overlaps == [], size
    assert sum(region.area for region in places.values()) == body.area, (size, places)


LEFT, LOWER = {"other-runs", "events"}, {"machine", "samples", "sample-lines"}


def test_figures_and_perplexity_are_always_there_and_get_the_room_of_a_hidden_sidebar() -> None:
    for size, (hidden, gone) in product(
        SIZES,
        (((), set()), (("left",), LEFT), (("lower",), LOWER), (("left", "lower"), LEFT | LOWER)),
    ):
        places = arrangement(size, hidden=hidden)
        fill(size, places)
        assert places["figures"].height == 3, size
        assert places["perplexity"].height >= 6, size
        assert not gone & set(places), size
        assert places["perplexity"].area >= arrangement(size)["perplexity"].area, size
    for size, below, cards in product(SIZES, (1, 7, 40), (0, 7)):  # rows for trouble and GPUs
        places = arrangement(size, below=below, cards=cards)
        fill(size, places)
        assert places["perplexity"].height >= min(6, arrangement(size)["perplexity"].height), size
