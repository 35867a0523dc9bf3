"""The structure's limits: cycles, bases with one subclass, Textual's private names."""

from __future__ import annotations

from pathlib import Path

from tests.tools.house import measure


def test_nothing_is_found() -> None:
    found = measure(Path(__file__).parents[2])
    assert not {name: places for name, places in found.items() if places}
