"""The prompt's text fields: the box for the prompt, and the settings above it."""

from __future__ import annotations

from functools import partial

import pytest
from textual.events import Key, Paste
from textual.widgets.text_area import Edit, EditResult

from rnnlm_tui.store.state import append_history, read_history
from rnnlm_tui.tui.widgets.prompt import PromptBox
from rnnlm_tui.tui.widgets.settings_row import SettingInput
from tests.tui.fakes import FakeSampler
from tests.tui.panes.asking import pane, run_at_home, sampled, sampling
from tests.tui.panes.seeing import screen_text, until_shown
from tests.tui.support import until

NAMES = (
    "temperature", "top-p", "top-k", "min-p", "max", "seed", "samples", "typical-p", "penalty",
    "window", "stop",
)  # fmt: skip


async def test_the_box_takes_text_line_breaks_and_earlier_prompts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for prompt in ("The economy", "Tonight I want"):
        append_history(prompt)
    edits: list[int] = []
    edit = PromptBox.edit

    def counting(box: PromptBox, change: Edit) -> EditResult:
        edits.append(len(change.text))
        return edit(box, change)

    async with sampling() as (app, pilot, sampler):
        box = pane(app).box
        await pilot.press("x")
        await until_shown(pilot, "1 character ")
        await pilot.press("ctrl+u", *"q1r?w")
        await until(pilot, lambda: box.text == "q1r?w")
        assert app.current_mode == "prompt"
        await pilot.press("ctrl+j", *"two")
        await until(pilot, lambda: box.text == "q1r?w\ntwo")
        await pilot.press("ctrl+u", *"new", "up")
        await until(pilot, lambda: box.text == "Tonight I want")
        await pilot.press("up", "up")
        await until(pilot, lambda: box.text == "The economy")
        await pilot.press("down", "down")
        await until(pilot, lambda: box.text == "new")
        await pilot.press("enter")
        await until(pilot, lambda: read_history() == ["The economy", "Tonight I want", "new"])
        await sampled(app, pilot, sampler, 1)
        # keys that are sent at once act in order
        keys = [*"one", "ctrl+u", *"two!", "backspace", "tab", *"1.5", "enter", "ctrl+j", "x"]
        for key in ("ctrl+u", *keys, "enter"):
            app.post_message(Key(key, key if len(key) == 1 else None))
        await sampled(app, pilot, sampler, 2)
        assert sampler.requests[-1].prompt == "two\nx"
        assert sampler.requests[-1].settings.temperature == 1.5
        # many characters are inserted together
        await pilot.press("ctrl+u")
        monkeypatch.setattr(PromptBox, "edit", counting)
        text = "the state of the union " * 40
        for character in text:
            name = "space" if character == " " else character
            app.post_message(Key(name, character).set_sender(app))
        app.post_message(Key("enter", "\r").set_sender(app))
        await sampled(app, pilot, sampler, 3)
        assert sampler.requests[-1].prompt == text
        assert sum(edits) == len(text)
        assert len(edits) < len(text) / 10


async def test_joiners_and_variation_selectors_reach_the_model_pasted_or_typed() -> None:
    texts = ("می\u200cخواهم", "👩\u200d👩\u200d👧 ❤\ufe0f", "葛\U000e0100", "क्\u200dष")
    async with sampling() as (app, pilot, sampler):
        for count, text in enumerate(texts):
            for pasted in (True, False):
                await pilot.press("ctrl+u")
                if pasted:
                    app.post_message(Paste(text))
                else:
                    for character in text:
                        app.post_message(Key(f"u+{ord(character):x}", character).set_sender(app))
                app.post_message(Key("enter", "\r").set_sender(app))
                await sampled(app, pilot, sampler, 2 * count + 2 - pasted)
                assert sampler.requests[-1].prompt == text, "pasted" if pasted else "typed"
                assert "from the paste" not in screen_text(app)


