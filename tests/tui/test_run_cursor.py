"""The cursor of the list and the open run: keys pressed before the cursor rests, and overlays."""

from __future__ import annotations

import pytest

from rnnlm_tui.tui.screens.help import HelpScreen
from rnnlm_tui.tui.screens.trash import TrashScreen
from tests.tui.support import lines_of, running_app, text_of, three_runs, until


@pytest.mark.parametrize(("digit", "pane"), [("2", "train"), ("3", "checkpoints")])
async def test_a_digit_right_after_a_move_opens_the_run_under_the_cursor(
    digit: str, pane: str
) -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("down", digit)
        await until(
            pilot,
            lambda: (
                app.current_mode == pane
                and app.run_directory is not None
                and app.run_directory.name == "brisk-heron"
            ),
        )
        await until(pilot, lambda: "brisk-heron" in lines_of(app)[0])


async def test_a_digit_right_after_a_filter_opens_the_matching_run() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("slash", "g", "r", "u", "enter", "2")
        await until(
            pilot, lambda: app.current_mode == "train" and "brisk-heron" in lines_of(app)[0]
        )


async def test_an_overlay_keeps_a_filter_without_matches() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("slash", "z", "z", "enter", "question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("escape")
        await until(pilot, lambda: "0 of 3 runs" in text_of(app))
        await pilot.press("f1", "escape")
        await until(pilot, lambda: not isinstance(app.screen, HelpScreen))
        assert "0 of 3 runs" in text_of(app)


async def test_a_list_that_is_closed_before_it_is_shown_stays_closed() -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        for _ in range(3):
            app.push_screen(TrashScreen())
            app.screen.dismiss(None)
            await pilot.pause()
            assert not isinstance(app.screen, TrashScreen)
