"""The prompt's text fields: the settings, and the box, in which words end up whatever has the
focus."""

from __future__ import annotations

import random
from functools import partial

import pytest
from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.widgets import Input
from textual.widgets.text_area import Edit, EditResult

from rnnlm_tui.schema.sampling import SampleRequest
from rnnlm_tui.store.state import append_history, read_history
from rnnlm_tui.store.trash import list_trash
from rnnlm_tui.tui._textual import key_of_character
from rnnlm_tui.tui.actions import ACTIONS, types_text
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.widgets.prompt import PromptBox
from rnnlm_tui.tui.widgets.settings_row import SETTINGS, SettingInput
from tests.homes import trained
from tests.tui.panes.asking import drawn, pane, sampled, sampling
from tests.tui.panes.seeing import press, screen_text, until_shown
from tests.tui.support import at_home, until
from tests.tui.test_cut_values import box_text

JOINED = ("می\u200cخواهم", "👩\u200d👩\u200d👧 ❤\ufe0f", "葛\U000e0100", "क्\u200dष")
"""Texts with joiners and variation selectors."""
LARGEST = str(2**63 - 1)
KEYS = {key for entry in ACTIONS for key in entry.keys if types_text(key)}
"""Every key of an action that types a character."""
SIGNS = [chr(code) for code in range(32, 127) if key_of_character(chr(code)) in KEYS]


def type_word(app: RnnlmApp, word: str) -> None:
    """Send the word's keys as fast as they can be read."""
    for sign in word:
        app.post_message(Key(key_of_character(sign), sign))


def box_of(app: RnnlmApp) -> PromptBox:
    """The text box of the app's pane."""
    assert app.pane_screen is not None
    assert app.pane_screen.text_box is not None
    return app.pane_screen.text_box


def holds(field: Input | PromptBox, word: str) -> bool:
    """Whether the field has the word and nothing else."""
    return (field.value if isinstance(field, Input) else field.text) == word


async def test_the_box_takes_text_line_breaks_and_earlier_prompts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    earlier = ["We must", "We must act", "Tonight I want"]
    for prompt in earlier:
        append_history(prompt)
    edits: list[int] = []
    edit = PromptBox.edit

    def counting(box: PromptBox, change: Edit) -> EditResult:
        edits.append(len(change.text))
        return edit(box, change)

    async with sampling() as (app, pilot, sampler):
        box = pane(app).box

        async def write(*keys: str, holds: str) -> None:
            await pilot.press(*keys)
            await until(pilot, lambda: box.text == holds)

        async def sent(text: str) -> None:
            app.post_message(Key("enter", "\r"))
            await sampled(app, pilot, sampler, len(sampler.requests) + 1)
            assert sampler.requests[-1].prompt == text
            await pilot.press("ctrl+u")

        history = pane(app).frame.history
        await until(pilot, lambda: len(history.matches("must")) == 2)
        await until_shown(pilot, "↑ earlier prompts")
        await write("x", holds="x")
        await until_shown(pilot, "1 character ")
        await write("ctrl+u", *"q1r?w", "ctrl+j", *"two", holds="q1r?w\ntwo")
        # earlier prompts, those with the unsent text, and back to it
        await write("ctrl+u", *"new", "up", holds=earlier[2])
        await write("up", "up", "up", holds=earlier[0])
        await write("down", "down", "down", holds="new")
        await write("ctrl+u", *"MUST", holds="MUST")
        await until_shown(pilot, "↑ 2 prompts with this text")
        await write("up", holds=earlier[1])
        await write("up", "up", holds=earlier[0])
        await write("down", holds=earlier[1])
        await write("down", "down", holds="MUST")
        await write("ctrl+u", *earlier[0], "up", holds=earlier[2])
        await write("ctrl+u", *"new", holds="new")
        await sent("new")
        await until(pilot, lambda: read_history() == [*earlier, "new"])
        # keys that are sent at once act in order
        keys = [*"one", "ctrl+u", *"two!", "backspace", "tab", *"1.5", "enter", "ctrl+j", "x"]
        for name in keys:
            app.post_message(Key(name, name if len(name) == 1 else None))
        await sent("two\nx")
        assert sampler.requests[-1].settings.temperature == 1.5
        # many characters are inserted together
        text = "the state of the union " * 40
        with monkeypatch.context() as counted:
            counted.setattr(PromptBox, "edit", counting)
            type_word(app, text)
            await sent(text)
        assert sum(edits) == len(text)
        assert len(edits) < len(text) / 10
        app.post_message(Paste("CR\rLF\nCRLF\r\nLS\u2028end"))
        await sent("CR\nLF\nCRLF\nLS\nend")
        # joiners and variation selectors reach the model, typed or pasted
        for text in JOINED:
            app.post_message(Paste(text))
            type_word(app, text)
            await sent(text + text)
            assert "from the paste" not in screen_text(app)
        app.post_message(Paste("x\r" * 60_000))
        await until_shown(pilot, "of 120,000 characters pasted")


