"""The structure's limits: no import cycle, and Textual's private names in one file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.house import House, measure


@pytest.fixture(scope="module")
def house() -> House:
    return measure(Path(__file__).parents[2])


@pytest.mark.parametrize("figure", ["import cycles", "bases with one", "uses of Textual"])
def test_nothing_is_found(house: House, figure: str) -> None:
    allowed = "import cycles through TYPE_CHECKING"
    found = {
        name: places
        for name, places in house.found.items()
        if name.startswith(figure) and places and name != allowed
    }
    assert not found
