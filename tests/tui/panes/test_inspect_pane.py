"""Inspect: along the tokens, other tokens, branches, states and gradients, with keys alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from textual.pilot import Pilot

from rnnlm_tui.errors import CheckpointError, InputError, RnnlmError, WorkerError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import (
    AlternativesRequest,
    GradientReach,
    InspectRequest,
    KeepStateRequest,
    ReachRequest,
    StatesRequest,
)
from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.inspect import InspectScreen
from rnnlm_tui.tui.views.sample_tree import Sample, Weights
from tests.fakes import answers
from tests.tui.fakes import FakeSampler, FakeServices
from tests.tui.panes.fakes import CHECKPOINTS, RUN, make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.panes.test_prompt_overlays import keep_state
from tests.tui.support import until

PROMPT = "The state of the Union"
TEXT = (
    " is strong, and the Congress must act on the program of the American people. We have a great"
    " responsibility to the free nations of the world, and I ask you to join me in making it."
)
BEST = CHECKPOINTS[3]
WEIGHTS = Weights("plain-otter", str(RUN.path / BEST.path), BEST.step, BEST)


def sampled(prompt: str = PROMPT, text: str = TEXT, **settings: object) -> Sample:
    """A sampled text, whose tokens are its words."""
    ids = tuple(map(answers.token_id, answers.prompt_pieces(text)))
    config = SamplingConfig.model_validate({"max_new_tokens": 40, **settings})
    return Sample(prompt, config, WEIGHTS, ids, text)


@asynccontextmanager
async def inspecting(
    services: FakeServices | None = None,
    branch: Sample | None = None,
    *,
    size: tuple[int, int] = (80, 24),
    ascii_only: bool = False,
    scored: bool = True,
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int], InspectScreen]]:
    """The pane with a sampled text, once it is scored."""
    services = services if services is not None else FakeServices(make_snapshot())
    async with opened(services, "prompt", size=size, ascii_only=ascii_only) as (app, pilot):
        if branch is not None:
            app.prompt_session.tree.add(branch)
        await pilot.press("f2")
        screen = app.pane_screen
        assert isinstance(screen, InspectScreen)
        if scored:
            await until(pilot, lambda: screen.scored is not None)
            await until(pilot, lambda: bool(screen.choices.rows) or not screen.cursor)
        yield app, pilot, screen


async def test_another_open_run_shows_no_text_of_the_one_before() -> None:
    services = FakeServices(make_snapshot())
    async with inspecting(services, sampled()) as (app, pilot, screen):
        app.select_run(services.run("brisk-heron"))
        await until(pilot, lambda: not app.prompt_session.tree.branches)
        await until(pilot, lambda: "Congress" not in screen_text(app))
        assert screen.is_current


def asked(services: FakeServices, kind: type) -> list[object]:
    """The requests of this type."""
    return [request for request in services.fake_sampler.asked if isinstance(request, kind)]


async def test_a_text_is_scored_once_and_the_cursor_begins_at_its_first_new_token() -> None:
    services = FakeServices(make_snapshot())
    async with inspecting(services, sampled()) as (app, pilot, screen):
        await until_shown(pilot, "The state of the Union is strong,", "Instead of “is”", "Token 6")
        await pilot.press("right", "down", "j", "left")
        app.open_pane("train")
        await pilot.press("4", "f2")
        await until_shown(pilot, "Instead of")
        assert len(asked(services, InspectRequest)) == 1
        assert screen.cursor > 5


async def test_keys_move_by_token_line_surprise_and_to_the_ends() -> None:
    async with inspecting(branch=sampled()) as (_, pilot, screen):
        scored = screen.scored
        assert scored is not None
        await pilot.press("right", "right", "left")
        assert screen.cursor == 6
        await pilot.press("down")
        below = screen.cursor
        assert below > 12
        await pilot.press("up")
        assert screen.cursor == 6
        await pilot.press("j")
        assert (scored.bits[screen.cursor] or 0) >= 5
        assert all((bits or 0) < 5 for bits in scored.bits[7 : screen.cursor])
        await pilot.press("k", "k")
        assert screen.cursor < 7
        await pilot.press("end")
        assert screen.cursor == len(scored)
        await until_shown(pilot, "What comes next", "Next token")
        await pilot.press("home")
        await until_shown(pilot, "Nothing predicts the first token", "not predicted")


async def test_each_alternative_has_its_probability_before_and_after_the_filters() -> None:
    async with inspecting(branch=sampled(top_k=6)) as (_, pilot, screen):
        await pilot.press("right")
        await until_shown(pilot, "prob.   after bits", "top-k", "entropy", "4.2 → 3.1 bits")
        assert [row.removed_by for row in screen.choices.rows[:7]] == [""] * 6 + ["top-k"]


async def test_a_cursor_that_moves_on_cancels_what_was_asked_about_other_tokens() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(ask_gate=asyncio.Event()))
    gate = services.fake_sampler.ask_gate
    assert gate is not None
    gate.set()
    async with inspecting(services, sampled()) as (_, pilot, screen):
        gate.clear()
        await pilot.press(*["right"] * 10)
        await until_shown(pilot, "Token 16")

        def requests() -> list[AlternativesRequest]:
            found = asked(services, AlternativesRequest)
            return [request for request in found if isinstance(request, AlternativesRequest)][1:]

        await until(pilot, lambda: any(request.position == 15 for request in requests()))
        left = [request.id for request in requests() if request.position != 15]
        assert set(left) <= set(services.fake_sampler.cancelled)
        gate.set()
        await until_shown(pilot, "Instead of “of”")
        assert screen.choices.answer is not None
        assert screen.choices.answer.position == 15


async def test_an_alternative_makes_a_branch_that_undo_leaves_again() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(words=(" we", " hope", ".")))
    async with inspecting(services, sampled()) as (app, pilot, screen):
        await pilot.press("right", "right", "enter")
        await until_shown(pilot, "enter Take it")
        await pilot.press("down", "enter")
        await until_shown(pilot, "branch 2 of 2", "we hope.")
        await until(pilot, lambda: screen.scored is not None)
        [request] = services.fake_sampler.requests
        branch = app.prompt_session.tree.current
        assert branch is not None
        chosen = screen.choices.rows
        assert chosen
        assert branch.parent == 0
        assert branch.shared == 2
        assert request.ids[:2] == sampled().ids[:2]
        assert len(request.ids) == 3
        assert request.settings.max_new_tokens == 37
        assert request.settings.seed == branch.settings.seed == 7
        assert branch.text.endswith(" we hope.")
        assert branch.text.startswith(" is strong,")
        await until(pilot, lambda: [kept.text for kept in search()] == [branch.text])
        await pilot.press("u")
        await until_shown(pilot, "branch 1 of 2", "American people.")
        assert app.prompt_session.tree.place == 0
        await pilot.press("u")
        await until_shown(pilot, "nothing to undo")


async def test_branches_of_a_text_are_walked_with_less_and_greater() -> None:
    async with inspecting(branch=sampled()) as (app, pilot, screen):
        await pilot.press("less_than_sign")
        await until_shown(pilot, "no other branch")
        for text in (" may be small", " may be large"):
            app.prompt_session.tree.add(sampled(text=text))
        await pilot.press("less_than_sign")
        await until_shown(pilot, "branch 2 of 3", "may be small")
        await pilot.press("greater_than_sign", "greater_than_sign")
        await until_shown(pilot, "branch 1 of 3", "is strong,")
        await until(pilot, lambda: screen.scored is not None)


async def test_inside_the_prompt_a_branch_has_a_shorter_prompt() -> None:
    services = FakeServices(make_snapshot())
    async with inspecting(services, sampled()) as (app, pilot, _):
        await pilot.press("left", "left", "enter")
        await until_shown(pilot, "enter Take it")
        await pilot.press("enter")
        await until_shown(pilot, "branch 2 of 2")
        branch = app.prompt_session.tree.current
        assert branch is not None
        assert (branch.prompt, branch.shared) == ("The state of", 0)


@pytest.mark.parametrize("typed", [" dragons", " dragons fly"])
async def test_a_typed_text_is_tokenized_where_it_stands(typed: str) -> None:
    services = FakeServices(make_snapshot())
    async with inspecting(services, sampled()) as (app, pilot, _):
        await pilot.press("right", "enter")
        await until_shown(pilot, "Instead of “strong,”")
        await pilot.press("end", "enter")
        await until_shown(pilot, "a token, or several words")
        await pilot.press(*typed[1:], "enter")
        await until_shown(pilot, "branch 2 of 2")
        branch = app.prompt_session.tree.current
        assert branch is not None
        assert branch.text.startswith(f" is{typed}")
        new = answers.prompt_pieces(typed)
        assert branch.ids[1 : 1 + len(new)] == tuple(map(answers.token_id, new))


async def test_escape_stops_a_branch_then_leaves_the_list_then_goes_back() -> None:
    services = FakeServices(make_snapshot(), sampler=FakeSampler(gate=asyncio.Event()))
    async with inspecting(services, sampled()) as (app, pilot, screen):
        await pilot.press("enter")
        await until_shown(pilot, "enter Take it")
        await pilot.press("escape")
        assert screen.focused is screen.strip
        await pilot.press("enter", "enter")
        await until_shown(pilot, " of 39 tokens", "esc Stop")
        await pilot.press("enter")
        await until_shown(pilot, "already sampling")
        await pilot.press("escape")
        await until_shown(pilot, "branch 2 of 2")
        assert services.fake_sampler.cancelled
        await pilot.press("escape")
        assert app.current_mode == "prompt"


async def test_tab_shows_state_unit_and_reach_and_asks_for_them_then() -> None:
    services = FakeServices(make_snapshot())
    async with inspecting(services, sampled()) as (_, pilot, _screen):
        await pilot.press("right")
        assert not asked(services, ReachRequest)
        await pilot.press("tab")
        await until_shown(pilot, "State, layer 2 of 2", "longest memory first", "▲ ", "at token 7")
        await pilot.press("tab")
        await until_shown(pilot, "Unit u23", "at the cursor", "Units")
        await pilot.press("tab")
        await until_shown(
            pilot, "Reach, token 7", "tokens back", "“strong,”: gradient still 33 % of lag 0"
        )
        await pilot.press("tab")
        await until_shown(pilot, "Instead of")
        await pilot.press("shift+tab")
        await until_shown(pilot, "Reach, token 7")


async def test_the_reach_of_a_second_model_comes_from_the_sides_of_compare() -> None:
    older = CHECKPOINTS[0]
    second = Weights("plain-otter", str(RUN.path / older.path), older.step, older)

    def reach(request: ReachRequest) -> object:
        by = 0.5 if request.checkpoint == WEIGHTS.path else 0.1
        return GradientReach(
            id=request.id, position=request.position, norms=tuple(by**lag for lag in range(20))
        )

    sampler = FakeSampler(answers={ReachRequest: reach})  # type: ignore[dict-item]
    services = FakeServices(make_snapshot(), sampler=sampler)
    async with inspecting(services, sampled()) as (app, pilot, _screen):
        app.prompt_session.compared = (WEIGHTS, second)
        await pilot.press("shift+tab")
        await until_shown(pilot, "A step 3,700", "B step 1,000")
        await until_shown(pilot, "step 3,700 from lag 7   step 1,000 from lag 3")


async def test_layer_order_and_search_change_the_units() -> None:
    services = FakeServices(make_snapshot())
    async with inspecting(services, sampled()) as (_, pilot, _screen):
        await pilot.press("tab")
        await until_shown(pilot, "State, layer 2 of 2")
        await pilot.press("i")
        await until_shown(pilot, "State, layer 1 of 2")
        await pilot.press("o")
        await until_shown(pilot, "units, by number")
        await pilot.press("slash", *"quotes", "enter")
        await until_shown(pilot, "by how they follow quotes")
        await pilot.press("tab")
        await until_shown(pilot, "match", "1.00")
        requests = [
            (request.layer, request.order, request.query)  # type: ignore[attr-defined]
            for request in asked(services, StatesRequest)
        ]
        assert requests == [
            (-1, "memory", ""), (0, "memory", ""), (0, "index", ""), (0, "search", "quotes")
        ]  # fmt: skip


async def test_a_search_for_nothing_known_says_what_there_is() -> None:
    def states(request: StatesRequest) -> object:
        if request.order == "search":
            raise InputError('cannot search for "vowels"', hint="search for space, newline")
        return answers.state_map(request)

    services = FakeServices(make_snapshot(), sampler=FakeSampler(answers={StatesRequest: states}))  # type: ignore[dict-item]
    async with inspecting(services, sampled(), size=(120, 40)) as (_, pilot, _screen):
        await until_shown(pilot, "State, layer 2")
        await pilot.press("slash", *"vowels", "enter")
        await until_shown(pilot, 'cannot search for "vowels". search for space, newline')
        await until_shown(pilot, "longest memory first")


async def test_up_and_down_choose_the_unit_that_is_followed() -> None:
    async with inspecting(branch=sampled()) as (_, pilot, screen):
        await pilot.press("tab", "tab")
        await until_shown(pilot, "Unit u23")
        before = screen.cursor
        await pilot.press("down", "down", "up")
        await until_shown(pilot, "Unit u22")
        await pilot.press("pagedown")
        await until_shown(pilot, "Unit u11")
        assert screen.cursor == before


async def test_a_state_is_kept_under_a_name() -> None:
    services = FakeServices(make_snapshot())
    async with inspecting(services, sampled()) as (_, pilot, _screen):
        await pilot.press("p")
        await until_shown(pilot, "Keep the state after “is”", "plain-otter-3700-6")
        await pilot.press("ctrl+u", *"union", "enter")
        await until_shown(pilot, "kept union")
        [request] = asked(services, KeepStateRequest)
        assert isinstance(request, KeepStateRequest)
        assert (request.position, request.name, request.run) == (5, "union", "plain-otter")
        assert request.path.endswith("states/union.safetensors")


async def test_the_inspection_is_written_as_a_table_or_as_json() -> None:
    services = FakeServices(make_snapshot())
    async with inspecting(services, sampled()) as (_, pilot, _screen):
        await pilot.press("w", "enter")
        await until_shown(pilot, "saved as /home/plain-otter-inspection.tsv")
        await pilot.press("w", "down", "enter")
        await until_shown(pilot, "saved as /home/plain-otter-inspection.json")
        (_, table), (_, text) = services.saved
        assert table.splitlines()[1].startswith("0\t")
        whole = json.loads(text)
        assert "".join(token["text"] for token in whole["tokens"]) == PROMPT + TEXT
        assert whole["step"] == 3_700


async def test_one_view_alone_fills_the_pane_and_escape_ends_it() -> None:
    async with inspecting(branch=sampled()) as (_, pilot, screen):
        await pilot.press("tab", "z")
        await until(pilot, lambda: screen.query_one("#state").size.height == 21)
        await pilot.press("escape")
        await until_shown(pilot, "Inspect", "State")
        await pilot.press("tab", "tab", "tab", "z")
        await until(pilot, lambda: screen.strip.size.height == 21)


async def test_with_nothing_sampled_the_prompt_alone_is_inspected() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        app.prompt_session.prompt = "We the people"
        await pilot.press("f2")
        await until_shown(pilot, "We the people", "What comes next", "Next token")
        [request] = asked(services, InspectRequest)
        assert isinstance(request, InspectRequest)
        assert (request.prompt, request.ids) == ("We the people", ())


async def test_a_sampled_text_is_inspected_branched_and_shown_on_the_prompt_again() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        await pilot.press(*"We must", "enter")
        await until_shown(pilot, "We must is strong.")
        await pilot.press("f2")
        await until_shown(pilot, "We must is strong.", "Instead of “is”")
        await pilot.press("right", "enter")
        await until_shown(pilot, "Instead of “strong”")
        await pilot.press("down", "enter")
        await until_shown(pilot, "branch 2 of 2")
        await pilot.press("escape")
        assert app.current_mode == "prompt"
        branch = app.prompt_session.tree.current
        assert branch is not None
        await until_shown(pilot, branch.whole)
        await pilot.press("f6")
        await until_shown(pilot, "We must is strong.")
        await pilot.press("f2")
        await until_shown(pilot, "branch 1 of 2")
        await pilot.press("shift+f6")
        await until_shown(pilot, "branch 2 of 2")


async def test_a_kept_state_can_start_the_next_sample() -> None:
    keep_state("union")
    async with inspecting(branch=sampled()) as (app, pilot, _screen):
        await pilot.press("f8")
        await until_shown(pilot, "1 state")
        await pilot.press("down", "enter")
        await until_shown(pilot, "the next sample starts from")
        assert "union" in app.prompt_session.state


async def test_another_text_of_the_session_is_shown_when_the_pane_comes_back() -> None:
    async with inspecting(branch=sampled()) as (app, pilot, screen):
        app.open_pane("prompt")
        app.prompt_session.tree.add(sampled("We must", " work together"))
        await pilot.press("escape", "f2")
        await until_shown(pilot, "We must work together")
        await until(pilot, lambda: screen.scored is not None and len(screen.scored) == 4)


@pytest.mark.parametrize(
    "error",
    [
        CheckpointError("checkpoint step-3700 is gone", hint="choose another one"),
        WorkerError("the sampler exited (exit code -9)", hint="the next request starts it again"),
    ],
)
async def test_an_error_is_said_in_one_sentence_and_enter_tries_again(error: RnnlmError) -> None:
    sampler = FakeSampler(answers={InspectRequest: error})
    async with inspecting(
        FakeServices(make_snapshot(), sampler=sampler), sampled(), scored=False
    ) as (_, pilot, screen):
        await until_shown(pilot, "not scored", error.message[:30], "enter Try again")
        await pilot.press("right", "tab", "j")
        sampler.answers.clear()
        await pilot.press("enter")
        await until(pilot, lambda: screen.scored is not None)


async def test_a_text_whose_checkpoint_was_pruned_is_scored_with_the_current_one() -> None:
    def pruned(request: InspectRequest) -> object:
        if request.checkpoint == WEIGHTS.path:
            raise CheckpointError("checkpoint step-3700 is gone")
        return answers.inspection(request)

    left = [row for row in CHECKPOINTS if row is not BEST]
    sampler = FakeSampler(answers={InspectRequest: pruned})  # type: ignore[dict-item]
    services = FakeServices(make_snapshot(checkpoints=left), sampler=sampler)
    async with inspecting(services, sampled(), scored=False) as (_, pilot, screen):
        await until_shown(pilot, "not scored", "; ^k scores", "the text with step 3,750")
        await pilot.press("ctrl+k")
        await until(pilot, lambda: screen.scored is not None)
        await until_shown(pilot, "step 3,750", "Token 6")
        await pilot.press("ctrl+k")
        await until_shown(pilot, "already")


async def test_a_killed_sampler_is_asked_again_at_once() -> None:
    failures = [WorkerError("the sampler exited")]

    def once(request: InspectRequest) -> object:
        if failures:
            raise failures.pop()
        return answers.inspection(request)

    sampler = FakeSampler(answers={InspectRequest: once})  # type: ignore[dict-item]
    async with inspecting(FakeServices(make_snapshot(), sampler=sampler), sampled()) as (
        _, pilot, _screen,
    ):  # fmt: skip
        await until_shown(pilot, "Instead of “is”")


async def test_a_long_wait_is_explained() -> None:
    sampler = FakeSampler(ask_gate=asyncio.Event())
    async with inspecting(
        FakeServices(make_snapshot(), sampler=sampler), sampled(), scored=False
    ) as (_, pilot, screen):
        await until_shown(pilot, "The state of the Union is strong,", "computing …")
        assert sampler.ask_gate is not None
        sampler.ask_gate.set()
        await until(pilot, lambda: screen.scored is not None)
        assert "computing …" not in screen_text(pilot.app)


async def test_without_a_run_or_a_checkpoint_the_pane_says_so() -> None:
    async with opened(FakeServices(), "inspect", run=None) as (app, pilot):
        await until_shown(pilot, "No run open.")
        await pilot.press("right", "down", "j", "enter", "tab", "p", "w", "u", "i", "o")
        assert app.is_running
    async with opened(FakeServices(make_snapshot("stopped", checkpoints=())), "inspect") as (
        app,
        pilot,
    ):
        await until_shown(pilot, "no checkpoint yet")
