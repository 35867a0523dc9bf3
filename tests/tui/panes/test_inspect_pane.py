"""Inspect: along the tokens, other tokens, branches, states and gradients, with keys alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from pydantic import BaseModel
from textual.pilot import Pilot

from rnnlm_tui.client.checkpoints import rows_on_disk
from rnnlm_tui.errors import CheckpointError, InputError, WorkerError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import (
    AlternativesRequest,
    GradientReach,
    Inspection,
    InspectRequest,
    KeepStateRequest,
    ReachRequest,
    StateMap,
    StatesRequest,
)
from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.store.paths import RunDirectory, runs_dir
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.inspect import InspectScreen
from rnnlm_tui.tui.views.sample_tree import Sample, Weights
from tests.fakes import answers
from tests.homes import trained
from tests.tui.fakes import FakeSampler
from tests.tui.panes.fakes import CHECKPOINTS
from tests.tui.panes.seeing import (
    press,
    running_at_home,
    screen_text,
    until_shown,
)
from tests.tui.panes.test_prompt_overlays import keep_state
from tests.tui.pictures import cells_on
from tests.tui.support import at_home, lines_of, until

RequestT = TypeVar("RequestT", bound=BaseModel)
PROMPT = "The state of the Union"
TEXT = (
    " is strong, and the Congress must act on the program of the American people. We have a great"
    " responsibility to the free nations of the world, and I ask you to join me in making it."
)


LONG = "".join(f" w{at}" for at in range(1_000))


def sampled(
    prompt: str = PROMPT, text: str = TEXT, weights: Weights | None = None, **settings: object
) -> Sample:
    """A sampled text, whose tokens are its words."""
    ids = tuple(map(answers.token_id, answers.prompt_pieces(text)))
    config = SamplingConfig.model_validate({"max_new_tokens": 40, **settings})
    run = RunDirectory(runs_dir() / "plain-otter")
    return Sample(prompt, config, weights or Weights.of(run, CHECKPOINTS[3]), ids, text)


def asked(sampler: FakeSampler, kind: type[RequestT]) -> list[RequestT]:
    """The requests of this type."""
    return [request for request in sampler.asked if isinstance(request, kind)]


@pytest.fixture
def run() -> Iterator[RunDirectory]:
    """A run that trains, with five checkpoints."""
    with running_at_home() as found:
        yield found


def weights(run: RunDirectory, step: int) -> Weights:
    """The weights of a run's checkpoint."""
    return Weights.of(run, next(row for row in rows_on_disk(run) if row.step == step))


@asynccontextmanager
async def open_text(
    run: RunDirectory,
    sampler: FakeSampler | None = None,
    *,
    size: tuple[int, int] = (80, 24),
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int], FakeSampler]]:
    """The pane on a text that was sampled from the run's best checkpoint."""
    sampler = sampler or FakeSampler()
    async with at_home(pane="prompt", sampler=sampler, size=size) as (app, pilot):
        app.prompt_session.tree.add(sampled(weights=weights(run, 3_700)))
        await pilot.press("f2")
        yield app, pilot, sampler


def pane(app: RnnlmApp) -> InspectScreen:
    """The pane, which must be the visible one."""
    assert isinstance(app.pane_screen, InspectScreen)
    return app.pane_screen


def underlined(app: RnnlmApp) -> str:
    """The signs below the header that are underlined."""
    cells = [cell for row in cells_on(app)[2:] for cell in row]
    return "".join(sign for sign, style in cells if style is not None and style.underline)


async def scored(app: RnnlmApp, pilot: Pilot[int]) -> InspectScreen:
    """Wait until the text is scored and the alternatives at the cursor are known."""
    screen = pane(app)
    await until(pilot, lambda: screen.scored is not None)
    await until(pilot, lambda: bool(screen.choices.rows) or not screen.cursor)
    return screen


