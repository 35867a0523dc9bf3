"""The prompt pane's overlays: lists of runs and weights, of kept samples and states, and of presets
of settings."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest

from rnnlm_tui import store
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.sampling import InspectRequest, KeepStateRequest
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.kept_samples import KeptSample, all_samples, search
from rnnlm_tui.store.paths import states_dir
from rnnlm_tui.store.states import METADATA_KEY, StateInfo, new_state_path, write_state_file
from rnnlm_tui.tui.screens.setting_presets import own_presets
from rnnlm_tui.tui.screens.versus import VersusScreen
from rnnlm_tui.tui.threads import wait_for_threads
from rnnlm_tui.tui.views.side_facts import texts_markdown
from tests.homes import LOSSES, tensor_file, trained, with_checkpoints
from tests.tui.demo_run import NOW
from tests.tui.fakes import FakeSampler
from tests.tui.panes.asking import drawn, pane, run_at_home, sampling, worker_writes_snapshots
from tests.tui.panes.seeing import press, screen_text, until_shown
from tests.tui.support import until


def kept(number: int, prompt: str, text: str, run: str = "plain-otter") -> KeptSample:
    """A sample with this number as its seed."""
    return KeptSample(
        id=f"sample{number}", time=NOW - 3_600 + number, run=run, step=3_700, ids=(1, 2, 3),
        path="/runs/plain-otter/checkpoints/step-000003700", prompt=prompt, text=text,
        settings=SamplingConfig(temperature=1.1, top_k=40, seed=number), seed=number, tokens=3,
        bits_per_token=4.1, reason="length",
    )  # fmt: skip


def keep_three_samples() -> None:
    all_samples().append(kept(1, "We must", " act on the budget"))
    all_samples().append(kept(2, "The Union", " is strong"))
    all_samples().append(kept(3, "The economy", " needs a budget", "brisk-heron"))


def keep_state(
    name: str, cell_type: str = "elman", num_layers: int = 2, hidden_size: int = 192
) -> str:
    """Write a state of the open run's model into the home, without tensors; return its path."""
    info = StateInfo(
        name=name, created=NOW - 60, run="plain-otter", step=3_700, cell_type=cell_type,
        num_layers=num_layers, hidden_size=hidden_size, vocab_size=2_048, tokenizer="0" * 64,
        text="The state of the Union", tokens=5,
    )  # fmt: skip
    path = new_state_path(name)
    write_state_file(path, tensor_file({METADATA_KEY: info.header()}))
    return str(path)


async def test_kept_samples_are_searched_exported_deleted_restored_and_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with sampling() as (app, pilot, sampler):
        await press(pilot, "f7", "nothing sampled yet")
        await press(pilot, "enter space w d u", "nothing to undo")
        await pilot.press("escape")
        keep_three_samples()
        await pilot.press("f7")
        # newest first, with the whole sample under the cursor
        await until_shown(pilot, "3 samples", "The economy needs a budget", "top-k 40")
        lines = [line for line in screen_text(app).splitlines() if "3,700" in line]
        order = ["economy", "Union", "We must"]
        assert [word for line in lines for word in order if word in line] == order
        await press(pilot, "down down", "seed 1, temperature 1.1", "We must act on the budget")
        # words in any case
        await pilot.press("slash", *"BUDGET", "space", *"must")
        await until_shown(pilot, "/ BUDGET must█", "1 sample", "We must act on the budget")
        await press(pilot, [*["backspace"] * 5, "enter"], "2 samples", "enter reuse")
        await press(pilot, "escape", "3 samples")
        await press(pilot, ["slash", *"nowhere"], "no sample has all these words")
        await press(pilot, "ctrl+u", "3 samples")
        await pilot.press("enter", "home")
        # export the marked ones
        await press(pilot, "space space", "2 marked")
        await press(pilot, "w", "Export 2 samples as", "markdown")
        await press(pilot, "down down enter", "saved as")
        text = Path("samples.md").read_text()
        assert [words in text for words in ("needs a budget", "is strong", "act on")] == [1, 1, 0]
        # delete, and undo again if it fails
        await pilot.press("up", "space", "end", "space", "d")
        await until_shown(pilot, "2 samples deleted, u undoes it", "The Union is strong")
        assert [sample.seed for sample in search()] == [2]
        await until(pilot, lambda: "marked" not in screen_text(app))
        full = StorageError("can't write samples.jsonl: the disk is full")
        begun, late, arrived = threading.Event(), threading.Event(), threading.Event()

        def search_late() -> Sequence[KeptSample]:
            found = search()
            begun.set()
            late.wait(60)
            arrived.set()
            return found

        with monkeypatch.context() as broken:
            broken.setattr(store.kept_samples, "restore", Mock(side_effect=full))
            broken.setattr(store.kept_samples, "search", search_late)
            await press(pilot, "u", f"✗ {full}")
            await until(pilot, begun.is_set)
        await press(pilot, "u", "2 samples restored", "3 samples")
        late.set()  # what was read before the samples were restored comes after
        await until(pilot, arrived.is_set)
        await asyncio.to_thread(wait_for_threads)
        await press(pilot, "u", "nothing to undo")
        assert "3 samples" in screen_text(app)
        # use one again
        await pilot.press("home", "down", "enter")
        await until(pilot, lambda: pane(app).box.text == "The Union")
        await until_shown(pilot, "temperature  1.1", "top-k  40", "seed  2")
        assert (await drawn(app, pilot, sampler, "enter")).settings.seed == 2
        await until(pilot, lambda: len(search()) == 4)
        await press(pilot, "f7", "4 samples")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.pane_screen)


