"""The table of actions is consistent with everything that is made from it."""

from __future__ import annotations

import re
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import pytest
from textual.app import App
from textual.binding import Binding
from textual.screen import Screen

from rnnlm_tui.tui.actions import (
    ACTIONS,
    PANES,
    action,
    actions_for,
    bindings_for,
    key_label,
    key_rows,
    shown_keys,
    with_ascii_keys,
)
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.terminal import FULL
from rnnlm_tui.tui.theme import in_ascii
from tests.tui.support import shows, text_of, until

AN_ARROW = re.compile(r"(?<!\S)(\^ v|< >|> <|\^[<>^v]|\^F\d+)(?!\S)")
"""An arrow or shift as the line filter draws them."""


def test_every_action_has_a_method_where_it_works_and_replaces_none_of_textuals() -> None:
    """Textual's `screen.copy_text`, on ctrl+c, copies what the mouse has selected."""
    screens = {pane: import_module(f"rnnlm_tui.tui.screens.{pane}") for pane in PANES}
    for entry in ACTIONS:
        owners = [RnnlmApp] if entry.on_app else [
            getattr(screens[pane], f"{pane.capitalize()}Screen") for pane in entry.panes or PANES
        ]  # fmt: skip
        method = f"action_{entry.textual_action.partition('.')[2].partition('(')[0]}"
        assert [owner.__name__ for owner in owners if not hasattr(owner, method)] == [], entry.id
    bindings = [Binding.make_bindings(cls.BINDINGS) for cls in (Screen, App)]
    of_textual = {binding.action for found in bindings for binding in found}
    assert "screen.copy_text" in of_textual
    assert {entry.textual_action for entry in ACTIONS} & of_textual == set()


def test_a_key_has_one_meaning_on_a_screen_and_a_letter_or_function_key_one_on_all() -> None:
    for pane in PANES:
        keys = [key for entry in actions_for(pane) for key in entry.keys]
        assert sorted(keys) == sorted(set(keys))
        bound = {binding.id for binding in bindings_for(pane) if isinstance(binding, Binding)}
        ids = {entry.id for entry in actions_for(pane) if entry.keys}
        assert bound == ids - {"command_palette"}, "each under its action's id"
    verbs: dict[str, set[str]] = {}
    for entry in ACTIONS:
        for key in entry.keys:
            if (key.isalpha() and len(key) == 1) or (key[0] == "f" and key[1:].isdigit()):
                verbs.setdefault(key, set()).add(entry.verb)
    assert {key: found for key, found in verbs.items() if len(found) > 1} == {}


def test_every_id_is_there_once_with_words_that_fit() -> None:
    assert len({entry.id for entry in ACTIONS}) == len(ACTIONS)
    with pytest.raises(KeyError):
        action("fly")
    for entry in ACTIONS:
        assert entry.verb, entry.id
        assert len(entry.verb) <= 11, entry.id
        assert entry.help, entry.id
        assert entry.keys or entry.palette, entry.id
    for head, *_ in key_rows():
        assert len(head.short_help) <= (24 if head.group == "charts" else 30), head.id


def test_keys_have_readable_labels_and_in_ascii_each_a_name_of_its_own() -> None:
    labels = {
        "ctrl+p": "^p", "f5": "F5", "question_mark": "?", "S": "S", "shift+left": "⇧←",
        "escape": "esc",
    }  # fmt: skip
    assert {key: key_label(key) for key in labels} == labels
    keys = {key for entry in ACTIONS for key in entry.keys}
    app = SimpleNamespace(ascii_only=True)
    names = {key: shown_keys(key_label(key), app) for key in keys}
    assert all(in_ascii(name) == name for name in names.values()), "nothing is left to the filter"
    assert len(set(names.values())) == len(keys)
    assert all(entry.all_keys.isascii() for entry in with_ascii_keys(ACTIONS))


@pytest.mark.usefixtures("three_at_home")
async def test_in_ascii_arrow_keys_have_names_wherever_they_are_shown() -> None:
    app = RnnlmApp(None, "runs", kind=FULL._replace(braille=False))
    async with app.run_test(size=(120, 40)) as pilot:
        await until(pilot, partial(shows, app, "3 runs"))
        for keys, words in (
            (("enter",), "left right Cursor"),
            (("left",), "left right Move"),
            (("L",), "up dn scroll"),
            (("question_mark",), "S-left S-right"),
            (("ctrl+p",), "up dn choose"),
            (("ctrl+p", *"guide looking", "enter"), "left right move by token, up dn by line"),
        ):
            await pilot.press(*keys)
            await until(pilot, partial(shows, app, words))
            assert AN_ARROW.findall(text_of(app)) == []
            assert text_of(app).isascii()
            await pilot.press("escape")
