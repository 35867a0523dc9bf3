"""Snapshots of the side-by-side pane's views; see `tests/tui/pictures.py`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from textual.pilot import Pilot

from rnnlm_tui.tui.app import RnnlmApp
from tests.homes import LOSSES
from tests.tui.demo_run import demo_run
from tests.tui.fakes import FakeSampler
from tests.tui.panes.fakes import CONFIG
from tests.tui.panes.seeing import until_shown
from tests.tui.panes.test_versus_pane import pane, sampler
from tests.tui.pictures import Mode, assert_picture, each_size, each_view
from tests.tui.support import at_home, until

pytestmark = pytest.mark.usefixtures("still")

SNAPSHOTS = Path(__file__).with_name("snapshots")


@asynccontextmanager
async def drawn(size: tuple[int, int], mode: Mode) -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """The pane on a run that trains, and one that has finished."""
    made = partial(demo_run, config=CONFIG, saved=LOSSES, curve=False)
    with made("finished", name="brisk-heron"), made():
        async with at_home(
            pane="versus", size=size, ascii_only=mode == "ascii", sampler=sampler()
        ) as opened:
            yield opened


async def answered(pilot: Pilot[int], requests: int) -> None:
    """Wait until this many samples have ended and are scored."""
    app = pilot.app
    assert isinstance(app, RnnlmApp)
    sampler = await app.warm_sampler()
    assert isinstance(sampler, FakeSampler)
    await until(pilot, lambda: len(sampler.requests) == requests and not pane(app).sampling)


async def sampled(pilot: Pilot[int]) -> None:
    """Sample two prompts on both sides and leave the box."""
    for number, prompt in enumerate(("My fellow Americans,", "The state of the Union"), start=1):
        await pilot.press("ctrl+u", *prompt, "enter")
        await answered(pilot, 2 * number)
    await pilot.press("escape")


@each_size("versus", "versus-differences", "versus-four")
async def test_two_and_four_sides_and_the_difference_of_surprise(
    names: list[str], size: tuple[int, int], mode: Mode
) -> None:
    async with drawn(size, mode) as (app, pilot):
        await sampled(pilot)
        for name in names:
            if name == "versus-differences":
                await pilot.press("ctrl+t")
                await until_shown(pilot, "of 18 tokens")
                await pilot.press("shift+right", "shift+right")
            elif name == "versus-four":
                await pilot.press("escape", "ctrl+n", "ctrl+n", "enter")
                await answered(pilot, 8)
                await pilot.press("shift+right")
                await until_shown(pilot, "differs 1 of")
            else:
                await until_shown(pilot, "B scores A")
            await assert_picture(app, SNAPSHOTS, name, size, mode)


@each_view("versus-grid")
async def test_the_grid(name: str, size: tuple[int, int], mode: Mode) -> None:
    async with drawn(size, mode) as (app, pilot):
        await pilot.press(*"The state of the Union", "escape", "ctrl+n", "ctrl+g")
        await answered(pilot, 12)
        await pilot.press("down")
        await assert_picture(app, SNAPSHOTS, name, size, mode)
