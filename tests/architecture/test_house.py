"""The structure's limits: cycles, Textual's private names, long lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.house import House, measure


@pytest.fixture(scope="module")
def house() -> House:
    return measure(Path(__file__).parents[2])


@pytest.mark.parametrize(
    "figure", ["import cycles", "bases with one", "uses of Textual", "lines over"]
)
def test_nothing_is_found(house: House, figure: str) -> None:
    assert not {
        name: places for name, places in house.found.items() if name.startswith(figure) and places
    }
