"""Choosing a run and its weights from lists, in the mode Sample; and starting all sides of Compare
from one kept state."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.sampling import InspectRequest
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.tui.screens.versus import VersusScreen
from tests.homes import LOSSES, trained, with_checkpoints
from tests.tui.panes.asking import (
    drawn,
    pane,
    run_at_home,
    sampling,
    worker_writes_snapshots,
)
from tests.tui.panes.filling import press
from tests.tui.panes.seeing import screen_text, until_shown
from tests.tui.panes.test_prompt_overlays import keep_state
from tests.tui.support import until


async def test_a_checkpoint_of_the_open_run_or_of_another_one_is_chosen_from_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker_writes_snapshots(monkeypatch)
    run_at_home("brisk-heron", "finished")
    async with sampling() as (app, pilot, sampler):
        await pilot.press(*"We", "ctrl+o")
        await until_shown(pilot, "Sample: run", "● plain-otter", "running, 5 checkpoints")
        await pilot.press("enter")
        await until_shown(
            pilot,
            "Sample: weights of plain-otter",
            "now         current weights while it trains",
            "step 3,750  last",
            "● step 3,700  best, val ppl 58.1",
        )
        await press(pilot, "end", "enter", shows="step 1,000")
        first = await drawn(app, pilot, sampler, "enter")
        assert first.checkpoint.endswith("step-000001000")
        await until_shown(pilot, "2 characters, 5 tokens")
        await press(pilot, "ctrl+o", "enter", shows="● step 1,000")
        await press(pilot, "home", "enter", shows="@now")
        await drawn(app, pilot, sampler, "enter")
        await until_shown(pilot, "@now step 3,752, ")
        # a branch of a branch, to be drawn again below
        await drawn(app, pilot, sampler, "f3")
        # another run: text, prompt and settings stay
        await pilot.press("tab", *"0.5", "enter", "ctrl+o", "down", "enter")
        await until_shown(pilot, "Sample: weights of brisk-heron")
        assert "now" not in screen_text(app).split("weights of brisk-heron")[1].split("step")[0]
        text, tree = pane(app).transcript.newest, app.prompt_session.tree
        await press(pilot, "end", "enter", shows=("brisk-heron step 1,000", "─ 2 characters ─"))
        assert pane(app).transcript.newest is text
        assert pane(app).settings_row.settings.sampling.temperature == 0.5
        assert pane(app).box.text == "We"
        # the branch is drawn again from the text that it left
        request = await drawn(app, pilot, sampler, "ctrl+r")
        assert (request.prompt, request.ids) == (tree.branches[0].whole, ())
        # and the text is continued as text
        request = await drawn(app, pilot, sampler, "f6", "f3")
        assert "brisk-heron" in request.checkpoint
        assert (request.prompt, request.ids) == ("We s7t0 end", ())
        assert request.settings.temperature == 0.5
        assert tree.current is not None
        assert tree.current.meta == "2 tokens · seed 7 · brisk-heron step 1,000"
        assert (await drawn(app, pilot, sampler, "f6", "ctrl+r")).prompt == "We"


async def test_all_sides_of_compare_start_from_a_state_that_all_of_them_can_start_from() -> None:
    path = keep_state("congress")
    other = parse_config(merge(DEMO, {"model.cell_type": "lstm", "model.num_layers": 1}))
    with_checkpoints(trained("brisk-heron", config=other), LOSSES)
    async with sampling(pane="versus", size=(120, 40)) as (app, pilot, sampler):
        screen = app.pane_screen
        assert isinstance(screen, VersusScreen)
        # one side can't
        await pilot.press(*"We", "tab", "tab", "ctrl+o", "down", "enter")
        await until_shown(pilot, "Side B: weights of brisk-heron")
        await press(pilot, "enter", shows="B brisk-heron @best")
        refusal = "congress is a state of elman, 2 x 192, and brisk-heron is lstm, 1 x 192"
        await press(pilot, "f8", shows="congress")
        await press(pilot, "down", "enter", shows=refusal)
        assert app.prompt_session.state == ""
        await press(pilot, "escape", "ctrl+o", "home", shows="Side B: run")
        await press(pilot, "enter", shows="Side B: weights of plain-otter")
        await press(pilot, "enter", shows="B plain-otter")
        # both can, and score the texts after it
        await press(pilot, "f8", shows="congress")
        await press(pilot, "down", "enter", shows="from state congress")
        await press(pilot, "enter", shows="B scores A’s text")
        assert [request.state for request in sampler.requests] == [path, path]
        scored = [one for one in sampler.asked if isinstance(one, InspectRequest)]
        assert {one.state for one in scored} == {path}
        await until(pilot, lambda: [sample.state for sample in search()] == [path, path])
        assert "from state congress" in screen._markdown()
        # the cells of the grid, one of which is opened
        await pilot.press("escape", "ctrl+g")
        await until(pilot, lambda: len(sampler.requests) >= 10 and not screen.sampling)
        assert {request.state for request in sampler.requests} == {path}
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "prompt")
        shown = app.prompt_session.shown
        assert (shown.state, shown.text) == (path, " s7t0 end")
