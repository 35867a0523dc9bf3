"""SweepScreen: the runs of a sweep by their settings, and what each swept key does."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from rnnlm_tui.tui.screens.pick import PickItem, PickScreen

if TYPE_CHECKING:
    from rnnlm_tui.client.sweeps import Sweep

SHOWN_EFFECTS = 4


class SweepScreen(PickScreen):
    """Returns the name of the run to open, or None.

    Args:
        waiting: the runs that wait in the queue.
    """

    DEFAULT_CSS = """
    SweepScreen TitledContainer { width: 110; }
    SweepScreen OverlayText { text-wrap: nowrap; text-overflow: ellipsis; }
    """
    SEARCHES = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "dismiss"),
        Binding("W", "dismiss", id="show_sweep"),
    ]

    def __init__(self, sweep: Sweep, waiting: Collection[str]) -> None:
        items, best = list[PickItem[str]](), sweep.settings[0]
        for run, state, figure, setting in sweep.rows(waiting):
            below = ": " in setting
            words = "; ".join(filter(None, ("" if below else setting, run.message)))
            detail = f"{state:<9} {figure:>6}  {words}"
            items.append(PickItem(run.run, run.run, detail, setting if below else ""))
        marked = best.group.best.run if best.figure is not None else ""
        super().__init__(f"Sweep {sweep.name}", items, current=marked, verb="open")
        effects = [
            f"{key.rpartition('.')[2]:<20} spread {spread:<6} best {best}"
            for key, spread, best in sweep.effect_cells()[:SHOWN_EFFECTS]
        ]
        self.note = "\n".join([sweep.states_words(waiting), *effects])
