"""The settings that are kept from one start of the app to the next.

Among them are the open run, the pane, and how each run's charts are shown (`ChartView`). Whoever
reads a setting takes its default if the saved value is damaged.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.store import paths
from rnnlm_tui.store.state import save_state
from rnnlm_tui.tui.actions import PANES, Pane

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory


SMOOTHINGS = (0.0, 0.6, 0.9, 0.99)
"""The steps of + and -: the weight of the past in a curve."""
DEFAULT_SMOOTHING = 0.9
HUGE = 1e300
"""No position in a chart is as large."""
KEPT_VIEWS = 50
"""The number of runs whose views are kept, those used last."""
_VIEWS = "views"


class ChartView(NamedTuple):
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
    """Return a run's saved view, for a new run with the axis and the smoothing used last.

    The default, if anything of it is damaged.
    """
    newest = {name: settings[name] for name in ("axis", "smoothing") if name in settings}
    saved = {**newest, **_mapping(_mapping(settings.get(_VIEWS)).get(key))}
    default = ChartView()._asdict()
    kinds = {name: type(value) for name, value in default.items() if value is not None}
    with suppress(TypeError, ValueError):
        kept: dict[str, Any] = {
            name: kinds.get(name, tuple)(value) if isinstance(value, list) else value
            for name, value in saved.items()
            if name in default
        }
        view = ChartView(**kept)
        first, last = (0.0, 1.0) if view.part is None else view.part
        cursor = 0.0 if view.cursor is None else view.cursor
        if (
            -HUGE < first < last < HUGE
            and abs(cursor) < HUGE
            and view.smoothing in SMOOTHINGS
            and all(isinstance(kept[name], kinds.get(name, object)) for name in kept)
            and all(isinstance(name, str) for name in view.turned | view.hidden)
        ):
            return view
    return ChartView()


def save_view(settings: dict[str, object], key: str, view: ChartView) -> bool:
    """Put a view into the settings, which keep those of KEPT_VIEWS runs.

    Return whether anything changed.
    """
    views = _mapping(settings.get(_VIEWS))
    entry = {
        name: sorted(value) if isinstance(value, frozenset | tuple) else value
        for name, value in view._asdict().items()
    }
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
        kept = {run: view for run, view in views.items() if run not in (former, name)}
        settings[_VIEWS] = {**kept, name: views[former]}


def _mapping(value: object) -> dict[str, object]:
    return cast(dict[str, object], value) if isinstance(value, dict) else {}


def save_settings(settings: dict[str, object]) -> None:
    """Save atomically.

    A new data home stays untouched until there is a run.
    """
    if settings.get("run") or paths.state_file().parent.exists():
        save_state(settings)


def last_session(settings: dict[str, object]) -> "tuple[RunDirectory | None, Pane | None]":
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