async def test_a_state_is_kept_used_deleted_restored_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with sampling(FakeSampler()) as (app, pilot, sampler):
        await press(pilot, "f8", "none kept yet")
        await press(pilot, "p", "Keep the state")
        await press(pilot, "enter", "✗ no text to keep the state after: type a prompt first")
        # it is kept though the list is closed meanwhile
        await press(pilot, ["escape", *"The Union", "f8", "p"], "Keep the state")
        gate = sampler.ask_gate = asyncio.Event()
        await press(pilot, "enter", "keeping the state")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.pane_screen)
        gate.set()
        await until_shown(pilot, "plain-otter kept: the state after 2 tokens")
        # after the newest text, under a name
        await drawn(app, pilot, sampler, "enter")
        await press(pilot, "f8 p", "Keep the state after the current text as")
        await press(pilot, ["ctrl+u", *"strong one", "enter"], "✗ invalid name for a state")
        await press(pilot, [*["backspace"] * 4, "enter"], "strong kept: the state after 5 tokens")
        request = sampler.asked[-1]
        assert isinstance(request, KeepStateRequest)
        assert (request.prompt, len(request.ids), request.position) == ("The Union", 3, None)
        assert request.path == str(states_dir() / "strong.safetensors")
        assert request.run == "plain-otter"
        await pilot.press("escape")
        # the beginning of the next sample
        path = Path(keep_state("congress"))
        await press(pilot, "f8", "congress", "elman, 2 x 192", "5 tokens", "1 state")
        await press(pilot, "down enter", "Prompt, from state congress")
        await drawn(app, pilot, sampler, *" is", "enter")
        assert sampler.requests[-1].state == str(path)
        assert app.prompt_session.shown.meta.endswith("step 3,700 · from state congress")
        # deleted, and no longer used; restored, copied
        data = path.read_bytes()
        await press(pilot, "f8", "● congress")
        await press(pilot, "down d", "congress deleted, u undoes it", "none kept yet")
        assert not path.exists()
        assert app.prompt_session.state == ""
        await press(pilot, "u", "congress restored", "1 state")
        assert path.read_bytes() == data
        await press(pilot, "e", "Copy congress to")
        await press(pilot, ["ctrl+u", *"x.safetensors", "enter"], "saved as")
        assert (tmp_path / "x.safetensors").read_bytes() == data
        # the initial state again
        await press(pilot, "enter f8", "● congress")
        await pilot.press("home", "enter")
        await until(pilot, lambda: "from state" not in screen_text(app).split("Prompt")[-1])
        # a damaged one, and one of another model
        Path(keep_state("broken")).write_bytes(b"?")
        keep_state("gates", "lstm", 1, 512)
        await press(pilot, "f8", "broken", "3 states")
        await press(pilot, "down enter", "✗", "or not a kept state")
        await pilot.press("down", "down", "enter")
        await until_shown(
            pilot, "gates is a state of lstm, 1 x 512, and plain-otter is elman, 2 x 192"
        )
        assert app.prompt_session.state == ""


