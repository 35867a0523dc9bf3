"""Choosing a run and its weights from lists, in the mode Sample and for a side of Compare; and
starting all sides of Compare from one kept state."""

from __future__ import annotations

from dataclasses import replace

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.sampling import InspectRequest
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.views.sample_tree import SampleTree
from tests.tui.fakes import FakeServices
from tests.tui.panes.asking import last_request, pane
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.panes.test_prompt_overlays import keep_state
from tests.tui.panes.test_versus_pane import pane as versus_pane
from tests.tui.panes.test_versus_pane import versus
from tests.tui.support import until


async def test_a_checkpoint_of_the_open_run_is_chosen_from_a_list() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await until(pilot, lambda: bool(app.summaries))
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
        await pilot.press("end", "enter")
        await until_shown(pilot, "step 1,000")
        await pilot.press("enter")
        await until_shown(pilot, "We is strong.")
        assert last_request(services).checkpoint.endswith("step-000001000")
        await pilot.press("ctrl+o", "enter")
        await until_shown(pilot, "● step 1,000")
        await pilot.press("home", "enter")
        await until_shown(pilot, "@now")
        await pilot.press("enter")
        await until_shown(pilot, "@now step 3,752, just now")


async def test_another_run_continues_the_text_with_the_same_settings() -> None:
    services = versus()
    async with opened(services, "prompt") as (app, pilot):
        await until(pilot, lambda: bool(app.summaries))
        await pilot.press(*"We", "tab", *"0.5", "enter", "enter")
        await until_shown(pilot, "✓ 14 of 100 tokens")
        text = pane(app).transcript.newest
        assert text is not None
        await pilot.press("ctrl+o", "down", "enter")
        await until_shown(pilot, "Sample: weights of brisk-heron")
        assert "now" not in screen_text(app).split("weights of brisk-heron")[1].split("step")[0]
        await pilot.press("end", "enter")
        await until_shown(pilot, "brisk-heron step 1,000")
        assert pane(app).transcript.newest is text, "the text stays"
        assert pane(app).settings_row.settings.sampling.temperature == 0.5
        assert pane(app).box.text == "We"
        await pilot.press("f3")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 2)
        request = last_request(services)
        assert "brisk-heron" in request.checkpoint
        assert request.prompt.startswith("We is strong, and the Congress"), "read as text"
        assert (request.ids, request.settings.temperature) == ((), 0.5)
        await until(pilot, lambda: not pane(app).sampling)
        current = app.prompt_session.tree.current
        assert current is not None
        assert current.meta == "17 tokens · seed 7 · brisk-heron step 1,000"
        await pilot.press("f6", "ctrl+r")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 3)
        assert last_request(services).prompt == "We"


async def test_a_branch_is_drawn_again_by_another_run_from_its_text() -> None:
    services = versus()
    async with opened(services, "prompt") as (app, pilot):
        await until(pilot, lambda: bool(app.summaries))
        await pilot.press(*"We", "enter")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 1)
        await until(pilot, lambda: not pane(app).sampling)
        await pilot.press("f3")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 2)
        await until(pilot, lambda: not pane(app).sampling)
        tree: SampleTree = app.prompt_session.tree
        assert len(tree.branches) == 2
        await pilot.press("ctrl+o", "down", "enter", "enter")
        await until_shown(pilot, "brisk-heron @best")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 3)
        request = last_request(services)
        assert (request.prompt, request.ids) == (tree.branches[0].whole, ())


async def test_without_any_checkpoint_there_is_nothing_to_choose() -> None:
    services = FakeServices(make_snapshot("finished", checkpoints=()))
    async with opened(services, "prompt") as (app, pilot):
        await until(pilot, lambda: bool(app.summaries))
        await pilot.press("ctrl+o")
        await until_shown(pilot, "no run has a checkpoint yet")
        assert not isinstance(app.screen, ChooseScreen)


# a kept state in Compare


def other_shape() -> RunConfig:
    """A config whose model is of another shape."""
    config = make_snapshot().config
    return parse_config(merge(config, {"model.cell_type": "lstm", "model.num_layers": 1}))


async def test_all_sides_start_from_a_kept_state_and_are_scored_after_it() -> None:
    services = versus()
    path = keep_state("congress")
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "f8")
        await until_shown(pilot, "initial state", "congress")
        await pilot.press("down", "enter")
        await until_shown(pilot, "from state congress")
        await pilot.press("enter")
        await until_shown(pilot, "B scores A’s text")
        assert [request.state for request in services.fake_sampler.requests] == [path, path]
        scored = [one for one in services.fake_sampler.asked if isinstance(one, InspectRequest)]
        assert {one.state for one in scored} == {path}
        await until(pilot, lambda: [sample.state for sample in search()] == [path, path])
        markdown = versus_pane(app)._markdown()
        assert "from state congress" in markdown
        await pilot.press("escape", "ctrl+g")
        await until(pilot, lambda: len(services.fake_sampler.requests) >= 10)
        assert {request.state for request in services.fake_sampler.requests} == {path}
        await until(pilot, lambda: not versus_pane(app).sampling)
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "prompt")
        branch = app.prompt_session.tree.current
        assert branch is not None
        assert branch.start == path


async def test_a_state_that_one_side_cannot_start_from_is_refused_with_both_shapes() -> None:
    services = versus()
    services.snapshots["brisk-heron"] = replace(
        services.snapshots["brisk-heron"], config=other_shape()
    )
    keep_state("congress")
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await until(pilot, lambda: bool(app.summaries))
        await pilot.press(*"We", "tab", "tab", "ctrl+o", "down", "enter")
        await until_shown(pilot, "Side B: weights of brisk-heron")
        await pilot.press("enter")
        await until_shown(pilot, "B brisk-heron @best")
        await pilot.press("f8")
        await until_shown(pilot, "congress")
        await pilot.press("down", "enter")
        await until_shown(
            pilot, "congress is a state of elman, 2 x 192, and brisk-heron is lstm, 1 x 192"
        )
        assert app.prompt_session.state == ""
