"""ChartView: how a screen's charts are shown, saved for each run until the next start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import cast

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
    part, axis, cursor = found.get("part"), found.get("axis", settings.get("axis")), found.get("cursor")
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
    return {key: entry for key, entry in kept.items() if isinstance(entry, dict) and _is_usable(entry)}


def _is_usable(entry: Mapping[str, object]) -> bool:
    read = _entry(saved_view({_VIEWS: {"": entry}}, ""))
    return all(name not in entry or repr(entry[name]) == repr(value) for name, value in read.items())


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
        settings[_VIEWS] = {**{run: view for run, view in views.items() if run not in (former, name)}, name: views[former]}


def _mapping(value: object) -> dict[str, object]:
    return cast(dict[str, object], value) if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _names(value: object) -> frozenset[str]:
    return frozenset(name for name in value if isinstance(name, str)) if isinstance(value, list) else frozenset()


def _part(value: object) -> tuple[float, float] | None:
    ends = [_finite(end) for end in value] if isinstance(value, list) else []
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return None
    return (ends[0], ends[1]) if ends[0] < ends[1] else None


def _finite(value: object) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:  # an integer too large for a float
        return None
    return number if number is not None and isfinite(number) else None
