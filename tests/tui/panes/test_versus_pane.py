"""The side-by-side pane, by its keys: sides, texts, differences, grid, errors and exports."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from zlib import crc32

import pytest
from pydantic import BaseModel

from rnnlm_tui.errors import CheckpointError, InputError
from rnnlm_tui.schema.sampling import Inspection, InspectRequest, SampleRequest
from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.store.state import append_history, read_history
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.versus import VersusScreen
from rnnlm_tui.tui.widgets.differences import DifferenceList, DifferenceStrip
from rnnlm_tui.tui.widgets.prompt import PromptBox
from rnnlm_tui.tui.widgets.sample_grid import SampleGrid
from rnnlm_tui.tui.widgets.versus import SidePanel
from tests.fakes import answers as plausible
from tests.tui.fakes import FakeSampler, FakeServices
from tests.tui.panes.fakes import CHECKPOINTS, checkpoint, make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.pictures import cells_on
from tests.tui.support import until

TEXTS = {
    3_700: " is strong, and the Congress must act on the program of the American people.",
    1_000: " is strong, and it is a time for the Congress to meet the needs of the people.",
    2_000: " is strong, and the people of the world have been a good people.",
    3_000: " is strong, and the Congress has the power to act.",
}
"""Step of a checkpoint → what it makes of every prompt."""


def step_of(path: str) -> int:
    """The step of a checkpoint or snapshot by its path."""
    return int(path.rpartition("step-")[2].split("-")[0])


def words_of(request: SampleRequest) -> list[list[str]]:
    """The text of a checkpoint, a token a word."""
    text = TEXTS.get(step_of(request.checkpoint), TEXTS[2_000])
    return [re.findall(r"\s*\S+", text)]


def surprised(request: InspectRequest) -> Inspection:
    """Every checkpoint is surprised by other words, later ones less."""
    found, step = plausible.inspection(request), step_of(request.checkpoint)
    tokens = tuple(
        token
        if token.bits is None
        else token.model_copy(
            update={
                "bits": 1.0
                + crc32(f"{token.text}{step}".encode()) % 400 / 100
                + (4_000 - step) / 2_000
            }
        )
        for token in found.tokens
    )
    return found.model_copy(update={"tokens": tokens})


def sampler(**changes: object) -> FakeSampler:
    """A sampler of `TEXTS`."""
    fake = FakeSampler(texts=words_of, answers={InspectRequest: surprised})
    return replace(fake, **changes)  # type: ignore[arg-type]


def versus(**changes: object) -> FakeServices:
    """Services with a run that trains and one that has finished."""
    return FakeServices(
        make_snapshot(), make_snapshot("finished", name="brisk-heron"), sampler=sampler(**changes)
    )


def pane(app: RnnlmApp) -> VersusScreen:
    """The pane, which must be the visible one."""
    screen = app.pane_screen
    assert isinstance(screen, VersusScreen)
    return screen


def focused_side(app: RnnlmApp) -> int | None:
    """The place of the side with the focus; None if it is elsewhere."""
    return app.focused.place if isinstance(app.focused, SidePanel) else None


async def test_enter_samples_the_prompt_on_both_sides_and_compares_them() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await until_shown(pilot, "A plain-otter @best", "step 3,700, val 58.1", "step 1,000")
        await until(pilot, lambda: isinstance(app.focused, PromptBox))
        await pilot.press(*"The Union", "enter")
        await until_shown(
            pilot,
            "The Union is strong, and the Congress must act on the",
            "The Union is strong, and it is a time for the Congress",
            "14 tokens   4.1 bits/token   seed 7",
            "3 tokens “is strong, and”",
            "A the     B it",
            "A scores B’s text",
            "B scores A’s text",
            "58.1 ★",
            "distinct words",
        )
        first, second = services.fake_sampler.requests
        assert step_of(first.checkpoint) == 3_700
        assert step_of(second.checkpoint) == 1_000
        assert (first.prompt, first.settings) == (second.prompt, second.settings)
        assert first.settings.temperature == 0.8
        await until(pilot, lambda: [sample.step for sample in search()] == [1_000, 3_700])
        await until(pilot, lambda: read_history() == ["The Union"])
        scored = [one for one in services.fake_sampler.asked if isinstance(one, InspectRequest)]
        assert sorted((step_of(one.checkpoint), one.prompt) for one in scored) == [
            (1_000, "The Union"), (1_000, "The Union"), (3_700, "The Union"), (3_700, "The Union"),
        ]  # fmt: skip
        assert all(one.ids for one in scored)


async def test_escape_stops_the_running_side_and_drops_the_next() -> None:
    services = versus(gate=asyncio.Event())
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "We is strong, and the", "esc Stop", "● 14 of 100 tokens")
        await pilot.press("enter")
        await until_shown(pilot, "already sampling, esc stops it")
        await pilot.press("escape")
        await until_shown(pilot, "■ 14 tokens, stopped")
        await until(pilot, lambda: not pane(app).sampling)
        assert len(services.fake_sampler.requests) == 1
        assert isinstance(app.focused, PromptBox)


async def test_tab_goes_over_the_sides_and_the_box_and_ctrl_k_changes_one_side() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "B scores A’s text")
        await pilot.press("escape")
        await until(pilot, lambda: focused_side(app) == 0)
        await pilot.press("tab")
        await until(pilot, lambda: focused_side(app) == 1)
        await pilot.press("ctrl+k")
        await until_shown(pilot, "B plain-otter @now", "current weights")
        await pilot.press("ctrl+k")
        await until_shown(pilot, "B plain-otter @last", "step 3,750")
        assert "it is a time" not in screen_text(app)
        assert "We is strong, and the Congress must act" in screen_text(app)
        assert services.fake_sampler.loaded[-1].endswith("step-000003750")
        await pilot.press("tab")
        await until(pilot, lambda: isinstance(app.focused, PromptBox))
        await pilot.press("tab", "shift+tab", "shift+tab")
        await until(pilot, lambda: focused_side(app) == 1)
        await pilot.press("enter")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 4)
        assert step_of(services.fake_sampler.requests[-1].checkpoint) == 3_750


async def test_sides_are_added_up_to_four_and_removed_down_to_two() -> None:
    async with opened(versus(), "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "B scores A’s text")
        await pilot.press("escape", "ctrl+n")
        await until(pilot, lambda: focused_side(app) == 2)
        await pilot.press("ctrl+n", "enter")
        await until_shown(
            pilot, "D plain-otter", "D scores", "enter Generate all", "distinct words"
        )
        assert focused_side(app) == 3
        await pilot.press("ctrl+n")
        await until_shown(pilot, "4 sides are the most possible")
        await pilot.press("delete", "delete")
        await until(pilot, lambda: focused_side(app) == 1)
        await pilot.press("delete")
        await until_shown(pilot, "two sides are the least")


async def test_a_side_of_another_run_and_the_same_when_that_is_deleted() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await until(pilot, lambda: bool(app.summaries))
        await pilot.press(*"We", "tab", "tab", "ctrl+o")
        await until_shown(pilot, "Side B: run", "finished, 5 checkpoints")
        await pilot.press("down", "enter")
        await until_shown(pilot, "Side B: weights of brisk-heron", "step 3,700  best")
        await pilot.press("enter")
        await until_shown(pilot, "B brisk-heron @best")
        await pilot.press("enter")
        await until_shown(pilot, "B scores A’s text")
        assert "brisk-heron" in services.fake_sampler.requests[-1].checkpoint
        del services.snapshots["brisk-heron"]
        await pilot.press("enter")
        await until_shown(pilot, '✗ no run "brisk-heron"')
        assert len(services.fake_sampler.requests) == 3


async def test_current_weights_are_a_side_like_any_other() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "tab", "tab")
        screen = pane(app)
        while screen.side.mark != "@now":
            await pilot.press("ctrl+k")
        await until_shown(pilot, "B plain-otter @now", "current weights")
        await pilot.press("enter")
        await until_shown(pilot, "step 3,752", "B scores A’s text")
        assert [call for call in services.calls if call[0] == "send"] == [("send", "snapshot")]
        assert "snapshots/step-000003751-aa" in services.fake_sampler.requests[-1].checkpoint


async def test_an_error_stays_on_its_side() -> None:
    def damaged(request: BaseModel) -> None:
        assert isinstance(request, SampleRequest)
        if step_of(request.checkpoint) == 1_000:
            raise CheckpointError("model.safetensors is damaged", hint="^k chooses another")

    services = versus()
    services.fake_sampler.answers[SampleRequest] = damaged  # type: ignore[assignment]
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(
            pilot, "must act on", "✗ model.safetensors is damaged. ^k chooses another"
        )
        await until(pilot, lambda: not pane(app).sampling)
        await until(pilot, lambda: [sample.step for sample in search()] == [3_700])


async def test_a_checkpoint_that_is_deleted_while_shown_is_said_so_and_not_replaced() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "B scores A’s text")
        services.snapshots["plain-otter"] = make_snapshot(checkpoints=CHECKPOINTS[1:])
        app.watcher.poll_now()
        await until_shown(pilot, "step 1,000, deleted", "it is a time")
        await pilot.press("enter")
        await until_shown(pilot, "✗ step 1,000 was deleted: ^k chooses another")
        await until(pilot, lambda: not pane(app).sampling)
        assert len(services.fake_sampler.requests) == 3


async def test_a_run_with_one_checkpoint_is_compared_with_its_current_weights() -> None:
    only = (checkpoint(500, 5.0, best=True, last=True),)
    async with opened(FakeServices(make_snapshot(checkpoints=only)), "versus") as (_app, pilot):
        await until_shown(pilot, "A plain-otter @best", "B plain-otter @now")


async def test_shift_and_an_arrow_mark_the_differences_one_after_the_other() -> None:
    async with opened(versus(), "versus", size=(120, 40)) as (_app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "B scores A’s text")
        await pilot.press("escape", "shift+right")
        await until_shown(pilot, "differs 1 of 1", "A the Congress must act o", "B it is a time")
        await pilot.press("shift+left")
        await until_shown(pilot, "differs 1 of 1")


async def test_the_same_text_scored_by_both_sides() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "B scores A’s text")
        asked = len(services.fake_sampler.asked)
        await pilot.press("ctrl+t")
        await until_shown(pilot, "Difference of surprise, A’s text", "Largest differences")
        assert len(services.fake_sampler.asked) == asked, "it is known from before"
        strip, listed = app.screen.query_one(DifferenceStrip), app.screen.query_one(DifferenceList)
        await until(pilot, lambda: strip.at is not None)
        first = strip.at
        assert first == listed.order[0]
        await pilot.press("shift+right")
        await until(pilot, lambda: strip.at == listed.order[1] and listed.at == strip.at)
        await pilot.press("shift+left")
        await until(pilot, lambda: strip.at == first)
        await pilot.press("right")
        assert first is not None
        await until(pilot, lambda: strip.at == first + 1)
        await pilot.press("tab")
        await until_shown(pilot, "Difference of surprise, B’s text", "it is a time")
        await pilot.press("escape")
        await until_shown(pilot, "Same and different")
        await until(pilot, lambda: focused_side(app) == 1)


async def test_the_prompt_itself_can_be_scored_without_a_sample() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We the people of the world", "ctrl+t")
        await until_shown(pilot, "Difference of surprise, the prompt", "of 5 tokens")
        assert [
            one.prompt for one in services.fake_sampler.asked if isinstance(one, InspectRequest)
        ]
        assert not services.fake_sampler.requests
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.focused, PromptBox))
        await pilot.press("ctrl+u", *"our nation is new", "enter")
        await until_shown(pilot, "our nation is new", "of 3 tokens")


async def test_texts_of_different_tokenizers_are_compared_by_their_bytes() -> None:
    services = versus()
    services.tokenizers = {"plain-otter": "0" * 64, "brisk-heron": "1" * 64}
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await until(pilot, lambda: bool(app.summaries))
        await pilot.press(*"We", "tab", "tab", "ctrl+o")
        await until_shown(pilot, "Side B: run")
        await pilot.press("down", "enter")
        await until_shown(pilot, "Side B: weights of brisk-heron")
        await pilot.press("enter")
        await until_shown(pilot, "B brisk-heron @best")
        await pilot.press("enter")
        await until_shown(pilot, "Bits per byte, running mean", "bits/byte", "two tokenizers")
        whole = [
            one
            for one in services.fake_sampler.asked
            if isinstance(one, InspectRequest) and not one.ids
        ]
        assert {one.prompt for one in whole} == {f"We{TEXTS[3_700]}"}
        await pilot.press("ctrl+t")
        await until_shown(pilot, "Difference of surprise, B’s text, two tokenizers", "pieces")


async def test_a_text_that_the_tokenizers_read_differently_is_refused_with_the_reason() -> None:
    def other(request: InspectRequest) -> Inspection:
        found = surprised(request)
        if step_of(request.checkpoint) == 1_000:
            tokens = (found.tokens[0].model_copy(update={"text": "<unk>"}), *found.tokens[1:])
            return found.model_copy(update={"tokens": tokens})
        return found

    services = versus(answers={InspectRequest: other})
    async with opened(services, "versus", size=(120, 40)) as (_app, pilot):
        await pilot.press(*"café olé", "ctrl+t")
        await until_shown(pilot, "✗ the two tokenizers read this text differently")


async def test_a_refused_score_is_one_sentence_in_its_place() -> None:
    services = versus(answers={InspectRequest: InputError("the vocabulary has no é")})
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "A scores B’s text the vocabulary has no é")
        await until(pilot, lambda: not pane(app).sampling)
        await pilot.press("ctrl+t")
        await until_shown(pilot, "✗ the vocabulary has no é")


async def test_the_grid_is_sampled_walked_and_opened_in_the_prompt_pane() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "ctrl+g")
        await until_shown(pilot, "Checkpoint × temperature", "0.4", "0.8", "1.0", "1.3")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 8)
        await until(pilot, lambda: not pane(app).sampling)
        assert [one.settings.temperature for one in services.fake_sampler.requests] == [
            0.4, 0.8, 1.0, 1.3, 0.4, 0.8, 1.0, 1.3,
        ]  # fmt: skip
        assert all(one.settings.max_new_tokens == 60 for one in services.fake_sampler.requests)
        grid = app.screen.query_one(SampleGrid).shown
        assert grid is not None
        await pilot.press("down", "right", "right", "right", "left")
        await until(pilot, lambda: (grid.row, grid.column) == (1, 2))
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "prompt")
        current = app.prompt_session.tree.current
        assert current is not None
        assert (current.prompt, current.text) == ("We", TEXTS[1_000])
        assert current.settings.temperature == 1.0
        assert app.prompt_session.prompt == "We"


async def test_the_grid_needs_one_snapshot_of_current_weights() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "tab", "tab")
        screen = pane(app)
        while screen.side.mark != "@now":
            await pilot.press("ctrl+k")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 8)
        assert len([call for call in services.calls if call[0] == "send"]) == 1


async def test_ctrl_r_samples_all_sides_with_the_next_seed() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "ctrl+r")
        await until_shown(pilot, "seed 8, the same for both", "B scores A’s text")
        assert [one.settings.seed for one in services.fake_sampler.requests] == [8, 8]
        assert app.prompt_session.settings.seed == 8


async def test_a_random_seed_is_drawn_once_for_all_sides() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        app.prompt_session.random_seed = True
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "seed random, the same for both", "B scores A’s text")
        seeds = {one.settings.seed for one in services.fake_sampler.requests}
        assert len(seeds) == 1
        assert f"seed {seeds.pop()}" in screen_text(app)


async def test_the_prompt_is_that_of_the_other_modes_and_has_its_history() -> None:
    append_history("Tonight I want")
    async with opened(versus(), "prompt", size=(120, 40)) as (app, pilot):
        app.prompt_session.prompt = "from another mode"
        app.open_pane("versus")
        await until_shown(pilot, "from another mode", "Same and different")
        await pilot.press("up")
        await until_shown(pilot, "Tonight I want")
        assert app.prompt_session.prompt == "Tonight I want"


async def test_what_is_shown_is_saved_as_markdown_and_a_text_copied() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press("ctrl+s", "ctrl+y")
        await until_shown(pilot, "no text yet")
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "B scores A’s text")
        await pilot.press("tab", "tab", "ctrl+s")
        await until_shown(pilot, "saved as /home/plain-otter-side-by-side.md")
        await pilot.press("ctrl+t")
        await until_shown(pilot, "B’s text", "Largest differences", "of 17 tokens")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "plain-otter-differences.md")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 10)
        await until(pilot, lambda: not pane(app).sampling)
        await pilot.press("ctrl+s")
        await until_shown(pilot, "plain-otter-grid.md")
        assert [name for name, _ in services.saved] == [
            "plain-otter-side-by-side.md", "plain-otter-differences.md", "plain-otter-grid.md",
        ]  # fmt: skip
        assert all(TEXTS[1_000].strip() in text for _, text in services.saved)
        await pilot.press("escape", "ctrl+y")
        await until(pilot, lambda: app.clipboard == f"We{TEXTS[1_000]}")


async def test_long_texts_scroll_together_and_prompts_begin_on_the_same_line() -> None:
    long = {3_700: [" word"] * 300, 1_000: [" longer"] * 300}
    services = versus(texts=lambda request: [long[step_of(request.checkpoint)]])
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"First", "enter")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 2)
        await until(pilot, lambda: not pane(app).sampling)
        await pilot.press("ctrl+u", *"Second", "enter")
        await until(pilot, lambda: len(services.fake_sampler.requests) == 4)
        await until(pilot, lambda: not pane(app).sampling)
        await pilot.press("escape", "home")
        await until(pilot, lambda: screen_text(app).count("Second ") >= 2)
        await pilot.press("pagedown", "pagedown", *["down"] * 8)
        await until(pilot, lambda: screen_text(app).count("First ") == 2)
        row = next(line for line in screen_text(app).splitlines() if "First" in line)
        assert row.count("First") == 2
        await pilot.press("home")
        await until(pilot, lambda: "First" not in screen_text(app))


async def test_another_open_run_begins_again() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press(*"We", "enter")
        await until_shown(pilot, "B scores A’s text")
        app.select_run(services.run("brisk-heron"))
        await until_shown(pilot, "A brisk-heron @best", "val ppl")
        assert "is strong" not in screen_text(app)


async def test_keys_do_nothing_before_the_open_run_is_read() -> None:
    services = versus()
    async with opened(services, "versus", size=(120, 40)) as (app, pilot):
        await pilot.press("escape")
        app.watcher.open(None)  # nothing reads the other run
        app.run_directory = services.run("brisk-heron")
        app.snapshot = None
        await until(pilot, lambda: not pane(app).shown.sides)
        await pilot.press("ctrl+t", "ctrl+g", "ctrl+t", "ctrl+n", "tab", "shift+right", "ctrl+k")
        await until_shown(pilot, "reading the run")
        assert app.is_running


async def test_without_a_run_nothing_can_be_sampled() -> None:
    async with opened(versus(), "versus", run=None, size=(120, 40)) as (app, pilot):
        await pilot.press("enter", "ctrl+n", "ctrl+k", "ctrl+t", "ctrl+g", "tab", "ctrl+s")
        await until_shown(pilot, "^l Runs")
        assert app.is_running


@pytest.mark.parametrize(
    "keys", [(), ("ctrl+t",), ("ctrl+g",)], ids=["texts", "differences", "grid"]
)
async def test_every_size_draws_every_view(keys: tuple[str, ...]) -> None:
    async with opened(versus(), "versus") as (app, pilot):
        await pilot.press(*"We", "enter")
        await until(pilot, lambda: not pane(app).sampling and len(app.screen.query(SidePanel)) > 0)
        await pilot.press("escape", "ctrl+n", *keys)
        for size in ((60, 15), (40, 10), (200, 60), (61, 16), (109, 19), (110, 20), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert len(cells_on(app)) == size[1]
        await until_shown(pilot, "plain-otter ● running")
