"""The prompt pane's overlays: kept samples, kept states and presets of settings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from rnnlm_tui import store
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import SamplingConfig
from rnnlm_tui.schema.sampling import KeepStateRequest
from rnnlm_tui.store.kept_samples import KeptSample, all_samples, search
from rnnlm_tui.store.paths import states_dir
from rnnlm_tui.store.states import METADATA_KEY, StateInfo, new_state_path, write_state_file
from rnnlm_tui.tui.screens.kept_samples import KeptSamplesScreen
from rnnlm_tui.tui.screens.setting_presets import BUILT_IN, OFF, own_presets
from rnnlm_tui.tui.screens.states import StatesScreen
from tests.homes import tensor_file
from tests.tui.fakes import FakeSampler, FakeServices
from tests.tui.panes.asking import pane, sampled, sampling
from tests.tui.panes.fakes import NOW, make_snapshot
from tests.tui.panes.seeing import screen_text, until_shown
from tests.tui.support import until


def kept(number: int, prompt: str, text: str, **changes: object) -> KeptSample:
    """A sample of an hour ago, with this number as its seed."""
    values: dict[str, object] = {
        "id": f"sample{number}",
        "time": NOW - 3_600 + number,
        "run": "plain-otter",
        "step": 3_700,
        "path": "/runs/plain-otter/checkpoints/step-000003700",
        "prompt": prompt,
        "text": text,
        "ids": (1, 2, 3),
        "seed": number,
        "settings": SamplingConfig(temperature=1.1, top_k=40, seed=number),
        "tokens": 3,
        "bits_per_token": 4.1,
        "reason": "length",
    }
    return KeptSample.model_validate({**values, **changes})


def with_samples() -> FakeServices:
    """Services, and three samples kept in the home."""
    keep(
        kept(1, "We must", " act on the budget"),
        kept(2, "The Union", " is strong"),
        kept(3, "The economy", " needs a budget", run="brisk-heron"),
    )
    return FakeServices(make_snapshot())


def keep(*samples: KeptSample) -> None:
    for sample in samples:
        all_samples().append(sample)


def keep_state(name: str, **changes: object) -> str:
    """Write a state of the open run's model into the home, without tensors; return its path."""
    values: dict[str, object] = {
        "name": name,
        "created": NOW - 60,
        "run": "plain-otter",
        "step": 3_700,
        "cell_type": "elman",
        "num_layers": 2,
        "hidden_size": 192,
        "vocab_size": 2_048,
        "tokenizer": "0" * 64,
        "text": "The state of the Union",
        "tokens": 5,
    }
    info = StateInfo.model_validate({**values, **changes})
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
        with_samples()
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

        def full(_samples: Iterable[KeptSample]) -> None:
            raise StorageError("can't write samples.jsonl: the disk is full")

        with monkeypatch.context() as broken:
            broken.setattr(store.kept_samples, "restore", full)
            await pilot.press("u")
            await until_shown(pilot, "✗ can't write samples.jsonl: the disk is full")
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
        keep(
            kept(1, "\x1b]0;x\x07[b]", "‮abc\x9b2J\n\n[/][@click=app.quit]", run="a\x1bb"),
            kept(2, "שלום عالم 葛\U000e0100", " 👩‍👩‍👧 漢字漢字" * 40),
        )
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
        keep_state("union", tokens=3)
        await pilot.press("f8")
        await until_shown(pilot, "congress", "elman, 2 x 192", "5 tokens", "2 states")
        await pilot.press("down", "enter")
        await until_shown(pilot, "Prompt, from state congress")
        await pilot.press(*" is", "enter")
        await sampled(app, pilot, sampler, 2)
        assert sampler.requests[-1].state == str(path)
        assert app.prompt_session.shown.meta.endswith("step 3,700 · from state congress")
        await pilot.press("f8")
        await until_shown(pilot, "● congress")
        await pilot.press("home", "enter")
        await until(pilot, lambda: "from state" not in screen_text(app).split("Prompt")[-1])
        # a damaged one, and one of another model
        Path(keep_state("broken")).write_bytes(b"?")
        keep_state("gates", cell_type="lstm", num_layers=1, hidden_size=512)
        await pilot.press("f8")
        await until_shown(pilot, "broken", "4 states")
        await pilot.press("down", "enter")
        await until_shown(pilot, "✗", "or not a kept state")
        await pilot.press("down", "down", "enter")
        await until_shown(
            pilot, "gates is a state of lstm, 1 x 512, and plain-otter is elman, 2 x 192"
        )
        assert isinstance(app.screen, StatesScreen)
        assert app.prompt_session.state == ""
        # deleted, restored, copied
        data = path.read_bytes()
        await pilot.press("up", "d")
        await until_shown(pilot, "congress deleted, u undoes it", "3 states")
        assert not path.exists()
        await pilot.press("u")
        await until_shown(pilot, "congress restored", "4 states")
        assert path.read_bytes() == data
        await pilot.press("e")
        await until_shown(pilot, "Copy congress to")
        await pilot.press("ctrl+u", *"x.safetensors", "enter")
        await until_shown(pilot, "saved as")
        assert (tmp_path / "x.safetensors").read_bytes() == data


