"""The side-by-side pane, by its keys: sides, texts, differences, grid, errors and exports."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from textual.events import MouseScrollDown, MouseScrollUp
from textual.pilot import Pilot

from rnnlm_tui.client import control
from rnnlm_tui.errors import CheckpointError, InputError
from rnnlm_tui.schema.protocol import CommandResult
from rnnlm_tui.schema.sampling import Inspection, InspectRequest, SampleRequest
from rnnlm_tui.store.kept_samples import search
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.store.state import append_history, read_history
from rnnlm_tui.tui.actions import Pane
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.versus import VersusScreen
from tests.fakes import answers as plausible
from tests.homes import trained, with_checkpoints
from tests.tui.fakes import FakeSampler
from tests.tui.panes.seeing import (
    press,
    running_at_home,
    screen_text,
    until_shown,
)
from tests.tui.support import at_home, lines_of, until

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

    def bits(text: str) -> float:
        return 1.0 + crc32(f"{text}{step}".encode()) % 400 / 100 + (4_000 - step) / 2_000

    tokens = [
        one if one.bits is None else one.model_copy(update={"bits": bits(one.text)})
        for one in found.tokens
    ]
    return found.model_copy(update={"tokens": tuple(tokens)})


def sampler(**changes: object) -> FakeSampler:
    """A sampler of `TEXTS`."""
    fake = FakeSampler(texts=words_of, answers={InspectRequest: surprised})
    return replace(fake, **changes)  # type: ignore[arg-type]


def pane(app: RnnlmApp) -> VersusScreen:
    """The pane, which must be the visible one."""
    screen = app.pane_screen
    assert isinstance(screen, VersusScreen)
    return screen


def focused(app: RnnlmApp) -> str:
    """The id of the widget with the focus."""
    return str(app.focused.id) if app.focused is not None else ""


@asynccontextmanager
async def comparing(
    pane: Pane = "versus", *, keymap: str = "", **changes: object
) -> AsyncIterator[tuple[RnnlmApp, Pilot[int], FakeSampler]]:
    """The pane of a run that trains, beside one with another tokenizer that has finished."""
    fake = sampler(**changes)
    with_checkpoints(trained("brisk-heron"), {3_700: 4.1}, tokenizer="[]")
    with running_at_home():
        async with at_home(pane=pane, size=(120, 40), sampler=fake, keymap=keymap) as opened:
            yield (*opened, fake)


async def sample(app: RnnlmApp, pilot: Pilot[int], keys: str | Sequence[str], *texts: str) -> None:
    """Press keys, the last of which samples, and wait for the samples, their scores, and texts."""
    await press(pilot, keys)
    await until(pilot, lambda: not pane(app).sampling)
    await until_shown(pilot, *texts)


def scored(fake: FakeSampler) -> list[InspectRequest]:
    """The requests for scores."""
    return [one for one in fake.asked if isinstance(one, InspectRequest)]


async def test_two_texts_are_sampled_compared_scored_laid_out_in_a_grid_and_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def saved(name: str) -> bool:
        file = tmp_path / f"plain-otter-{name}.md"
        return file.exists() and TEXTS[1_000].strip() in file.read_text()

    async with comparing() as (app, pilot, fake):
        await until_shown(pilot, "A plain-otter @best", "step 3,700, val 58.1", "step 1,000")
        await until(pilot, lambda: focused(app) == "prompt-box")
        await press(pilot, "ctrl+s ctrl+y", "no text yet")
        await sample(app, pilot, [*"The Union", "enter"], "A scores B’s text", "B scores A’s text")
        first, second = fake.requests
        assert [step_of(one.checkpoint) for one in (first, second)] == [3_700, 1_000]
        assert (first.prompt, first.settings) == (second.prompt, second.settings)
        await until(pilot, lambda: [kept.step for kept in search()] == [1_000, 3_700])
        await until(pilot, lambda: read_history() == ["The Union"])
        steps = [step_of(one.checkpoint) for one in scored(fake)]
        assert steps == [3_700, 1_000, 1_000, 3_700], "each side its own text first"
        assert all(one.ids and one.prompt == "The Union" for one in scored(fake))

        await press(
            pilot, "escape shift+right", "differs 1 of 1", "A the Congress must", "B it is a"
        )
        await press(pilot, "shift+left", "differs 1 of 1")
        await pilot.press("tab", "ctrl+s")
        await until(pilot, lambda: saved("side-by-side"))
        await pilot.press("ctrl+y")
        await until(pilot, lambda: app.clipboard == f"The Union{TEXTS[1_000]}")

        await press(pilot, "shift+tab ctrl+t", "surprise, A’s text", "Largest differences")
        scores = pane(app).scores
        await until(pilot, lambda: scores.at is not None)
        assert len(scored(fake)) == 4, "it is known from before"
        most, less, *_ = scores.order
        for key, at in (
            ("shift+right", less), ("shift+left", most), ("right", most + 1), ("left", most),
        ):  # fmt: skip
            await pilot.press(key)
            assert scores.at == at
        await press(pilot, "tab", "surprise, B’s text", "it is a time", "of 18 tokens")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: saved("differences"))

        await sample(app, pilot, "ctrl+g")
        await until_shown(pilot, "Checkpoint × temperature", "0.4", "0.8", "1.0", "1.3")
        asked = fake.requests[2:]
        assert [one.settings.temperature for one in asked] == [0.4, 0.8, 1.0, 1.3] * 2
        assert all(one.settings.max_new_tokens == 60 for one in asked)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: saved("grid"))

        grid = pane(app).grid.shown
        assert grid is not None
        await pilot.press("down", "right", "right", "right", "left")
        assert pane(app).grid.cell is [*grid.texts.values()][1][2]
        await press(pilot, "escape", "Same and different")
        await until(pilot, lambda: focused(app) == "side-b")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: focused(app) == "sample-grid")
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "prompt")
        current = app.prompt_session.tree.current
        assert current is not None
        assert (current.prompt, current.text) == ("The Union", TEXTS[1_000])
        assert current.settings.temperature == 1.0
        assert app.prompt_session.prompt == "The Union"


async def test_sides_are_walked_added_removed_and_of_current_weights_or_another_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []

    def send(_run: RunDirectory, verb: str) -> CommandResult:
        sent.append(verb)
        place = "snapshots/step-000003751-aa"
        return CommandResult(id="1", ok=True, status="running", step=3_752, checkpoint=place)

    monkeypatch.setattr(control, "send", send)
    async with comparing() as (app, pilot, fake):
        await sample(app, pilot, [*"We", "enter"], "B scores A’s text")
        await pilot.press("escape")
        assert focused(app) == "side-a"
        await pilot.press("tab")
        assert focused(app) == "side-b"
        await press(pilot, "ctrl+k", "B plain-otter @now", "current weights")
        assert "it is a time" not in screen_text(app)
        assert "We is strong, and the Congress must act" in screen_text(app)
        await sample(app, pilot, "enter", "step 3,752", "B scores A’s text")
        assert "snapshots/step-000003751-aa" in fake.requests[-1].checkpoint
        assert sent == ["snapshot"]
        await sample(app, pilot, "ctrl+g")
        assert len(fake.requests) == 4 + 8
        assert sent == ["snapshot"] * 2, "one for a row"
        await pilot.press("escape")
        await until(pilot, lambda: focused(app) == "side-b")
        await press(pilot, "ctrl+k", "B plain-otter @last", "step 3,750")
        await until(pilot, lambda: fake.loaded[-1:] and fake.loaded[-1].endswith("000003750"))
        await pilot.press("tab")
        assert focused(app) == "prompt-box"
        await pilot.press("tab", "shift+tab", "shift+tab")
        assert focused(app) == "side-b"

        await pilot.press("ctrl+n")
        await until(pilot, lambda: focused(app) == "side-c")
        await sample(app, pilot, "ctrl+n enter", "D scores", "enter Generate all", "distinct")
        assert focused(app) == "side-d"
        await press(pilot, "ctrl+t", "surprise, D’s text", "better  A")
        await press(pilot, "delete", "surprise, C’s text", "better  A")
        await press(pilot, "escape", "Same and different")
        await until(pilot, lambda: focused(app) == "side-c")
        await pilot.press("delete")
        await until(pilot, lambda: focused(app) == "side-b")

        await sample(app, pilot, "ctrl+r", "seed 8, the same for both", "B scores A’s text")
        assert [one.settings.seed for one in fake.requests[-2:]] == [8, 8]
        app.prompt_session.random_seed = True
        await sample(app, pilot, "enter", "seed random, the same for both")
        [seed] = {one.settings.seed for one in fake.requests[-2:]}
        await until_shown(pilot, f"seed {seed}")

        await press(pilot, "ctrl+o", "Side B: run", "finished, 1 checkpoint")
        await press(pilot, "down enter", "B brisk-heron @best")
        await sample(app, pilot, "enter", "two tokenizers", "bits/byte")
        assert "brisk-heron" in fake.requests[-1].checkpoint
        assert {one.prompt for one in scored(fake) if not one.ids} == {f"We{TEXTS[3_700]}"}
        shutil.rmtree(find_run("brisk-heron").path)
        asked = len(fake.requests)
        await sample(app, pilot, "enter", "✗ ", "brisk-heron")
        assert len(fake.requests) == asked + 1


async def test_escape_stops_the_running_side_and_errors_stay_with_their_texts() -> None:
    gate = asyncio.Event()
    async with comparing(gate=gate) as (app, pilot, fake):
        await press(pilot, [*"We", "enter"], "We is strong, and", "esc Stop", "● 14 of 100 tokens")
        await press(pilot, "enter", "already sampling, esc stops it")
        await sample(app, pilot, "escape", "■ 14 tokens, stopped")
        assert len(fake.requests) == 1
        assert focused(app) == "prompt-box"

        def damaged(request: SampleRequest) -> None:
            if step_of(request.checkpoint) == 1_000:
                raise CheckpointError("model.safetensors is damaged", hint="^k chooses another")

        fake.answers[SampleRequest] = damaged  # type: ignore[assignment]
        damage = "✗ model.safetensors is damaged. ^k chooses another"
        await sample(app, pilot, "enter", "must act on", damage)
        await until(pilot, lambda: [kept.step for kept in search()] == [3_700, 3_700])

        fake.answers, fake.ask_gate = {}, asyncio.Event()
        await press(pilot, "enter", "17 tokens   4.1 bits/token", "esc Stop")
        await pilot.press("escape")  # while the first text is scored
        fake.ask_gate.set()
        await sample(app, pilot, (), "17 tokens   4.1 bits/token")
        fake.answers = {InspectRequest: InputError("the vocabulary has no é")}
        await sample(app, pilot, "! enter", "A scores B’s text the vocabulary has no é")
        await press(pilot, "ctrl+t", "✗ the vocabulary has no é")

        def other(request: InspectRequest) -> Inspection:
            found = surprised(request)
            word = found.tokens[0].model_copy(update={"text": f"<{step_of(request.checkpoint)}>"})
            return found.model_copy(update={"tokens": (word, *found.tokens[1:])})

        fake.answers = {InspectRequest: other}
        keys = ["escape", "tab", "tab", *"café olé", "ctrl+t"]
        await press(pilot, keys, "✗ the two tokenizers read this text differently")

        fake.answers = {InspectRequest: surprised}
        await pilot.press("escape")
        asked = len(fake.requests)
        shutil.rmtree(find_run("plain-otter").checkpoints_path / "step-000001000")
        app.watcher.poll_now()
        await until_shown(pilot, "step 1,000, deleted")
        await sample(app, pilot, "enter", "✗ step 1,000 was deleted: ^k chooses another")
        assert len(fake.requests) == asked + 1


async def test_long_texts_scroll_together_and_prompts_begin_on_the_same_line() -> None:
    long = {3_700: [f" w{at}" for at in range(300)], 1_000: [" longer"] * 300}
    async with comparing(texts=lambda request: [long[step_of(request.checkpoint)]]) as (
        app, pilot, _,
    ):  # fmt: skip
        await sample(app, pilot, [*"First", "enter"])
        await sample(app, pilot, ["ctrl+u", *"Second", "enter"])
        await pilot.press("escape", "home")
        await until(pilot, lambda: screen_text(app).count("Second ") >= 2)
        await pilot.press("pagedown", "pagedown", *["down"] * 8)
        await until(pilot, lambda: screen_text(app).count("First ") == 2)
        [row] = [at for at, line in enumerate(lines_of(app)) if line.count("First ") == 2]
        await pilot._post_mouse_events([MouseScrollUp], widget="#side-b")
        await until(pilot, lambda: lines_of(app)[row + 3].count("First ") == 2)
        await pilot.press("home")
        await until(pilot, lambda: "First" not in screen_text(app))

        await pilot.resize_terminal(80, 24)
        await press(pilot, "ctrl+t", " of 300 tok")
        scores = pane(app).scores
        assert scores.at is not None
        marked = scores.spans[scores.at].text
        rows = slice(3, 3 + app.screen.query_one("#difference-strip").size.height)

        def in_view() -> bool:
            return f"{marked} " in " ".join(lines_of(app)[rows])

        await until(pilot, in_view)
        turned = MouseScrollUp if scores.at > 150 else MouseScrollDown
        await pilot._post_mouse_events([turned] * 9, widget="#difference-strip")
        await until(pilot, lambda: not in_view())
        await pilot.press("shift+left")  # it is the first one
        await until(pilot, in_view)


async def test_prompt_and_run_are_those_of_the_other_modes_and_keys_the_users() -> None:
    append_history("Tonight I want")
    keymap = 'next_checkpoint = "f10"\nremove_side = "f12"\n'
    async with comparing("prompt", keymap=keymap) as (app, pilot, fake):
        app.prompt_session.prompt = "from another mode"
        app.open_pane("versus")
        await until_shown(pilot, "from another mode", "Same and different")
        await until_shown(pilot, "F10 chooses the checkpoint of a side, ^o its run.")
        await press(pilot, "up", "Tonight I want")
        assert app.prompt_session.prompt == "Tonight I want"
        await press(pilot, "ctrl+u ctrl+t", "Type or paste a text and press enter to score it.")
        await press(pilot, [*"We the people of it", "enter"], "surprise, the prompt", "of 4 tokens")
        assert scored(fake)
        await pilot.press("escape", "enter")
        assert focused(app) == "prompt-box"
        await press(pilot, ["ctrl+u", *"our nation is", "enter"], "our nation is", "of 2 tokens")
        await press(pilot, "escape f12", "two sides are the least: F10 changes the checkpoint")
        await press(pilot, ["ctrl+n"] * 3, "4 sides are the most possible: F12 removes one")

        app.select_run(find_run("brisk-heron"))
        await until_shown(pilot, "A brisk-heron @best", "val ppl")
        await pilot.press("escape")
        app.watcher.open(None)  # nothing reads the other run
        app.run_directory = find_run("plain-otter")
        app.snapshot = None
        await until(pilot, lambda: not pane(app).found.sides)
        keys = ("enter", "ctrl+t", "ctrl+g", "ctrl+t", "ctrl+n", "tab", "shift+right", "f10")
        await press(pilot, keys, "reading the run")
        app.run_directory = None
        pane(app).refresh_all()
        await press(pilot, [*keys, "ctrl+s"], "^l Runs")
        assert not fake.requests
