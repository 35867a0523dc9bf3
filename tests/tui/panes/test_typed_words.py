"""On a pane with a text box, words end up in the box, whatever has the focus."""

from __future__ import annotations

import random
from functools import partial

import pytest
from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.widgets import Input

from rnnlm_tui.store.trash import list_trash
from rnnlm_tui.tui._textual import key_of_character
from rnnlm_tui.tui.actions import ACTIONS, WITH_TEXT_BOX, Pane, types_text
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.keymap import parse_keymap
from rnnlm_tui.tui.widgets.prompt import PromptBox
from tests.tui.fakes import FakeServices
from tests.tui.panes.fakes import make_snapshot
from tests.tui.support import at_home, running_app, until

WORDS = 200
"""How many words are typed on each pane."""
KEYS = sorted({key for entry in ACTIONS for key in entry.keys if types_text(key)})
"""Every key of an action that types a character."""
SIGNS = "".join(
    next(chr(code) for code in range(32, 127) if key_of_character(chr(code)) == key) for key in KEYS
)


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


async def check_words(
    app: RnnlmApp, pilot: Pilot[int], pane: Pane, draw: random.Random, words: int
) -> set[str]:
    """Type words with the focus anywhere. Return the ids of what had it."""
    screen, box, seen = app.screen, box_of(app), set[str]()
    places = [widget for widget in screen.focus_chain if widget is not box]
    for _ in range(words):
        place = draw.choice([None, box, *places])
        word = "".join(draw.choice(SIGNS) for _ in range(draw.randint(1, 8)))
        if not isinstance(place, Input):  # outside any field, a digit goes to another pane
            word = draw.choice([sign for sign in SIGNS if not sign.isdigit()]) + word
        box.put("")
        if isinstance(place, Input):
            place.value = ""
        screen.set_focus(place)
        type_word(app, word)
        field = place if isinstance(place, Input) else None
        await until(pilot, partial(holds, field or box, word))
        assert (app.screen, app.current_mode) == (screen, pane), f"{word!r} acted"
        assert (box.text == "") == (field is not None)
        seen.add(str(place.id) if place is not None else "nothing")
    return seen


@pytest.mark.parametrize("seed", [21])
@pytest.mark.parametrize("pane", WITH_TEXT_BOX)
async def test_words_end_up_in_the_box_whatever_has_the_focus(pane: Pane, seed: int) -> None:
    draw, seen = random.Random(seed), set[str]()
    services = FakeServices(make_snapshot())
    async with running_app(services, pane=pane, size=(120, 40)) as (app, pilot):
        views = ("leave_field",) if pane == "prompt" else ("leave_field", "differences", "grid")
        for view in views:
            box_of(app).put("")
            await app.screen.run_action(f"screen.{view}")
            await pilot.pause()
            seen |= await check_words(app, pilot, pane, draw, WORDS // len(views) + 1)
        assert services.fake_sampler.requests == []
    others = {
        "prompt": {"transcript", "setting-temperature"},
        "versus": {"side-b", "difference-strip", "sample-grid"},
    }
    assert seen >= {"nothing", "prompt-box", *others[pane]}


@pytest.mark.usefixtures("three_at_home")
async def test_after_visits_to_other_panes_a_prompt_deletes_no_runs() -> None:
    marked: dict[str, object] = {"marked": ["amber-vole", "brisk-heron"]}
    async with at_home(pane="prompt", settings=marked) as (app, pilot):
        await pilot.press("escape", "2")
        await until(pilot, lambda: app.current_mode == "train")
        await pilot.press("4")
        await until(pilot, lambda: app.focused is box_of(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is not box_of(app))
        type_word(app, "The world, the President: 4")
        await until(pilot, lambda: box_of(app).text == "The world, the President: 4")
        assert list_trash() == []


@pytest.mark.parametrize("pane", WITH_TEXT_BOX)
async def test_a_paste_ends_up_in_the_box_and_so_do_words_without_an_open_run(pane: Pane) -> None:
    async with running_app(FakeServices(), pane=pane, run=None) as (app, pilot):
        box = box_of(app)
        await until(pilot, lambda: box.has_focus)
        type_word(app, "round ")
        app.screen.set_focus(None)
        app.post_message(Paste("4 dogs"))
        await until(pilot, lambda: box.text == "round 4 dogs")


def test_a_letter_as_the_key_of_an_action_beside_a_text_box_is_refused() -> None:
    keymap = parse_keymap('grid = "G"\nadd_side = "f10"\nshow_runs = "R"\nresume_elsewhere = "D"\n')
    assert keymap.problems == (
        "keymap.toml line 1: grid: G is typed into the text box of Side by side: choose a function"
        " key, or ctrl+ and a letter",
    )