def tabs(name: str, start: str = "") -> list[str]:
    """The keys from the prompt, or from another setting, to a setting."""
    return ["tab"] * (SETTINGS.index(name) - (SETTINGS.index(start) if start else -1))


async def test_settings_are_edited_in_place_and_an_invalid_one_samples_nothing() -> None:
    async with sampling() as (app, pilot, sampler):
        box, row = pane(app).box, pane(app).settings_row

        async def sample() -> SampleRequest:
            await until(pilot, lambda: app.focused is box)
            return await drawn(app, pilot, sampler, "x", "enter")

        await press(pilot, ["tab", "tab", *"1.5"], "✗ top-p must be at most 1")
        # a notice below the row says it again
        await press(pilot, "enter x enter ctrl+r f9", "at most 1\n ✗ top-p must be at most 1")
        assert sampler.requests == []
        # esc cancels, enter keeps
        await press(pilot, "tab tab", "enter Keep", "esc Cancel", "tab Next")
        await press(pilot, [*"0.5", "escape"], "✗ top-p must be at most 1")
        await press(pilot, ["tab", "tab", *"0.7", "enter"], "top-p  0.7", "enter Generate")
        await pilot.press("tab", "tab", *"1.5", "escape")
        await until(pilot, lambda: app.focused is pane(app).box and row.problem == "")
        await pilot.press("tab", "0", "escape")
        assert (row.settings.sampling.greedy, row.settings.sampling.top_p) == (False, 0.7)
        # the number of samples, the seed and the stop strings
        await press(pilot, [*tabs("samples"), *"65", "enter", "enter"], "✗ samples must be 1 to 64")
        await press(pilot, [*tabs("samples"), *"64", "shift+tab", *"rand"], "✗ seed")
        await press(pilot, [*"om", *tabs("stop", "seed")], "\\n is a line break, | between several")
        app.post_message(Paste("\r\nUser:"))
        await until(pilot, lambda: row.settings.sampling.stop == ("\nUser:",))
        app.post_message(Paste("x" * 101))
        await until_shown(pilot, "✗ stop has 107 characters, must have at most 100")
        assert (await drawn(app, pilot, sampler, "ctrl+u", "enter", "enter")).count == 64
        # all of them, in their order
        texts = {
            "temperature": "1.2", "top_p": "0.5", "top_k": "40", "min_p": "0.05", "seed": "99",
            "max_new_tokens": "12", "samples": "3", "typical_p": "0.9",
            "repetition_penalty": "1.1", "penalty_window": "64", "stop": "\\n| The end",
        }  # fmt: skip
        for name in SETTINGS:
            await pilot.press("tab", *texts.get(name, ""))
        await pilot.press("enter")
        request = await sample()
        wanted = {
            "temperature": 1.2, "top_p": 0.5, "top_k": 40, "min_p": 0.05, "seed": 99,
            "max_new_tokens": 12, "typical_p": 0.9, "repetition_penalty": 1.1,
            "penalty_window": 64, "stop": ("\n", " The end"),
        }  # fmt: skip
        assert request.settings == request.settings.model_copy(update=wanted)
        assert request.count == 3
        # off, and no stop string
        penalty = "repetition_penalty"
        to_stop = *tabs("stop", penalty), "delete", "enter"
        await pilot.press(*tabs(penalty), *"off", *to_stop)
        settings = (await sample()).settings
        assert (settings.repetition_penalty, settings.stop) == (1.0, ())
        # a temperature of zero
        await press(pilot, "tab 0 enter", "temperature  greedy")
        assert (await sample()).settings.is_greedy
        # through all of them, and back to the prompt
        await pilot.press(*tabs("stop"), "tab")
        await until(pilot, lambda: app.focused is box)
        await until_shown(pilot, "temperature  greedy  max  12 ")


