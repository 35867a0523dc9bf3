"""What the app keeps from one start to the next: the open run, the pane, how charts are shown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.store import locations
from rnnlm_tui.tui.actions import PANES, Pane

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory


def recall() -> dict[str, object]:
    """What was kept; nothing where the file is missing or not ours."""
    try:
        kept = json.loads(locations.state_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return cast(dict[str, object], kept) if isinstance(kept, dict) else {}


def keep(settings: dict[str, object]) -> None:
    """Write it down, whole or not at all. A home that nobody wrote to yet stays untouched until there is a run to remember."""
    path = locations.state_file()
    if not path.parent.exists() and not settings.get("run"):
        return
    from rnnlm_tui.store.atomic import write_text_atomically

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_text_atomically(path, json.dumps(settings, indent=1, sort_keys=True) + "\n")


def last_place(settings: dict[str, object]) -> tuple[RunDirectory | None, Pane | None]:
    """The run and pane that were open; nothing when the run is gone."""
    from rnnlm_tui.store.runs import find_run

    name = settings.get("run")
    pane: Pane | None = next((known for known in PANES if known == settings.get("pane")), None)
    if not isinstance(name, str) or not name:
        return None, None
    try:
        return find_run(name), pane
    except RnnlmError:
        return None, None
