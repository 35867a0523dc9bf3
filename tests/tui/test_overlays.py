"""Help, leaving, the palette: what lies over a pane."""

from __future__ import annotations

import pytest
from textual.command import CommandPalette

from rnnlm_tui.tui.actions import PANES, Pane, actions_for
from rnnlm_tui.tui.screens.help import HelpScreen
from rnnlm_tui.tui.screens.quit import QuitScreen
from tests.tui.fakes import make_snapshot, make_summary
from tests.tui.support import lines_of, running_app, text_of, until, with_runs


@pytest.mark.parametrize("pane", PANES)
async def test_help_tells_every_action_of_the_screen(pane: Pane) -> None:
    async with running_app(pane=pane) as (app, pilot):
        app.action_keys()
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        text = text_of(app)
        missing = [entry.id for entry in actions_for(pane) if not entry.covered and not entry.keys[0].isdigit() and entry.help.partition(":")[0] not in text]
        assert missing == []
        assert max(len(line) for line in lines_of(app)) <= 80


async def test_help_searches_what_is_typed_and_esc_ends_first_the_search() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("question_mark", *"check")
        assert "save a checkpoint now" in text_of(app)
        assert "evaluate now" not in text_of(app)
        await pilot.press("q")
        assert "nothing of that name" in text_of(app)
        await pilot.press("backspace")
        assert "save a checkpoint now" in text_of(app)
        await pilot.press("escape")
        assert "evaluate now" in text_of(app)
        await pilot.press("q")
        assert not isinstance(app.screen, HelpScreen)


async def test_what_lies_below_an_overlay_is_grey() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("question_mark")
        first = app.screen._compositor.render_strips()[0]
        colours = {segment.style.color.name for segment in first if segment.style and segment.style.color and segment.text.strip()}
        assert colours == {"#4e4e4e"}


async def test_leaving_while_a_run_trains_says_that_it_goes_on_and_enter_leaves() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("q")
        assert isinstance(app.screen, QuitScreen)
        text = text_of(app)
        assert "plain-otter ● running, 24 s left" in text
        assert "Training goes on without this terminal." in text
        assert "› enter  leave, keep training" in text
        await pilot.press("enter")
        await until(pilot, lambda: app.return_value == 0)


async def test_escape_stays() -> None:
    async with running_app() as (app, pilot):
        await pilot.press("q", "escape")
        assert not isinstance(app.screen, QuitScreen)
        assert app.return_value is None


async def test_capital_s_stops_the_open_run_and_leaves() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        await pilot.press("q", "S")
        await until(pilot, lambda: app.return_value == 0)
        assert services.sent == [("plain-otter", "stop", {})]


async def test_with_nothing_running_q_leaves_at_once() -> None:
    async with running_app(with_runs(make_snapshot("finished", 4_754))) as (app, pilot):
        await pilot.press("q")
        await until(pilot, lambda: app.return_value == 0)


async def test_another_run_that_trains_is_named_and_can_not_be_stopped_from_here() -> None:
    services = with_runs(make_snapshot("finished", 4_754))
    services.runs += [make_summary("brisk-heron"), make_summary("calm-crow"), make_summary("dusk-dove"), make_summary("even-eel")]
    async with running_app(services) as (app, pilot):
        await pilot.press("q")
        text = text_of(app)
        assert "brisk-heron ● running" in text
        assert "and 1 more" in text
        assert "stop training" not in text
        await pilot.press("S")
        assert isinstance(app.screen, QuitScreen)


async def test_the_palette_runs_actions_of_the_table_and_opens_runs() -> None:
    services = with_runs(make_snapshot(), make_snapshot("finished", 4_754, name="brisk-heron"))
    async with running_app(services) as (app, pilot):
        await pilot.press("ctrl+p")
        assert isinstance(app.screen, CommandPalette)
        await pilot.press(*"evaluate")
        await until(pilot, lambda: "Evaluate now" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: services.sent == [("plain-otter", "evaluate", {})])
        await pilot.press("ctrl+p", *"brisk")
        await until(pilot, lambda: "Open brisk-heron" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: "brisk-heron" in lines_of(app)[0])


async def test_ctrl_c_says_how_to_leave_and_ends_nothing() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services) as (app, pilot):
        await pilot.press("ctrl+c")
        await until(pilot, lambda: "q leaves, training goes on" in lines_of(app)[-1])
        assert app.return_value is None
        assert services.sent == []