async def test_the_row_of_settings_grows_with_its_values_and_shows_where_they_are_cut() -> None:
    def row(app: object) -> str:
        return next((line for line in screen_text(app).splitlines() if "typical-p" in line), "")

    async with sampling() as (app, pilot, _):
        assert row(app) == "", "it is off, and takes no room before it is edited"
        for columns in (60, 100, 80):
            await pilot.resize_terminal(columns, 24)
            await pilot.press("tab")
            await until(pilot, partial(row, app))
            for box in app.query(SettingInput):
                assert box.region.x >= 1, box.name
                assert box.region.right <= columns - 2, box.name
                assert box.region.width >= len(box.value) + 2, box.name
                assert f"{box.heading} " in screen_text(app), columns
            await pilot.press("shift+tab")
            await until(pilot, lambda: row(app) == "")
        for name, value, during, after in (
            ("top_p", "0.95", "0.95", "0.95"),
            ("max_new_tokens", "1000000", "1000000", "1000000"),
            ("temperature", "0.0000001", "0.0000001", "1e-7"),
            ("seed", LARGEST, LARGEST, LARGEST),
            ("typical_p", "0.1", "0.1", "0.1"),
            ("stop", "x" * 90, "…xxxxx", "xxxxx…"),
        ):
            setting = app.screen.query_one(f"#setting-{name}", SettingInput)
            app.screen.set_focus(setting)
            setting.value = value
            await pilot.press("end")
            shown = box_text(setting)
            await pilot.press("enter")
            assert shown.startswith(during)
            await until(pilot, lambda: box_text(setting).endswith(after))  # noqa: B023
            assert app.focused is pane(app).box


async def go_to_compare(app: RnnlmApp, pilot: Pilot[int]) -> None:
    """Go from Sample to Compare, whose box has the same prompt."""
    for mode in ("inspect", "versus"):
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == mode)  # noqa: B023
    await until(pilot, lambda: box_of(app).has_focus)


async def check_words(app: RnnlmApp, pilot: Pilot[int], draw: random.Random) -> set[str]:
    """Type a word with the focus anywhere. Return the ids of what had it."""
    screen, box, seen = app.screen, box_of(app), set[str]()
    places = [widget for widget in screen.focus_chain if widget is not box]
    settings = [place for place in places if isinstance(place, Input)]
    for place in (None, box, *(place for place in places if place not in settings[1:])):
        word = "".join(draw.choice(SIGNS) for _ in range(draw.randint(1, 8)))
        if not isinstance(place, Input):  # outside any field, a digit goes to another pane
            word = draw.choice([sign for sign in SIGNS if not sign.isdigit()]) + word
        box.put("")
        if isinstance(place, Input):
            place.value = ""
        screen.set_focus(place)
        type_word(app, word)
        field = place if isinstance(place, Input) else box
        await until(pilot, partial(holds, field, word))
        assert app.screen is screen, f"{word!r} acted"
        assert (box.text == "") == (field is not box)
        seen.add(str(place.id) if place is not None else "nothing")
    return seen


async def test_words_end_up_in_the_box_whatever_has_the_focus() -> None:
    draw = random.Random(21)
    trained("amber-vole")
    async with sampling(size=(120, 40)) as (app, pilot, sampler):
        for run in ("amber-vole", "plain-otter"):
            app.mark(run)
        # also after a visit to another pane, and no letter deletes the marked runs
        await pilot.press("escape", "2")
        await until(pilot, lambda: app.current_mode == "train")
        await pilot.press("4")
        await until(pilot, lambda: app.focused is box_of(app))
        seen = await check_words(app, pilot, draw)
        assert seen >= {"nothing", "prompt-box", "transcript", "setting-temperature"}
        box_of(app).focus()
        await go_to_compare(app, pilot)
        for view in ("leave_field", "switch('differences')", "switch('grid')"):
            box_of(app).put("")
            await app.screen.run_action(f"screen.{view}")
            await pilot.pause()
            seen |= await check_words(app, pilot, draw)
        assert seen >= {"side-b", "difference-strip", "sample-grid"}
        assert sampler.requests == []
        assert list_trash() == []


async def test_a_paste_ends_up_in_the_box_and_so_do_words_without_an_open_run() -> None:
    async with at_home(None, "prompt") as (app, pilot):
        for text in ("round 4 dogs", "round 4 dogsround 4 dogs"):
            await until(pilot, lambda: box_of(app).has_focus)
            type_word(app, "round ")
            app.screen.set_focus(None)
            app.post_message(Paste("4 dogs"))
            await until(pilot, partial(holds, box_of(app), text))
            if app.current_mode == "prompt":
                await go_to_compare(app, pilot)