async def test_checkpoints_of_any_run_and_presets_of_settings_are_chosen_from_lists(
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
        await press(pilot, "end enter", "step 1,000")
        first = await drawn(app, pilot, sampler, "enter")
        assert first.checkpoint.endswith("step-000001000")
        await until_shown(pilot, "2 characters, 5 tokens")
        await press(pilot, "ctrl+o enter", "● step 1,000")
        await press(pilot, "home enter", "@now")
        await drawn(app, pilot, sampler, "enter")
        await until_shown(pilot, "@now step 3,752, ")
        # a branch of a branch, to be drawn again below
        await drawn(app, pilot, sampler, "f3")
        # another run: text, prompt and settings stay
        await pilot.press("tab", *"0.5", "enter", "ctrl+o", "down", "enter")
        await until_shown(pilot, "Sample: weights of brisk-heron")
        assert "now" not in screen_text(app).split("weights of brisk-heron")[1].split("step")[0]
        text, tree = pane(app).transcript.newest, app.prompt_session.tree
        await press(pilot, "end enter", "brisk-heron step 1,000", "─ 2 characters ─")
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
        # presets set every filter alone; own ones are saved, deleted and restored
        saved = {"hot": {"temperature": -1}, "list": [1], "newer": {"temperature": 0.7, "new": 3}}
        app.settings["sampling_presets"] = saved
        await pilot.press(*["tab"] * 3, "3", "enter", "f9")
        await until_shown(pilot, "the run's", "careful", "temperature 0.5, top-p 0.9", "newer")
        assert not any(name in screen_text(app) for name in ("hot", "list"))
        await press(pilot, "down enter", "temperature  greedy")
        await press(pilot, "f9", "● greedy")
        await pilot.press("down", "down", "enter")
        await until_shown(pilot, "temperature  1.2", "top-k  off", "min-p  0.02", "max  100")
        assert not pane(app).settings_row.settings.sampling.is_greedy
        # an own one
        await press(pilot, ["tab", *"1.7", "enter", "f9"], "Presets of settings")
        await press(pilot, "s", "Save the current settings as")
        await press(pilot, [*"wild", "enter"], '✗ "wild" is a built-in preset')
        await press(pilot, [*" 2", "enter"], "saved as wild 2", "● wild 2", "temperature 1.7")
        own = own_presets(app.settings["sampling_presets"])[-1]
        assert (own.name, own.values["temperature"]) == ("wild 2", 1.7)
        await press(pilot, "end d", "wild 2 deleted, u undoes it")
        assert [one.name for one in own_presets(app.settings["sampling_presets"])] == ["newer"]
        await press(pilot, "u", "wild 2 restored", "● wild 2")
        await press(pilot, "home d", "the run's is built in and can't be deleted")


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
        await press(pilot, "enter", "B brisk-heron @best")
        refusal = "congress is a state of elman, 2 x 192, and brisk-heron is lstm, 1 x 192"
        await press(pilot, "f8", "congress")
        await press(pilot, "down enter", refusal)
        assert app.prompt_session.state == ""
        await press(pilot, "escape ctrl+o home", "Side B: run")
        await press(pilot, "enter", "Side B: weights of plain-otter")
        await press(pilot, "enter", "B plain-otter")
        # both can, and score the texts after it
        await press(pilot, "f8", "congress")
        await press(pilot, "down enter", "from state congress")
        await press(pilot, "enter", "B scores A’s text")
        assert [request.state for request in sampler.requests] == [path, path]
        scored = [one for one in sampler.asked if isinstance(one, InspectRequest)]
        assert {one.state for one in scored} == {path}
        await until(pilot, lambda: [sample.state for sample in search()] == [path, path])
        await until(pilot, lambda: not screen.sampling)
        assert "from state congress" in texts_markdown(screen.found)
        # the cells of the grid, one of which is opened
        await pilot.press("escape", "ctrl+g")
        await until(pilot, lambda: len(sampler.requests) >= 10 and not screen.sampling)
        assert {request.state for request in sampler.requests} == {path}
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "prompt")
        shown = app.prompt_session.shown
        assert (shown.state, shown.text) == (path, " s7t0 end")