async def test_settings_are_reached_with_tab_edited_in_place_and_used() -> None:
    async with sampling() as (app, pilot, sampler):
        box = pane(app).box

        async def sample(count: int) -> None:
            await until(pilot, lambda: app.focused is box)
            await pilot.press("x", "enter")
            await sampled(app, pilot, sampler, count)

        await pilot.press("tab", *"1.2", "tab", *"0.5", "tab", *"40", "tab", *"0.05", "tab", *"12")
        await pilot.press("tab", *"99", "tab", *"3", "tab", *"0.9", "tab", *"1.1", "tab", *"64")
        await pilot.press("tab", *"\\n| The end", "enter")
        await sample(1)
        settings = sampler.requests[-1].settings
        assert settings.model_dump() == {
            **settings.model_dump(),
            "temperature": 1.2,
            "top_p": 0.5,
            "top_k": 40,
            "min_p": 0.05,
            "seed": 99,
            "max_new_tokens": 12,
            "typical_p": 0.9,
            "repetition_penalty": 1.1,
            "penalty_window": 64,
            "stop": ("\n", " The end"),
        }
        assert sampler.requests[-1].count == 3
        # off, and no stop string
        await pilot.press(*["tab"] * 9, *"off", "tab", "tab", "delete", "enter")
        await sample(2)
        settings = sampler.requests[-1].settings
        assert (settings.repetition_penalty, settings.stop) == (1.0, ())
        # a temperature of zero
        await pilot.press("tab", "0", "enter")
        await until_shown(pilot, "temperature  greedy")
        await sample(3)
        assert sampler.requests[-1].settings.is_greedy
        # through all of them, and back to the prompt
        await pilot.press(*["tab"] * 12)
        await until(pilot, lambda: app.focused is box)
        await until_shown(pilot, "temperature  greedy  max  12 ")


async def test_an_invalid_setting_shows_what_is_allowed_and_samples_nothing() -> None:
    async with sampling() as (app, pilot, sampler):
        row = pane(app).settings_row
        await pilot.press("tab", "tab", *"1.5")
        await until_shown(pilot, "✗ top-p must be at most 1")
        await pilot.press("enter", "x", "enter", "ctrl+r", "f9")
        await until_shown(pilot, "✗ top-p must be at most 1")
        assert sampler.requests == []
        # esc cancels, enter keeps
        await pilot.press("tab", "tab")
        await until_shown(pilot, "enter Keep", "esc Cancel", "tab Next")
        await pilot.press(*"0.5", "escape")
        await until_shown(pilot, "✗ top-p must be at most 1")
        await pilot.press("tab", "tab", *"0.7", "enter")
        await until_shown(pilot, "top-p  0.7", "enter Generate")
        await pilot.press("tab", "tab", *"1.5")
        await until_shown(pilot, "✗ top-p must be at most 1")
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is pane(app).box)
        assert row.problem == ""
        await pilot.press("tab", "0", "escape")
        settings = row.settings.sampling
        assert (settings.greedy, settings.top_p) == (False, 0.7)
        # the number of samples, the seed and the stop strings
        await pilot.press(*["tab"] * 7, *"65")
        await until_shown(pilot, "✗ samples must be 1 to 64")
        await pilot.press("enter", "enter")
        await until_shown(pilot, "✗ samples must be 1 to 64")
        await pilot.press(*["tab"] * 7, *"64", "shift+tab", *"rand")
        await until_shown(pilot, "✗ seed")
        await pilot.press(*"om", *["tab"] * 5)
        await until_shown(pilot, "\\n is a line break, | between several")
        stop = app.query_one("#setting-stop", SettingInput)
        stop.value = "x" * 101
        await until_shown(pilot, "✗ stop has 101 characters, must have at most 100")
        stop.value = ""
        await pilot.press("enter", "enter")
        await sampled(app, pilot, sampler, 1)
        assert sampler.requests[-1].count == 64


async def test_settings_that_are_off_take_no_row_but_all_are_visible_while_editing() -> None:
    def row(app: object) -> str:
        return next((line for line in screen_text(app).splitlines() if "typical-p" in line), "")

    async with sampling(FakeSampler(), run_at_home()) as (app, pilot, _):
        assert row(app) == ""
        for columns in (60, 64, 70, 76, 77, 80, 100, 119, 120, 200):
            await pilot.resize_terminal(columns, 24)
            await pilot.press("tab")
            await until(pilot, partial(row, app))
            await pilot.pause()
            boxes = list(app.query(SettingInput))
            assert [
                box.name for box in boxes if box.region.right > columns - 2 or box.region.x < 1
            ] == []
            assert [box.name for box in boxes if box.region.width < len(box.value) + 2] == []
            assert all(f"{name}  " in screen_text(app) for name in NAMES), columns
            await pilot.press("shift+tab")
            await until(pilot, lambda: row(app) == "")
        await pilot.resize_terminal(80, 24)
        await pilot.press(*["tab"] * 8, *"0.1", "enter")
        await until(pilot, lambda: "0.1" in row(app))
        assert app.focused is pane(app).box
        await pilot.resize_terminal(120, 40)
        await until(pilot, lambda: "temperature" in row(app))
