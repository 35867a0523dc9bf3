"""The table of actions is consistent with everything that is made from it."""

from __future__ import annotations

import pytest
from textual.app import App
from textual.binding import Binding
from textual.screen import Screen

from rnnlm_tui.tui.actions import (
    ACTIONS,
    PANES,
    Action,
    Pane,
    action,
    actions_for,
    bindings_for,
    key_label,
    key_table,
)
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.checkpoints import CheckpointsScreen
from rnnlm_tui.tui.screens.compare import CompareScreen
from rnnlm_tui.tui.screens.config import ConfigScreen
from rnnlm_tui.tui.screens.inspect import InspectScreen
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.screens.prompt import PromptScreen
from rnnlm_tui.tui.screens.runs import RunsScreen
from rnnlm_tui.tui.screens.train import TrainScreen
from rnnlm_tui.tui.screens.versus import VersusScreen

SCREENS: dict[Pane, type[PaneScreen]] = {
    "runs": RunsScreen,
    "compare": CompareScreen,
    "config": ConfigScreen,
    "train": TrainScreen,
    "checkpoints": CheckpointsScreen,
    "prompt": PromptScreen,
    "inspect": InspectScreen,
    "versus": VersusScreen,
}


@pytest.mark.parametrize("entry", ACTIONS, ids=lambda entry: entry.id)
def test_every_action_has_a_method_where_it_works(entry: Action) -> None:
    owners: list[type] = (
        [RnnlmApp] if entry.on_app else [SCREENS[pane] for pane in entry.panes or PANES]
    )
    method = f"action_{entry.textual_action.partition('.')[2].partition('(')[0]}"
    assert [owner.__name__ for owner in owners if not hasattr(owner, method)] == []


def test_no_action_takes_the_place_of_one_that_textual_binds() -> None:
    """Textual's `screen.copy_text`, on ctrl+c, copies what the mouse has selected."""
    bindings = [Binding.make_bindings(cls.BINDINGS) for cls in (Screen, App)]
    of_textual = {binding.action for found in bindings for binding in found}
    assert "screen.copy_text" in of_textual
    assert {entry.textual_action for entry in ACTIONS} & of_textual == set()


@pytest.mark.parametrize("pane", PANES)
def test_no_key_has_two_meanings_on_one_screen(pane: Pane) -> None:
    keys = [key for entry in actions_for(pane) for key in entry.keys]
    assert sorted(keys) == sorted(set(keys))


def test_a_letter_and_a_function_key_mean_one_thing_on_all_screens() -> None:
    verbs: dict[str, set[str]] = {}
    for entry in ACTIONS:
        for key in entry.keys:
            if (key.isalpha() and len(key) == 1) or (key[0] == "f" and key[1:].isdigit()):
                verbs.setdefault(key, set()).add(entry.verb)
    assert {key: found for key, found in verbs.items() if len(found) > 1} == {}


@pytest.mark.parametrize("pane", PANES)
def test_every_action_of_a_screen_is_bound_under_its_id(pane: Pane) -> None:
    bound = {binding.id for binding in bindings_for(pane) if isinstance(binding, Binding)}
    assert bound == {entry.id for entry in actions_for(pane) if entry.keys} - {"command_palette"}


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


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("ctrl+p", "^p"),
        ("f5", "F5"),
        ("question_mark", "?"),
        ("S", "S"),
        ("shift+left", "⇧←"),
        ("escape", "esc"),
    ],
)
def test_keys_have_readable_labels(key: str, label: str) -> None:
    assert key_label(key) == label