async def test_the_cursor_walks_over_a_text_that_is_scored_once_and_scrolls_a_long_one(
    run: RunDirectory,
) -> None:
    gate = asyncio.Event()
    async with open_text(run, FakeSampler(ask_gate=gate)) as (app, pilot, sampler):
        await until_shown(pilot, "The state of the Union is strong,", "computing …")
        gate.set()
        screen = await scored(app, pilot)
        assert "computing …" not in screen_text(app)
        await until_shown(
            pilot, "The state of the Union is strong,", "Instead of “is”", "Token 6",
            "plain-otter @best step 3,700, val 58.1",
        )  # fmt: skip
        bits = [one or 0 for one in screen.scored.bits] if screen.scored else []
        next_surprise = next(at for at in range(7, 40) if bits[at] >= 5)
        for keys, place in (
            (("right", "right", "left"), 6),
            (("down",), 20),
            (("up",), 6),
            (("j",), next_surprise),
            (("k", "k", "home", "right"), 1),
            (("down", "home"), 0),
            (("end",), len(bits)),
        ):
            await pilot.press(*keys)
            assert screen.cursor == place
        await until_shown(pilot, "What comes next", "Next token")
        await press(pilot, "j", "no token of 5 bits or more after this one")
        await press(pilot, "home", "Nothing predicts the first token", "not predicted")
        await press(pilot, "enter", "nothing predicts this token")

        await pilot.press("right", "right")
        app.open_pane("train")
        await press(pilot, "4 f2", "Instead of “of”", "prob.   after bits", "4.2 → ", "rank")
        assert screen.cursor == 2
        assert len(asked(sampler, InspectRequest)) == 1

        # what was asked about other tokens is cancelled when the cursor moves on
        gate.clear()
        sampler.asked.clear()
        await press(pilot, ["right"] * 13, "Token 16")
        alternatives = partial(asked, sampler, AlternativesRequest)
        await until(pilot, lambda: 15 in [one.position for one in alternatives()])
        assert {one.id for one in alternatives() if one.position != 15} <= set(sampler.cancelled)
        gate.set()
        await until_shown(pilot, "Instead of “of”", "Token 16")
        await until(pilot, lambda: (known := screen.choices.answer) and known.position == 15)

        other = sampled("We must", " work together", weights(run, 1_000), top_k=3)
        app.prompt_session.tree.add(other)
        await press(pilot, "escape f2", "We must work together", "plain-otter step 1,000", "top-k")
        await until(pilot, lambda: screen.scored is not None and len(screen.scored) == 4)
        assert [row.removed_by for row in screen.choices.rows[:4]] == ["", "", "", "top-k"]

        # the horizon is a sign in the blank before a token, or underlines its first letter
        for text in ("".join(f" w{at}" for at in range(25)) + " " + "x" * 70, LONG):
            app.prompt_session.tree.add(sampled(text=text, weights=weights(run, 3_700)))
            await press(pilot, "escape f2", " w23 w24")
            await scored(app, pilot)
            assert underlined(app) == ("" if text is LONG else "x")
        await until_shown(pilot, "↓ ", "╎ 30 tokens", " w23 w24╎w25 w26 ")
        await press(pilot, "end", "↑ ", " w999…")
        await pilot.press("home")
        await pilot.click("#strip", offset=(7, 1))
        assert screen.cursor == 1, "the column of a blank is the token's after it"
        await press(pilot, "tab", "State, layer 2 of 2", "▲  state", "at token 2")
        await pilot.click("#state", offset=(15, 2))
        await until_shown(pilot, "at token 10")
        await press(pilot, "end left", "w999 ▲", "at token 1,005")

        app.select_run(trained("brisk-heron"))
        await until_shown(pilot, "This run has no checkpoint yet.", "2 shows how it trains.")
        assert "w999" not in screen_text(app)
        assert not app.prompt_session.tree.branches
        # but for the alert that the run has finished
        assert not [text for text in lines_of(app) if "perplexity" in text and "shed" not in text]
        app.close_run()
        app.open_pane("config")
        await until(pilot, lambda: app.current_mode == "config")
        app.open_pane("inspect")
        await until_shown(pilot, "No run open.")
        await press(pilot, "right down j enter tab p w u i o", "no text is scored yet")