async def test_presets_set_only_filters_and_own_ones_are_saved_deleted_and_restored() -> None:
    async with sampling() as (app, pilot, _):
        await pilot.press("f9")
        await until_shown(pilot, "● the run's", "careful", "temperature 0.5, top-p 0.9")
        await pilot.press("down", "down", "down", "enter")
        await until_shown(pilot, "temperature  1.2", "min-p  0.02", "seed  7", "max  100")
        await pilot.press("f9")
        await until_shown(pilot, "● wild")
        await pilot.press("up", "up", "enter")
        await until_shown(pilot, "temperature  greedy")
        assert pane(app).settings_row.settings.sampling.greedy
        await pilot.press("tab", *"1.7", "enter", "f9")
        await until_shown(pilot, "Presets of settings")
        await pilot.press("s")
        await until_shown(pilot, "Save the current settings as")
        await pilot.press(*"wild", "enter")
        await until_shown(pilot, '✗ "wild" is a built-in preset')
        await pilot.press(*" 2", "enter")
        await until_shown(pilot, "saved as wild 2", "● wild 2", "temperature 1.7")
        (own,) = own_presets(app.settings["sampling_presets"])
        assert own.settings.temperature == 1.7
        await pilot.press("end", "d")
        await until_shown(pilot, "wild 2 deleted, u undoes it")
        assert app.settings["sampling_presets"] == {}
        await pilot.press("u")
        await until_shown(pilot, "wild 2 restored", "● wild 2")
        await pilot.press("home", "d")
        await until_shown(pilot, "the run's is built in and can't be deleted")


def test_saved_presets_that_are_invalid_are_skipped() -> None:
    valid = {"temperature": 0.7}
    saved: dict[str, object] = {
        "good": valid,
        "hot": {"temperature": -1},
        "list": [1],
        "newer": {**valid, "unheard_of": 3},
    }
    assert [preset.name for preset in own_presets(saved)] == ["good", "newer"]
    assert own_presets("nonsense") == []


def test_a_preset_sets_every_filter_and_nothing_else() -> None:
    wild = next(preset for preset in BUILT_IN if preset.name == "wild")
    before = SamplingConfig(greedy=True, top_k=3, stop=("x",), max_new_tokens=9, seed=4)
    after = wild.applied(before)
    assert (after.greedy, after.top_k, after.min_p) == (False, 0, 0.02)
    assert (after.stop, after.max_new_tokens, after.seed) == (("x",), 9, 4)
    assert wild.matches(after)
    assert replace(wild, settings=OFF).about == "temperature 1.0"
