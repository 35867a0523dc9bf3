"""Snapshots of the side-by-side pane's views; see `tests/tui/pictures.py`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.homes import LOSSES
from tests.tui.demo_run import demo_run
from tests.tui.panes.fakes import CONFIG
from tests.tui.panes.seeing import until_shown
from tests.tui.panes.test_versus_pane import pane, sampler
from tests.tui.pictures import Mode, assert_picture, each_size
from tests.tui.support import at_home, until

pytestmark = pytest.mark.usefixtures("still")

SNAPSHOTS = Path(__file__).with_name("snapshots")


@each_size("versus-grid", "versus", "versus-differences", "versus-four")
async def test_the_grid_two_and_four_sides_and_the_difference_of_surprise(
    names: list[str], size: tuple[int, int], mode: Mode
) -> None:
    made, fake = partial(demo_run, config=CONFIG, saved=LOSSES, curve=False), sampler()

    async def answered(pilot: Pilot[int], requests: int) -> None:
        """Wait until this many samples have ended and are scored."""
        await until(pilot, lambda: len(fake.requests) == requests and not pane(app).sampling)

    with made("finished", name="brisk-heron"), made():
        async with at_home(pane="versus", size=size, ascii_only=mode == "ascii", sampler=fake) as (
            app,
            pilot,
        ):
            done = 0
            for name in names:
                if name == "versus-grid":
                    await pilot.press(*"The state of the Union", "escape", "ctrl+n", "ctrl+g")
                    await answered(pilot, done := 12)
                    await pilot.press("down")
                elif name == "versus":
                    for prompt in ("My fellow Americans,", "The state of the Union"):
                        await pilot.press("ctrl+u", *prompt, "enter")
                        await answered(pilot, done := done + 2)
                    await pilot.press("escape")
                    await until_shown(pilot, "B scores A")
                elif name == "versus-differences":
                    await pilot.press("ctrl+t")
                    await until_shown(pilot, "of 18 tokens")
                    await pilot.press("shift+right", "shift+right")
                else:
                    await pilot.press("escape", "ctrl+n", "ctrl+n", "enter")
                    await answered(pilot, done := done + 4)
                    await pilot.press("shift+right")
                    await until_shown(pilot, "differs 1 of")
                await assert_picture(app, SNAPSHOTS, name, size, mode)
                if name == "versus-grid":  # two sides again, A chosen, in the box
                    await pilot.press("escape", "delete", "shift+tab", "shift+tab")