async def test_other_tokens_make_branches_that_undo_and_the_signs_walk_over(
    run: RunDirectory,
) -> None:
    sampler = FakeSampler(words=(" we", " hope", "."))
    async with open_text(run, sampler) as (app, pilot, _):
        screen = await scored(app, pilot)
        ids, tree = sampled().ids, app.prompt_session.tree

        async def branch(number: int, *keys: str) -> Sample:
            await press(pilot, "enter", "enter Take it", "Instead of")
            await press(pilot, keys, f"branch {number} of {number}")
            await scored(app, pilot)
            assert tree.current is not None
            return tree.current

        await press(pilot, "less_than_sign", "no other branch here")
        await press(pilot, "right right", "Instead of “and”")
        made = await branch(2, "down", "enter")
        await until_shown(pilot, "we hope.")
        [request] = sampler.requests
        assert (made.parent, made.shared, made.settings.max_new_tokens) == (0, 2, 40)
        assert (request.ids[:2], len(request.ids)) == (ids[:2], 3)
        assert (request.settings.max_new_tokens, request.settings.seed) == (37, 7)
        assert made.text.startswith(" is strong,")
        assert made.text.endswith(" we hope.")
        await until(pilot, lambda: [kept.text for kept in search()] == [made.text])
        assert screen.cursor == 7, "the cursor stays where the texts part"

        await press(pilot, "u", "branch 1 of 2", "American people.")
        await press(pilot, "u", "nothing to undo")
        await scored(app, pilot)
        await pilot.press(*["left"] * 4)
        made = await branch(3, "enter")
        assert (made.prompt, made.shared) == ("The state of", 0), "inside the prompt"
        await press(pilot, "greater_than_sign", "branch 2 of 3", "is strong,", "we hope.")
        await press(pilot, "less_than_sign", "branch 3 of 3")
        await scored(app, pilot)

        for number, typed in enumerate((" dragons", " dragons fly"), start=4):
            tree.place = 0
            await pilot.press("escape", "f2")
            await scored(app, pilot)
            await press(pilot, ["home", *["right"] * 6], "Instead of “strong,”")
            await press(pilot, "enter", "enter Take it")
            await pilot.click("#alternatives", offset=(5, len(screen.choices.rows) + 1), times=2)
            await until_shown(pilot, "a token, or several words")
            await press(pilot, [*typed[1:], "enter"], f"branch {number} of {number}")
            current, new = tree.current, answers.prompt_pieces(typed)
            assert current is not None
            assert current.text.startswith(f" is{typed}")
            assert current.ids[1 : 1 + len(new)] == tuple(map(answers.token_id, new))


async def test_escape_stops_a_branch_leaves_the_list_and_shows_the_text_in_sample(
    run: RunDirectory,
) -> None:
    sampler = FakeSampler()
    async with at_home(pane="prompt", sampler=sampler) as (app, pilot):
        await press(pilot, [*"We must", "f2"], "We must", "What comes next")
        [request] = asked(sampler, InspectRequest)
        assert (request.prompt, request.ids) == ("We must", ()), "the prompt alone"
        await press(pilot, "escape enter", "We must is strong.", "✓ 3 of 100 tokens")
        await press(pilot, "f2", "We must is strong.", "Instead of “is”")
        await press(pilot, "enter", "enter Take it")
        await pilot.press("escape")
        assert app.focused is pane(app).strip
        sampler.gate = asyncio.Event()
        await press(pilot, "right", "Instead of “strong”")
        await press(pilot, "enter down enter", " of 98 tokens", "esc Stop")
        await press(pilot, "enter", "already sampling")
        await press(pilot, "escape", "branch 2 of 2")
        assert sampler.cancelled
        await pilot.press("escape")
        assert app.current_mode == "prompt"
        branch = app.prompt_session.tree.current
        assert branch is not None
        await until_shown(pilot, branch.whole)
        await press(pilot, "f6 f2", "branch 1 of 2")
        await press(pilot, "shift+f6", "branch 2 of 2")
        await press(pilot, "shift+f6", "nothing to redo")


