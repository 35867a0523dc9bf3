"""Snapshots of the compare screen: eight runs, and the cursor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.tui.comparing import comparing, eight_runs, two_runs
from tests.tui.fakes import FakeServices
from tests.tui.pictures import Mode, assert_picture, each_view
from tests.tui.support import text_of, until

PICTURES = Path(__file__).parent / "snapshots"
STATES: dict[str, tuple[Callable[[], FakeServices], tuple[str, ...]]] = {
    "compare-eight": (eight_runs, ()),
    "compare-cursor": (two_runs, ("tab", "home", *["shift+right"] * 2)),
}


@each_view(*STATES)
async def test_compare_screen_equals_its_snapshot(
    name: str, size: tuple[int, int], mode: Mode
) -> None:
    make, keys = STATES[name]
    services = make()
    async with comparing(services, *services.snapshots, size=size, ascii_only=mode == "ascii") as (
        app,
        pilot,
    ):
        await until(pilot, lambda: "best ppl" in text_of(app))
        await pilot.press(*keys)
        await assert_picture(app, PICTURES, name, size, mode)
