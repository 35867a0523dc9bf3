"""The settings that are kept from one start of the app to the next.

Among them are the open run, the pane, and how each run's charts are shown (`ChartView`). Unusable
settings are moved aside and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, cast

from rnnlm_tui.errors import RnnlmError, StorageError
from rnnlm_tui.store import paths
from rnnlm_tui.store.state import load_state, move_state_aside, save_state
from rnnlm_tui.tui.actions import PANES, Pane
from rnnlm_tui.tui.alerts import ALERTS_SETTING
from rnnlm_tui.tui.theme import COLOURS_SETTING, HINT_SETTING, colour_name
from rnnlm_tui.tui.views.compare import Marks
from rnnlm_tui.tui.views.run_layout import LAYOUT_SETTING, RunLayout
from rnnlm_tui.tui.views.runs import ORDER_SETTING, saved_order

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory


SMOOTHINGS = (0.0, 0.6, 0.9, 0.99)
"""The steps of + and -: the weight of the past in a curve."""
DEFAULT_SMOOTHING = 0.9
KEPT_VIEWS = 50
"""The number of runs whose views are kept, those used last."""
_VIEWS = "views"


@dataclass(frozen=True, slots=True)
class ChartView:
    """The user's choices."""

    axis: str = "step"
    """The x axis."""
    smoothing: float = DEFAULT_SMOOTHING
    chosen: str = ""
    """Id of the chart that keys act on; empty: the first."""
    alone: bool = False
    """Whether the chosen chart is shown alone."""
    part: tuple[float, float] | None = None
    """The shown x range in the axis' unit; None: all of it."""
    following: bool = True
    """Whether the newest point stays in sight."""
    turned: frozenset[str] = frozenset()
    """Charts whose y is logarithmic although it is usually linear, or the other way round."""
    whole_range: bool = False
    """Whether y includes the steep first fall and all outliers."""
    hidden: frozenset[str] = frozenset()
    """Hidden sidebars."""
    cursor: float | None = None
    """The x of the cursor in the axis' unit; None: no cursor."""


def saved_view(settings: Mapping[str, object], key: str) -> ChartView:
    """Return a run's saved view.

    Damaged values are replaced by defaults, and missing ones by the axis and smoothing used last.
    """
    found = _mapping(_mapping(settings.get(_VIEWS)).get(key))
    part, axis, cursor = (
        found.get("part"),
        found.get("axis", settings.get("axis")),
        found.get("cursor"),
    )
    smoothing = found.get("smoothing", settings.get("smoothing"))
    return ChartView(
        axis=axis if isinstance(axis, str) else "step",
        smoothing=next((value for value in SMOOTHINGS if value == smoothing), DEFAULT_SMOOTHING),
        chosen=_text(found.get("chosen")),
        alone=found.get("alone") is True,
        part=_part(part),
        following=found.get("following") is not False,
        turned=_names(found.get("turned")),
        whole_range=found.get("whole_range") is True,
        hidden=_names(found.get("hidden")),
        cursor=_finite(cursor),
    )


def usable_views(kept: object) -> object:
    """Return the saved views without damaged ones; None if the setting isn't a mapping."""
    if not isinstance(kept, dict):
        return None
    return {
        key: entry for key, entry in kept.items() if isinstance(entry, dict) and _is_usable(entry)
    }


def _is_usable(entry: Mapping[str, object]) -> bool:
    read = _entry(saved_view({_VIEWS: {"": entry}}, ""))
    return all(
        name not in entry or repr(entry[name]) == repr(value) for name, value in read.items()
    )


def save_view(settings: dict[str, object], key: str, view: ChartView) -> bool:
    """Put a view into the settings, which keep those of KEPT_VIEWS runs.

    Return whether anything changed.
    """
    entry = _entry(view)
    views = _mapping(settings.get(_VIEWS))
    if views.get(key) == entry:
        return False
    others = [(name, kept) for name, kept in views.items() if name != key]
    settings[_VIEWS] = dict([*others[-(KEPT_VIEWS - 1) :], (key, entry)])
    settings["axis"], settings["smoothing"] = view.axis, view.smoothing
    return True


