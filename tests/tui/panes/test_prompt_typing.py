"""Typing into the prompt box: text, line breaks, earlier prompts, and many keys at once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from textual.events import Key, Paste
from textual.widgets.text_area import Edit, EditResult

from rnnlm_tui.store.state import append_history, read_history
from rnnlm_tui.tui.views.prompt import Drawing
from rnnlm_tui.tui.widgets.prompt import PromptBox
from rnnlm_tui.tui.widgets.transcript import TranscriptEntry
from tests.tui.fakes import FakeServices
from tests.tui.panes.asking import last_request, pane
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import until


async def test_letters_and_digits_are_text_inside_the_box() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        await pilot.press(*"q1r?w")
        await until(pilot, lambda: pane(app).box.text == "q1r?w")
        assert app.current_mode == "prompt"


async def test_keys_sent_at_once_act_in_order() -> None:
    services = FakeServices(make_snapshot())
    async with opened(services, "prompt") as (app, pilot):
        for key in (
            *"one",
            "ctrl+u",
            *"two!",
            "backspace",
            "tab",
            *"1.5",
            "enter",
            "ctrl+j",
            "x",
            "enter",
        ):
            app.post_message(Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        assert last_request(services).prompt == "two\nx"
        assert last_request(services).settings.temperature == 1.5


async def test_ctrl_j_breaks_the_line_and_ctrl_u_clears() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        await pilot.press(*"one", "ctrl+j", *"two")
        await until(pilot, lambda: pane(app).box.text == "one\ntwo")
        await pilot.press("ctrl+u")
        await until(pilot, lambda: pane(app).box.text == "")


async def test_up_shows_earlier_prompts_and_down_the_unsent_text() -> None:
    for prompt in ("The economy", "Tonight I want"):
        append_history(prompt)
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        box = pane(app).box
        await pilot.press(*"new", "up")
        await until(pilot, lambda: box.text == "Tonight I want")
        await pilot.press("up", "up")
        await until(pilot, lambda: box.text == "The economy")
        await pilot.press("down", "down")
        await until(pilot, lambda: box.text == "new")
        await pilot.press("enter")
        await until(pilot, lambda: read_history() == ["The economy", "Tonight I want", "new"])


async def test_many_typed_characters_are_inserted_together_before_enter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services = FakeServices(make_snapshot())
    edits: list[int] = []
    edit = PromptBox.edit

    def counting(box: PromptBox, change: Edit) -> EditResult:
        edits.append(len(change.text))
        return edit(box, change)

    monkeypatch.setattr(PromptBox, "edit", counting)
    async with opened(services, "prompt") as (app, pilot):
        text = "the state of the union " * 40
        for character in text:
            app.post_message(
                Key("space" if character == " " else character, character).set_sender(app)
            )
        app.post_message(Key("enter", "\r").set_sender(app))
        await until(pilot, lambda: bool(services.fake_sampler.requests))
        assert last_request(services).prompt == text
        assert sum(edits) == len(text)
        assert len(edits) < len(text) / 10


@pytest.mark.parametrize(("text", "said"), [("x", "1 character "), ("xy", "2 characters ")])
async def test_character_counts_have_correct_plurals(text: str, said: str) -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (_app, pilot):
        await pilot.press(*text)
        await until_shown(pilot, said)


@pytest.mark.parametrize(
    "text", ["می\u200cخواهم", "👩\u200d👩\u200d👧 ❤\ufe0f", "葛\U000e0100", "क्\u200dष"]
)
async def test_joiners_and_variation_selectors_reach_the_model_pasted_or_typed(text: str) -> None:
    for pasted in (True, False):
        services = FakeServices(make_snapshot())
        async with opened(services, "prompt") as (app, pilot):
            if pasted:
                app.post_message(Paste(text))
            else:
                for character in text:
                    app.post_message(Key(f"u+{ord(character):x}", character).set_sender(app))
            app.post_message(Key("enter", "\r").set_sender(app))
            await until(pilot, partial(bool, services.fake_sampler.requests))
            assert last_request(services).prompt == text, "pasted" if pasted else "typed"
            assert "from the paste" not in screen_text(app)


@pytest.mark.parametrize("tabs", [0, 2], ids=["the prompt", "a setting"])
async def test_page_keys_scroll_the_texts_from_inside_a_field(tabs: int) -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        transcript = pane(app).transcript
        text = "\n".join(f"line {number}" for number in range(80))
        wanted = replace(app.prompt_session.wanted("first of all"), text=text)
        entry = TranscriptEntry(wanted.prompt)
        entry.begin(Drawing(wanted))
        transcript.add(entry)
        await pilot.press(*["tab"] * tabs)
        await until_shown(pilot, "line 79")
        await pilot.press("pageup")
        await until(pilot, lambda: "line 79" not in screen_text(app))
        await pilot.press(*["pageup"] * 12)
        await until_shown(pilot, "first of all")
        await pilot.press(*["pagedown"] * 13)
        await until_shown(pilot, "line 79")
