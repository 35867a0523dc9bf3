"""The settings that are kept from one start of the app to the next.

Among them are the open run, the pane, and how each run's charts are shown (`ChartView`). Whoever
reads a setting takes its default if the saved value is damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.store import paths
from rnnlm_tui.store.state import save_state
from rnnlm_tui.tui.actions import PANES, Pane

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
    last = {name: settings.get(name) for name in ("axis", "smoothing")}
    found = {**last, **_mapping(_mapping(settings.get(_VIEWS)).get(key))}
    usable = {name: read(found.get(name)) for name, read in _READ.items()}
    return ChartView(**{name: value for name, value in usable.items() if value is not None})


def save_view(settings: dict[str, object], key: str, view: ChartView) -> bool:
    """Put a view into the settings, which keep those of KEPT_VIEWS runs.

    Return whether anything changed.
    """
    entry = {
        name: sorted(value) if isinstance(value, frozenset | tuple) else value
        for name, value in asdict(view).items()
    }
    views = _mapping(settings.get(_VIEWS))
    if views.get(key) == entry:
        return False
    others = [(name, kept) for name, kept in views.items() if name != key]
    settings[_VIEWS] = dict([*others[-(KEPT_VIEWS - 1) :], (key, entry)])
    settings["axis"], settings["smoothing"] = view.axis, view.smoothing
    return True


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


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _names(value: object) -> frozenset[str] | None:
    return (
        frozenset(name for name in value if isinstance(name, str))
        if isinstance(value, list)
        else None
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


_READ: Mapping[str, Callable[[object], Any]] = {
    "axis": _text,
    "smoothing": lambda value: _finite(value) if _finite(value) in SMOOTHINGS else None,
    "chosen": _text,
    "alone": _flag,
    "part": _part,
    "following": _flag,
    "turned": _names,
    "whole_range": _flag,
    "hidden": _names,
    "cursor": _finite,
}
"""The value of each field of a `ChartView` from its saved one; None if that is damaged."""


def save_settings(settings: dict[str, object]) -> None:
    """Save atomically.

    A new data home stays untouched until there is a run.
    """
    if settings.get("run") or paths.state_file().parent.exists():
        save_state(settings)


def last_session(settings: dict[str, object]) -> tuple[RunDirectory | None, Pane | None]:
    """Return the run and pane that were open, neither if the run is gone."""
    from rnnlm_tui.store.runs import run_named

    name = settings.get("run")
    pane: Pane | None = next((known for known in PANES if known == settings.get("pane")), None)
    if not isinstance(name, str) or not name or not name.isprintable():
        return None, None
    try:
        return run_named(name), pane
    except RnnlmError:
        return None, None