def _entry(view: ChartView) -> dict[str, object]:
    return {
        "axis": view.axis,
        "smoothing": view.smoothing,
        "chosen": view.chosen,
        "alone": view.alone,
        "part": None if view.part is None else list(view.part),
        "following": view.following,
        "turned": sorted(view.turned),
        "whole_range": view.whole_range,
        "hidden": sorted(view.hidden),
        "cursor": view.cursor,
    }


def rename_view(settings: dict[str, object], former: str, name: str) -> None:
    """Move a run's view to the run's new name."""
    views = _mapping(settings.get(_VIEWS))
    if former in views:
        settings[_VIEWS] = {
            **{run: view for run, view in views.items() if run not in (former, name)},
            name: views[former],
        }


def _mapping(value: object) -> dict[str, object]:
    return cast(dict[str, object], value) if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _names(value: object) -> frozenset[str]:
    return (
        frozenset(name for name in value if isinstance(name, str))
        if isinstance(value, list)
        else frozenset()
    )


def _part(value: object) -> tuple[float, float] | None:
    ends = [_finite(end) for end in value] if isinstance(value, list) else []
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return None
    return (ends[0], ends[1]) if ends[0] < ends[1] else None


def _finite(value: object) -> float | None:
    try:
        number = (
            float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
        )
    except OverflowError:  # an integer too large for a float
        return None
    return number if number is not None and isfinite(number) else None


DEEPEST = 20
"""Settings of another version that are nested deeper are dropped."""


def _order(value: object) -> object:
    return list(saved_order({ORDER_SETTING: value}))


USABLE: Mapping[str, Callable[[object], object]] = {
    "run": lambda value: value if isinstance(value, str) and value.isprintable() else "",
    "pane": lambda value: value if value in PANES else None,
    "marked": lambda value: list(Marks.from_json(value).places),
    "dots": lambda value: value if value in ("braille", "block") else None,
    "axis": lambda value: value if isinstance(value, str) else None,
    "smoothing": lambda value: value if value in SMOOTHINGS else None,
    "views": usable_views,
    ORDER_SETTING: _order,
    LAYOUT_SETTING: lambda value: RunLayout.from_setting(value).setting(),
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
    settings = {
        name: value for name, value in usable.items() if value is not None or state[name] is None
    }
    lost = [
        name
        for name, value in state.items()
        if name not in settings or not _same(settings[name], value)
    ]
    if not lost:
        return settings, ""
    warning = (
        f"some saved settings can't be used ({', '.join(lost)}): all of them are"
        f" {move_state_aside()}"
    )
    try:
        save_state(settings)
    except StorageError as error:
        warning = f"{warning}; {error.message}"
    return settings, warning


def save_settings(settings: dict[str, object]) -> None:
    """Save atomically.

    A new data home stays untouched until there is a run.
    """
    if settings.get("run") or paths.state_file().parent.exists():
        save_state(settings)


def last_session(settings: dict[str, object]) -> tuple[RunDirectory | None, Pane | None]:
    """Return the run and pane that were open, neither if the run is gone."""
    from rnnlm_tui.store.runs import find_run

    name = settings.get("run")
    pane: Pane | None = next((known for known in PANES if known == settings.get("pane")), None)
    if not isinstance(name, str) or not name:
        return None, None
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
    if depth >= DEEPEST or any(
        item is not None and _plain(item, depth + 1) is None
        for item in (value.values() if isinstance(value, dict) else value)
    ):
        return None
    return value


def _same(usable: object, kept: object) -> bool:
    """Whether a setting is usable unchanged; 1 is not true, though Python takes them as equal."""
    return usable == kept and repr(usable) == repr(kept)
