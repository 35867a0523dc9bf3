"""The app and its screens end at the terminal's size, in any order of resizes."""

from __future__ import annotations

import pytest
from textual.events import Resize
from textual.geometry import Size

from tests.tui.support import running_app, until

FORMER, NOW = Size(70, 20), Size(80, 24)


async def test_the_app_ignores_a_former_size_that_arrives_late() -> None:
    async with running_app() as (app, pilot):
        app.post_message(Resize(FORMER, FORMER))
        await pilot.pause()
        assert app.size == app.screen.size == NOW


@pytest.mark.parametrize(
    "keys", ["", "q", "question_mark", "ctrl+p"], ids=["pane", "question", "keys", "palette"]
)
async def test_a_screen_ignores_a_former_size_that_arrives_late(keys: str) -> None:
    async with running_app() as (app, pilot):
        if keys:
            await pilot.press(keys)
            await until(pilot, lambda: len(app.screen_stack) > 1)
        app.screen.post_message(Resize(FORMER, FORMER))
        await pilot.pause()
        assert app.screen.size == NOW


async def test_a_pending_size_is_delivered_by_the_clock() -> None:
    async with running_app() as (app, pilot):
        assert app._driver is not None
        app._driver._size = (FORMER.width, FORMER.height)
        app._size, app._resize_event, app._resize_timer = (
            FORMER,
            Resize(FORMER, FORMER),
            app.set_timer(3_600, app._check_resize),
        )
        app._update_clock()
        await until(pilot, lambda: app.screen.size == FORMER)
        assert app._resize_timer is None
