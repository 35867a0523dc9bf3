"""What the app keeps from one start to the next: the open run, the pane, how charts are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.store import locations
from rnnlm_tui.store.state import load_state, save_state
from rnnlm_tui.tui.actions import PANES, Pane

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory


def recall() -> dict[str, object]:
    """What was kept; nothing where the file is missing or damaged."""
    return load_state()


def keep(settings: dict[str, object]) -> None:
    """Write it down, whole or not at all. A home that nobody wrote to yet stays untouched until there is a run or a changed config to remember."""
    if settings.get("run") or settings.get("draft") or locations.state_file().parent.exists():
        save_state(settings)


def last_place(settings: dict[str, object]) -> tuple[RunDirectory | None, Pane | None]:
    """The run and pane that were open; nothing when the run is gone. A config that was changed and never started stands on its pane without a run."""
    from rnnlm_tui.store.runs import find_run

    name = settings.get("run")
    pane: Pane | None = next((known for known in PANES if known == settings.get("pane")), None)
    if not isinstance(name, str) or not name:
        return None, ("config" if pane == "config" and settings.get("draft") else None)
    try:
        return find_run(name), pane
    except RnnlmError:
        return None, None
