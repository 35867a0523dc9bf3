"""The settings that are kept from one start of the app to the next.

Among them are the open run, the pane and the charts' views. Unusable settings are moved aside and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import TYPE_CHECKING

from rnnlm_tui.errors import RnnlmError, StorageError
from rnnlm_tui.store import locations
from rnnlm_tui.store.state import load_state, move_state_aside, save_state
from rnnlm_tui.tui.actions import PANES, Pane
from rnnlm_tui.tui.alerts import ALERTS_SETTING
from rnnlm_tui.tui.appearance import COLOURS_SETTING, HINT_SETTING
from rnnlm_tui.tui.chart_view import SMOOTHINGS, usable_views
from rnnlm_tui.tui.colours import colour_name
from rnnlm_tui.tui.widgets.marks import Marks
from rnnlm_tui.tui.widgets.run_order import ORDER_SETTING, saved_order

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory

DEEPEST = 20
"""Settings of another version that are nested deeper are dropped."""


def _draft(value: object) -> object:
    if value is None:
        return None
    from rnnlm_tui.tui.widgets.form_draft import draft_from_json, draft_to_json  # imports pydantic and all fields: only if there is a draft

    found = draft_from_json(value)
    return None if found is None else draft_to_json(*found)


def _order(value: object) -> object:
    return list(saved_order({ORDER_SETTING: value}))


USABLE: Mapping[str, Callable[[object], object]] = {
    "run": lambda value: value if isinstance(value, str) and value.isprintable() else "",
    "pane": lambda value: value if value in PANES else None,
    "draft": _draft,
    "marked": lambda value: list(Marks.from_json(value).places),
    "dots": lambda value: value if value in ("braille", "block") else None,
    "axis": lambda value: value if isinstance(value, str) else None,
    "smoothing": lambda value: value if value in SMOOTHINGS else None,
    "views": usable_views,
    ORDER_SETTING: _order,
    COLOURS_SETTING: colour_name,
    HINT_SETTING: lambda value: value if isinstance(value, bool) else None,
    ALERTS_SETTING: lambda value: value if isinstance(value, bool) else None,
}
"""The usable part of each setting by its name; None if nothing is usable."""


def load_settings() -> tuple[dict[str, object], str]:
    """Load the usable settings.

    The rest is moved aside, with a warning about it, empty if all are usable.
    """
    state, why = load_state()
    if why:
        return {}, f"the saved settings can't be used, {why}: {move_state_aside()}"
    usable = {name: USABLE.get(name, _plain)(value) for name, value in state.items()}
    settings = {name: value for name, value in usable.items() if value is not None or state[name] is None}
    lost = [name for name, value in state.items() if name not in settings or not _same(settings[name], value)]
    if not lost:
        return settings, ""
    warning = f"some saved settings can't be used ({', '.join(lost)}): all of them are {move_state_aside()}"
    try:
        save_state(settings)
    except StorageError as error:
        warning = f"{warning}; {error.message}"
    return settings, warning


def save_settings(settings: dict[str, object]) -> None:
    """Save atomically.

    A new data home stays untouched until there is a run or a changed config to save.
    """
    if settings.get("run") or settings.get("draft") or locations.state_file().parent.exists():
        save_state(settings)


def last_session(settings: dict[str, object]) -> tuple[RunDirectory | None, Pane | None]:
    """Return the run and pane that were open, neither if the run is gone.

    A changed draft needs no run.
    """
    from rnnlm_tui.store.runs import find_run

    name = settings.get("run")
    pane: Pane | None = next((known for known in PANES if known == settings.get("pane")), None)
    if not isinstance(name, str) or not name:
        return None, ("config" if pane == "config" and settings.get("draft") else None)
    try:
        return find_run(name), pane
    except RnnlmError:
        return None, None


def _plain(value: object, depth: int = 0) -> object:
    """Return a setting of another version unchanged; None if it can't be saved again."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if not isinstance(value, dict | list):
        return value
    if depth >= DEEPEST or any(item is not None and _plain(item, depth + 1) is None for item in (value.values() if isinstance(value, dict) else value)):
        return None
    return value


def _same(usable: object, kept: object) -> bool:
    """Whether a setting is usable unchanged; 1 is not true, though Python takes them as equal."""
    return usable == kept and repr(usable) == repr(kept)
