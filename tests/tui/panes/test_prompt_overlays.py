"""The prompt pane's overlays: kept samples, kept states and presets of settings."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import KeepStateRequest
from rnnlm_tui.store.kept_samples import KeptSample, all_samples, search
from rnnlm_tui.store.paths import samples_file, states_dir
from rnnlm_tui.store.states import METADATA_KEY, StateInfo, new_state_path, write_state_file
from rnnlm_tui.tui.screens.kept_samples import KeptSamplesScreen
from rnnlm_tui.tui.screens.setting_presets import own_presets
from rnnlm_tui.tui.screens.states import StatesScreen
from tests.homes import tensor_file
from tests.tui.fakes import FakeSampler
from tests.tui.panes.asking import pane, sampled, sampling
from tests.tui.panes.fakes import NOW
from tests.tui.panes.seeing import screen_text, until_shown
from tests.tui.support import until


def keep(number: int, prompt: str, text: str, run: str = "plain-otter") -> None:
    """Keep a sample of an hour ago, with this number as its seed."""
    kept = KeptSample(
        id=f"sample{number}", time=NOW - 3_600 + number, run=run, step=3_700, ids=(1, 2, 3),
        path="/runs/plain-otter/checkpoints/step-000003700", prompt=prompt, text=text,
        settings=SamplingConfig(temperature=1.1, top_k=40, seed=number), seed=number, tokens=3,
        bits_per_token=4.1, reason="length",
    )  # fmt: skip
    all_samples().append(kept)


def keep_three_samples() -> None:
    keep(1, "We must", " act on the budget")
    keep(2, "The Union", " is strong")
    keep(3, "The economy", " needs a budget", "brisk-heron")


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
        await pilot.press("f7")
        await until_shown(pilot, "nothing sampled yet")
        await pilot.press("enter", "space", "w", "d", "u")
        await until_shown(pilot, "nothing to undo")
        await pilot.press("escape")
        keep_three_samples()
        await pilot.press("f7")
        # newest first, with the whole sample under the cursor
        await until_shown(pilot, "3 samples", "The economy needs a budget", "top-k 40")
        lines = [line for line in screen_text(app).splitlines() if "3,700" in line]
        order = ["economy", "Union", "We must"]
        assert [word for line in lines for word in order if word in line] == order
        await pilot.press("down", "down")
        await until_shown(pilot, "seed 1, temperature 1.1", "We must act on the budget")
        # words in any case
        await pilot.press("slash", *"BUDGET", "space", *"must")
        await until_shown(pilot, "/ BUDGET must█", "1 sample", "We must act on the budget")
        await pilot.press(*["backspace"] * 5, "enter")
        await until_shown(pilot, "2 samples", "enter reuse")
        await pilot.press("escape")
        await until_shown(pilot, "3 samples")
        await pilot.press("slash", *"nowhere")
        await until_shown(pilot, "no sample has all these words")
        await pilot.press("ctrl+u")
        await until_shown(pilot, "3 samples")
        await pilot.press("enter", "home")
        # export the marked ones
        await pilot.press("space", "space")
        await until_shown(pilot, "2 marked")
        await pilot.press("w")
        await until_shown(pilot, "Export 2 samples as", "markdown")
        await pilot.press("down", "down", "enter")
        await until_shown(pilot, "saved as")
        text = Path("samples.md").read_text()
        assert "needs a budget" in text
        assert "is strong" in text
        assert "act on" not in text
        # delete, and undo again if it fails
        await pilot.press("up", "space", "end", "space", "d")
        await until_shown(pilot, "2 samples deleted, u undoes it", "The Union is strong")
        assert [sample.seed for sample in search()] == [2]
        assert "marked" not in screen_text(app)
        file = samples_file()
        moved = file.rename(file.with_name("moved"))
        file.mkdir()
        await pilot.press("u")
        await until_shown(pilot, "✗ can't read")
        file.rmdir()
        moved.rename(file)
        await pilot.press("u")
        await until_shown(pilot, "2 samples restored", "3 samples")
        await pilot.press("u")
        await until_shown(pilot, "nothing to undo")
        # use one again
        await pilot.press("home", "down", "enter")
        await until(pilot, lambda: pane(app).box.text == "The Union")
        await until_shown(pilot, "temperature  1.1", "top-k  40", "seed  2")
        await pilot.press("enter")
        await sampled(app, pilot, sampler, 1)
        assert sampler.requests[-1].settings.seed == 2
        # hostile texts are drawn as texts
        keep(4, "\x1b]0;x\x07[b]", "‮abc\x9b2J\n\n[/][@click=app.quit]", "a\x1bb")
        keep(5, "שלום عالم 葛\U000e0100", " 👩‍👩‍👧 漢字漢字" * 40)
        await pilot.press("f7")
        await until_shown(pilot, "6 samples", "漢字")
        await pilot.press("down")
        await until_shown(pilot, "␛]0;x␇[b]‹202e›abc‹9b›2J")
        text = screen_text(app)
        assert not any(ord(sign) < 32 and sign != "\n" for sign in text)
        assert "‮" not in text
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, KeptSamplesScreen))


async def test_a_state_is_kept_used_deleted_restored_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with sampling(FakeSampler()) as (app, pilot, sampler):
        await pilot.press("f8")
        await until_shown(pilot, "none kept yet")
        await pilot.press("p")
        await until_shown(pilot, "Keep the state")
        await pilot.press("enter")
        await until_shown(pilot, "✗ no text to keep the state after: type a prompt first")
        # it is kept though the list is closed meanwhile
        await pilot.press("escape", *"The Union", "f8", "p")
        await until_shown(pilot, "Keep the state")
        gate = sampler.ask_gate = asyncio.Event()
        await pilot.press("enter")
        await until_shown(pilot, "keeping the state")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, StatesScreen))
        gate.set()
        await until_shown(pilot, "plain-otter kept: the state after 2 tokens")
        # after the newest text, under a name
        await pilot.press("enter")
        await sampled(app, pilot, sampler, 1)
        await pilot.press("f8", "p")
        await until_shown(pilot, "Keep the state after the current text as")
        await pilot.press("ctrl+u", *"strong one", "enter")
        await until_shown(pilot, "✗ invalid name for a state")
        await pilot.press(*["backspace"] * 4, "enter")
        await until_shown(pilot, "strong kept: the state after 5 tokens")
        request = sampler.asked[-1]
        assert isinstance(request, KeepStateRequest)
        assert (request.prompt, len(request.ids), request.position) == ("The Union", 3, None)
        assert request.path == str(states_dir() / "strong.safetensors")
        assert request.run == "plain-otter"
        await pilot.press("escape")
        # the beginning of the next sample
        path = Path(keep_state("congress"))
        await pilot.press("f8")
        await until_shown(pilot, "congress", "elman, 2 x 192", "5 tokens", "1 state")
        await pilot.press("down", "enter")
        await until_shown(pilot, "Prompt, from state congress")
        await pilot.press(*" is", "enter")
        await sampled(app, pilot, sampler, 2)
        assert sampler.requests[-1].state == str(path)
        assert app.prompt_session.shown.meta.endswith("step 3,700 · from state congress")
        # deleted, and no longer used; restored, copied
        data = path.read_bytes()
        await pilot.press("f8")
        await until_shown(pilot, "● congress")
        await pilot.press("down", "d")
        await until_shown(pilot, "congress deleted, u undoes it", "none kept yet")
        assert not path.exists()
        assert app.prompt_session.state == ""
        await pilot.press("u")
        await until_shown(pilot, "congress restored", "1 state")
        assert path.read_bytes() == data
        await pilot.press("e")
        await until_shown(pilot, "Copy congress to")
        await pilot.press("ctrl+u", *"x.safetensors", "enter")
        await until_shown(pilot, "saved as")
        assert (tmp_path / "x.safetensors").read_bytes() == data
        # the initial state again
        await pilot.press("enter", "f8")
        await until_shown(pilot, "● congress")
        await pilot.press("home", "enter")
        await until(pilot, lambda: "from state" not in screen_text(app).split("Prompt")[-1])
        # a damaged one, and one of another model
        Path(keep_state("broken")).write_bytes(b"?")
        keep_state("gates", "lstm", 1, 512)
        await pilot.press("f8")
        await until_shown(pilot, "broken", "3 states")
        await pilot.press("down", "enter")
        await until_shown(pilot, "✗", "or not a kept state")
        await pilot.press("down", "down", "enter")
        await until_shown(
            pilot, "gates is a state of lstm, 1 x 512, and plain-otter is elman, 2 x 192"
        )
        assert isinstance(app.screen, StatesScreen)
        assert app.prompt_session.state == ""


async def test_presets_set_every_filter_alone_and_own_ones_are_saved_deleted_and_restored() -> None:
    valid = {"temperature": 0.7}
    saved = {"hot": {"temperature": -1}, "list": [1], "newer": {**valid, "unheard_of": 3}}
    async with sampling() as (app, pilot, _):
        app.settings["sampling_presets"] = saved
        await pilot.press(*["tab"] * 3, "3", "enter", "f9")
        await until_shown(pilot, "the run's", "careful", "temperature 0.5, top-p 0.9", "newer")
        assert not any(name in screen_text(app) for name in ("hot", "list"))
        await pilot.press("down", "enter")
        await until_shown(pilot, "temperature  greedy")
        await pilot.press("f9")
        await until_shown(pilot, "● greedy")
        await pilot.press("down", "down", "enter")
        await until_shown(pilot, "temperature  1.2", "top-k  off", "min-p  0.02", "max  100")
        assert not pane(app).settings_row.settings.sampling.is_greedy
        # an own one
        await pilot.press("tab", *"1.7", "enter", "f9")
        await until_shown(pilot, "Presets of settings")
        await pilot.press("s")
        await until_shown(pilot, "Save the current settings as")
        await pilot.press(*"wild", "enter")
        await until_shown(pilot, '✗ "wild" is a built-in preset')
        await pilot.press(*" 2", "enter")
        await until_shown(pilot, "saved as wild 2", "● wild 2", "temperature 1.7")
        own = own_presets(app.settings["sampling_presets"])[-1]
        assert (own.name, own.settings.temperature) == ("wild 2", 1.7)
        await pilot.press("end", "d")
        await until_shown(pilot, "wild 2 deleted, u undoes it")
        assert [one.name for one in own_presets(app.settings["sampling_presets"])] == ["newer"]
        await pilot.press("u")
        await until_shown(pilot, "wild 2 restored", "● wild 2")
        await pilot.press("home", "d")
        await until_shown(pilot, "the run's is built in and can't be deleted")