async def test_tab_shows_states_units_and_reach_and_asks_for_them_then(run: RunDirectory) -> None:
    def states(request: StatesRequest) -> StateMap:
        """Of two gates in the first layer, which has no figures of saturation."""
        if request.query == "vowels":
            raise InputError('cannot search for "vowels"', hint="search for space, newline")
        found = answers.state_map(request)
        if request.layer:
            return found
        gates = {"input": (0.25,) * found.tokens, "forget": (1.0,) * found.tokens}
        return found.model_copy(update={"gates": gates, "saturated": ()})

    def reach(request: ReachRequest) -> GradientReach:
        by = 0.5 if request.checkpoint.endswith("3700") else 0.1
        norms = tuple(by**lag for lag in range(request.position))
        return GradientReach(id=request.id, position=request.position, norms=norms)

    def inspection(request: InspectRequest) -> Inspection:
        """Another model reads other tokens, and the third begins a text with an end token."""
        found = answers.inspection(request)
        if request.checkpoint.endswith(("3700", "2000")):
            turn = -1 if request.checkpoint.endswith("2000") else 1
            return found.model_copy(update={"tokens": found.tokens[::turn]})
        first = found.tokens[0].model_copy(update={"text": "", "bytes": 0})
        return found.model_copy(update={"tokens": (first, *found.tokens)})

    sampler = FakeSampler(answers={StatesRequest: states})
    async with open_text(run, sampler) as (app, pilot, _):
        screen = await scored(app, pilot)
        await pilot.press("right")
        assert not asked(sampler, ReachRequest)
        await press(pilot, "tab", "State, layer 2 of 2", "longest memory first", "saturated")
        assert "▲  strong," in screen_text(app)
        await press(pilot, "pagedown", "5–24 of 24 units")
        await press(pilot, "tab", "Unit u23", "at the cursor", "Units")
        await press(pilot, "down", "Unit u22")
        await press(pilot, "pagedown", "Unit u11")
        await press(pilot, "tab", "Reach, token 7", "plain-otter 32.8 %", "still 33 %")
        await press(pilot, "tab", "Instead of")
        await press(pilot, "shift+tab", "Reach, token 7")
        # a second model is that of the first side of Compare that reads the same tokens
        sampler.answers |= {ReachRequest: reach, InspectRequest: inspection}
        app.prompt_session.compared = tuple(weights(run, step) for step in (3_700, 2_000, 1_000))
        await press(pilot, ["right"] * 4, "A step 3,700", "B step 1,000")
        await until_shown(pilot, "step 3,700 from lag 7   step 1,000 from lag 3")
        assert [one.position for one in asked(sampler, ReachRequest)[-2:]] == [10, 11]
        await press(pilot, "home", "choose a token that the model predicts")

        await press(pilot, "shift+tab shift+tab", "State, layer 2 of 2")
        await press(pilot, "i", "State, layer 1 of 2", "│ in  ▃▃", "│ fgt ██", "in 0.25  fgt 1.00")
        assert "saturated" not in screen_text(app)
        await press(pilot, "o", "units, by number")
        await press(pilot, ["slash", *"quotes", "enter"], "by how they follow quotes")
        await press(pilot, ["slash", "ctrl+u", *"vowels", "enter"], 'for "vowels". search for')
        found = [(one.layer, one.order, one.query) for one in asked(sampler, StatesRequest)]
        assert found == [
            (-1, "memory", ""), (0, "memory", ""), (0, "index", ""), (0, "search", "quotes"),
            (0, "search", "vowels"),
        ]  # fmt: skip
        await press(pilot, "tab", "match", "1.00")

        await pilot.press("shift+tab", "z")
        await until(pilot, lambda: screen.query_one("#state").size.height == 21)
        await press(pilot, "escape", "Inspect", "State")
        await pilot.press("tab", "tab", "tab", "z")
        await until(pilot, lambda: screen.strip.size.height == 21)


