"""The app and its screens end at the terminal's size, in any order of resizes."""

from __future__ import annotations

import pytest
from textual.events import Resize
from textual.geometry import Size

from tests.tui.support import at_home, until

FORMER, NOW = Size(70, 20), Size(80, 24)


@pytest.mark.usefixtures("three_at_home")
async def test_a_former_size_that_arrives_late_is_ignored_and_a_pending_one_delivered() -> None:
    async with at_home(pane="train") as (app, pilot):
        app.post_message(Resize(FORMER, FORMER))
        await pilot.pause()
        assert app.size == app.screen.size == NOW
        for keys in ("", "q", "question_mark", "ctrl+p"):  # a pane, a question, keys, the palette
            if keys:
                await pilot.press(keys)
                await until(pilot, lambda: len(app.screen_stack) > 1)
            app.screen.post_message(Resize(FORMER, FORMER))
            await pilot.pause()
            assert app.screen.size == NOW
            if keys:
                await pilot.press("escape")
                await until(pilot, lambda: len(app.screen_stack) == 1)
        assert app._driver is not None
        app._driver._size = (FORMER.width, FORMER.height)
        app._size, app._resize_event = FORMER, Resize(FORMER, FORMER)
        app._resize_timer = app.set_timer(3_600, app._check_resize)
        app._update_clock()
        await until(pilot, lambda: app.screen.size == FORMER)
        assert app._resize_timer is None
