"""What a letter that does nothing on this screen does on others, so that no key is met with silence."""

from __future__ import annotations

from collections.abc import Sequence

from rnnlm_tui.tui.actions import PANE_TITLES, Action, Pane, action

WAYS: dict[Pane, str] = {"config": "show_config", "train": "show_train", "checkpoints": "show_checkpoints", "prompt": "show_prompt", "runs": "show_runs"}
"""The action that goes to each screen."""


def elsewhere(key: str, pane: Pane, actions: Sequence[Action]) -> str:
    """`n: r, then n: configure a new run`; empty where the key does something here or nothing anywhere.

    Args:
        key: in Textual's spelling.
        actions: the table with the user's keys.
    """
    known = [entry for entry in actions if key in entry.keys]
    if any(entry.works_on(pane) for entry in known):
        return ""
    for entry in known:
        there = next((name for name in entry.panes if name in WAYS), None)
        if there is not None:
            way = action(WAYS[there], actions).label
            return f"{entry.label} is a key of {PANE_TITLES[there]}: {way}, then {entry.label}: {entry.help.split(':')[0]}"
    return ""
