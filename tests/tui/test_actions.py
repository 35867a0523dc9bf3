"""The table of actions is consistent with everything that is made from it."""

from __future__ import annotations

import re
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import pytest
from rich.segment import Segment
from textual.app import App
from textual.binding import Binding
from textual.color import Color
from textual.screen import Screen

from rnnlm_tui.tui.actions import (
    ACTIONS,
    PANES,
    Pane,
    action,
    actions_for,
    bindings_for,
    key_label,
    key_table,
    shown_keys,
    with_ascii_keys,
)
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.theme import AsciiMarks
from tests.tui.support import running_app, shows, text_of, until

AN_ARROW = re.compile(r"(?<!\S)(\^ v|< >|> <|\^[<>^v]|\^F\d+)(?!\S)")
"""An arrow or shift as the line filter draws them."""


def screen_of(pane: Pane) -> type:
    """The class of a pane's screen."""
    module = import_module(f"rnnlm_tui.tui.screens.{pane}")
    screen: type = getattr(module, f"{pane.capitalize()}Screen")
    return screen


def test_every_action_has_a_method_where_it_works() -> None:
    for entry in ACTIONS:
        owners: list[type] = (
            [RnnlmApp] if entry.on_app else list(map(screen_of, entry.panes or PANES))
        )
        method = f"action_{entry.textual_action.partition('.')[2].partition('(')[0]}"
        assert [owner.__name__ for owner in owners if not hasattr(owner, method)] == [], entry.id


def test_no_action_takes_the_place_of_one_that_textual_binds() -> None:
    """Textual's `screen.copy_text`, on ctrl+c, copies what the mouse has selected."""
    bindings = [Binding.make_bindings(cls.BINDINGS) for cls in (Screen, App)]
    of_textual = {binding.action for found in bindings for binding in found}
    assert "screen.copy_text" in of_textual
    assert {entry.textual_action for entry in ACTIONS} & of_textual == set()


def test_no_key_has_two_meanings_on_one_screen_and_each_is_bound_under_its_actions_id() -> None:
    for pane in PANES:
        keys = [key for entry in actions_for(pane) for key in entry.keys]
        assert sorted(keys) == sorted(set(keys))
        bound = {binding.id for binding in bindings_for(pane) if isinstance(binding, Binding)}
        ids = {entry.id for entry in actions_for(pane) if entry.keys}
        assert bound == ids - {"command_palette"}


def test_a_letter_and_a_function_key_mean_one_thing_on_all_screens() -> None:
    verbs: dict[str, set[str]] = {}
    for entry in ACTIONS:
        for key in entry.keys:
            if (key.isalpha() and len(key) == 1) or (key[0] == "f" and key[1:].isdigit()):
                verbs.setdefault(key, set()).add(entry.verb)
    assert {key: found for key, found in verbs.items() if len(found) > 1} == {}


def test_every_id_is_there_once_and_has_words() -> None:
    assert len({entry.id for entry in ACTIONS}) == len(ACTIONS)
    assert [
        entry.id
        for entry in ACTIONS
        if not (entry.verb and entry.help and (entry.keys or entry.palette))
    ] == []
    assert [entry.id for entry in ACTIONS if len(entry.verb) > 11] == []


def test_key_table_has_every_key_once() -> None:
    table = key_table()
    assert len(table) == sum(not entry.covered for entry in ACTIONS)
    assert ("space", "Train", action("pause").help, "`pause`") in table
    assert (
        "+ - 0",
        "Train, Compare",
        action("smoother").help,
        "`smoother` `rougher` `raw`",
    ) in table
    assert ("^p", "everywhere", action("next_theme").help, "`next_theme`") in table
    assert {name.strip("`") for row in table for name in row[3].split()} == {
        entry.id for entry in ACTIONS
    }


def test_an_unknown_action_is_an_error() -> None:
    with pytest.raises(KeyError):
        action("fly")


def test_keys_have_readable_labels_and_in_ascii_each_a_name_of_its_own() -> None:
    labels = {
        "ctrl+p": "^p", "f5": "F5", "question_mark": "?", "S": "S", "shift+left": "⇧←",
        "escape": "esc",
    }  # fmt: skip
    assert {key: key_label(key) for key in labels} == labels
    keys = {key for entry in ACTIONS for key in entry.keys}
    app = SimpleNamespace(ascii_only=True)
    names = {key: shown_keys(key_label(key), app) for key in keys}
    shown = AsciiMarks().apply([Segment(name) for name in names.values()], Color(0, 0, 0))
    assert {name.text for name in shown} == set(names.values()), "nothing is left to the filter"
    assert len(set(names.values())) == len(keys)
    assert all(entry.all_keys.isascii() for entry in with_ascii_keys(ACTIONS))


async def test_in_ascii_arrow_keys_have_names_wherever_they_are_shown() -> None:
    async with running_app(size=(120, 40), ascii_only=True) as (app, pilot):
        for key, words in (
            ("left", "left right Move"),
            ("h", "left right step  up dn prompt"),
            ("L", "up dn scroll"),
            ("question_mark", "S-left S-right"),
            ("ctrl+p", "up dn choose"),
        ):
            await pilot.press(key)
            await until(pilot, partial(shows, app, words))
            assert AN_ARROW.findall(text_of(app)) == []
            assert text_of(app).isascii()
            await pilot.press("escape")
        await pilot.press("ctrl+p", *"guide dashboard", "enter")
        await until(pilot, lambda: "* up zooms in" in text_of(app))
        assert text_of(app).isascii()
