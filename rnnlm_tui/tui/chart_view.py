"""ChartView: how the charts of a screen are looked at, and how it is kept for each run until the next start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import cast

SMOOTHINGS = (0.0, 0.6, 0.9, 0.99)
"""What + and - go through: the weight of the past in a curve."""
USUAL_SMOOTHING = 0.9
KEPT_VIEWS = 50
"""So many runs' views are kept, the ones that were looked at last."""
_VIEWS = "views"


@dataclass(frozen=True, slots=True)
class ChartView:
    """What a person chose."""

    axis: str = "step"
    """What x is."""
    smoothing: float = USUAL_SMOOTHING
    chosen: str = ""
    """Id of the chart that keys act on; empty: the first."""
    alone: bool = False
    """It has all the room."""
    part: tuple[float, float] | None = None
    """The shown part of x, in the axis' unit; None: all."""
    following: bool = True
    """The newest point is kept in sight."""
    turned: frozenset[str] = frozenset()
    """Charts whose y is logarithmic where it usually is linear, or the other way round."""
    whole_range: bool = False
    """y shows the steep first fall and all outliers."""
    hidden: frozenset[str] = frozenset()
    """Sidebars that are hidden."""
    cursor: float | None = None
    """The x of the cursor, in the axis' unit; None: no cursor."""


def kept_view(settings: Mapping[str, object], key: str) -> ChartView:
    """The view that was kept for a run, or the usual one with the axis and smoothing that were used last; whatever is damaged in it is the usual."""
    found = _mapping(_mapping(settings.get(_VIEWS)).get(key))
    part, axis, cursor = found.get("part"), found.get("axis", settings.get("axis")), found.get("cursor")
    smoothing = found.get("smoothing", settings.get("smoothing"))
    return ChartView(
        axis=axis if isinstance(axis, str) else "step",
        smoothing=next((value for value in SMOOTHINGS if value == smoothing), USUAL_SMOOTHING),
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
    """The remembered views whose every part is usable; None if the setting isn't a mapping."""
    if not isinstance(kept, dict):
        return None
    return {key: entry for key, entry in kept.items() if isinstance(entry, dict) and _is_usable(entry)}


def _is_usable(entry: Mapping[str, object]) -> bool:
    read = _entry(kept_view({_VIEWS: {"": entry}}, ""))
    return all(name not in entry or repr(entry[name]) == repr(value) for name, value in read.items())


def keep_view(settings: dict[str, object], key: str, view: ChartView) -> bool:
    """Put the view into the settings, those of KEPT_VIEWS runs at most; whether anything is new."""
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
    """A run's view under the run's other name."""
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
