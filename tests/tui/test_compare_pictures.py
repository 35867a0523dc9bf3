"""The compare screen as text files with their colours, without colour and in ASCII: many runs, and the cursor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tui.comparing import comparing, eight_runs, two_runs
from tests.tui.fakes import FakeServices
from tests.tui.pictures import SIZES, assert_ascii_picture, assert_picture
from tests.tui.support import text_of, until

PICTURES = Path(__file__).parent / "snapshots"
STATES: dict[str, tuple[Callable[[], FakeServices], tuple[str, ...]]] = {
    "compare-eight": (eight_runs, ()),
    "compare-cursor": (two_runs, ("tab", "home", *["shift+right"] * 2)),
}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("signs", ["", "-ascii"])
@pytest.mark.parametrize("name", STATES)
async def test_the_screen_is_as_in_its_picture(name: str, signs: str, size: tuple[int, int]) -> None:
    make, keys = STATES[name]
    services = make()
    async with comparing(services, *services.snapshots, size=size, ascii_only=bool(signs)) as (app, pilot):
        await until(pilot, lambda: "best ppl" in text_of(app))
        await pilot.press(*keys)
        await pilot.pause()
        path = PICTURES / f"{name}-{size[0]}x{size[1]}{signs}.txt"
        if signs:
            assert_ascii_picture(app, path)
        else:
            assert_picture(app, path)
