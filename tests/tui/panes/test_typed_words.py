"""On a pane with a text box, words end up in the box, whatever has the focus."""

from __future__ import annotations

import random
from functools import partial

from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.widgets import Input

from rnnlm_tui.store.trash import list_trash
from rnnlm_tui.tui._textual import key_of_character
from rnnlm_tui.tui.actions import ACTIONS, types_text
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.keymap import parse_keymap
from rnnlm_tui.tui.widgets.prompt import PromptBox
from tests.homes import trained
from tests.tui.panes.asking import sampling
from tests.tui.support import at_home, until

WORDS = 60
"""How many words are typed on each view of a pane."""
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


async def go_to_compare(app: RnnlmApp, pilot: Pilot[int]) -> None:
    """Go from Sample to Compare, whose box has the same prompt."""
    for mode in ("inspect", "versus"):
        await pilot.press("f2")
        await until(pilot, lambda: app.current_mode == mode)  # noqa: B023
    await until(pilot, lambda: box_of(app).has_focus)


async def check_words(app: RnnlmApp, pilot: Pilot[int], draw: random.Random) -> set[str]:
    """Type words with the focus anywhere. Return the ids of what had it."""
    screen, box, seen = app.screen, box_of(app), set[str]()
    places = [widget for widget in screen.focus_chain if widget is not box]
    for _ in range(WORDS):
        place = draw.choice([None, box, *places])
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
        for view in ("leave_field", "differences", "grid"):
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


def test_a_letter_as_the_key_of_an_action_beside_a_text_box_is_refused() -> None:
    keymap = parse_keymap('grid = "G"\nadd_side = "f10"\nshow_runs = "R"\nresume_elsewhere = "D"\n')
    assert keymap.problems == (
        "keymap.toml line 1: grid: G is typed into the text box of Side by side: choose a function"
        " key, or ctrl+ and a letter",
    )