async def test_a_state_is_kept_and_starts_the_next_sample_and_the_inspection_is_written(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keep_state("congress")
    async with open_text(run, size=(120, 40)) as (app, pilot, sampler):
        await scored(app, pilot)
        await press(pilot, "p", "Keep the state after “is”", "plain-otter-3700-6")
        await press(pilot, ["ctrl+u", *"union", "enter"], "kept union")
        [request] = asked(sampler, KeepStateRequest)
        assert (request.position, request.name, request.run) == (5, "union", "plain-otter")
        assert request.path.endswith("states/union.safetensors")
        await press(pilot, "f8", "1 state", "congress")
        await press(pilot, "down enter", "the next sample starts from the state congress")
        assert "congress" in app.prompt_session.state

        await press(pilot, "w enter", "plain-otter-inspection.tsv")
        await press(pilot, "w down enter", "plain-otter-inspection.json")
        table = (tmp_path / "plain-otter-inspection.tsv").read_text()
        assert table.splitlines()[1].startswith("0\t")
        whole = json.loads((tmp_path / "plain-otter-inspection.json").read_text())
        assert "".join(token["text"] for token in whole["tokens"]) == PROMPT + TEXT
        assert (whole["run"], whole["step"]) == ("plain-otter", 3_700)
        # of a text without a predicted token, which has no mean
        app.prompt_session.tree.add(sampled("\t\n", "", weights(run, 3_700)))
        await press(pilot, "escape f2", "perplexity –", "What comes next")
        for name in ("tsv", "json"):
            keys = f"w {'down ' * (name == 'json')}enter"
            await press(pilot, keys, f"plain-otter-inspection-2.{name}")
        table = (tmp_path / "plain-otter-inspection-2.tsv").read_text()
        assert table.splitlines()[1].split("\t")[2:] == ["\\t\\n", "prompt", "", "", ""]
        whole = json.loads((tmp_path / "plain-otter-inspection-2.json").read_text())
        assert (whole["bits_per_token"], whole["perplexity"]) == (None, None)


async def test_an_unscored_text_is_tried_again_or_scored_with_another_checkpoint(
    run: RunDirectory,
) -> None:
    gone = CheckpointError("checkpoint step-3700 is gone", hint="choose another one")
    died = WorkerError("the sampler exited (exit code -9)", hint="the next request starts it")
    failures = [gone, died, died, died]

    def answer(request: InspectRequest) -> Inspection:
        if request.checkpoint.endswith("2500"):
            raise CheckpointError("checkpoint step-2500 is gone")
        if failures:
            raise failures.pop(0)
        return answers.inspection(request)

    sampler = FakeSampler(answers={InspectRequest: answer})
    async with open_text(run, sampler) as (app, pilot, _):
        await until_shown(pilot, "not scored", "✗ checkpoint step-3700 is gone. choose")
        await press(pilot, "right tab j shift+tab enter", "the sampler exited", "enter Try again")
        await pilot.press("enter")  # it dies once more, and is asked again at once
        await scored(app, pilot)
        assert not failures
        lost = Weights(run.name, str(run.path / "checkpoints/step-000002500"), 2_500)
        app.prompt_session.tree.add(sampled(weights=lost))
        await press(pilot, "escape f2", "not scored", "; ^k scores", "the text with step 3,700")
        await pilot.press("ctrl+k")
        await scored(app, pilot)
        await until_shown(pilot, "step 3,700", "Instead of “is”")
        await press(pilot, "ctrl+k", "scored with step 3,700 already")
        # without states, both of their views say why
        sampler.answers[StatesRequest] = InputError("the states are too many")
        app.prompt_session.tree.add(sampled(weights=weights(run, 3_700)))
        await press(pilot, "escape f2 tab", "✗ the states are too many")
        await press(pilot, "tab", "─ Unit ─", "│ the states are too many")
