"""SweepScreen: the runs of a sweep by their settings, and what each swept key does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList

from rnnlm_tui import client
from rnnlm_tui.schema.formatting import first_of
from rnnlm_tui.tui.palette import BRIGHT, DIM, TEXT
from rnnlm_tui.tui.screens.manage import ManageScreen
from rnnlm_tui.tui.screens.overlay import OverlayText, key_line
from rnnlm_tui.tui.text import line, safe_content, safe_text
from rnnlm_tui.tui.views.status import status_glyph, waiting_runs
from rnnlm_tui.tui.widgets.panel import Line, TitledContainer

if TYPE_CHECKING:
    from rnnlm_tui.client.sweeps import Effect, Setting, Sweep
    from rnnlm_tui.schema.summary import RunSummary

REFRESH_SECONDS = 2.0
WIDTH = 110
KEY, SPREAD = 22, 14
"""Columns of an effect's key and spread."""
SHOWN_EFFECTS, SHOWN_VALUES = 4, 3
FIGURE = 2
"""The column that is right-aligned."""
BELOW = 14
"""Lines of the screen that the list leaves for frame, effects and keys."""


class SweptRun(NamedTuple):
    """A row: a setting's only run, the head of several runs, or one of these."""

    run: RunSummary
    """Of a head: the best."""
    figure: str
    values: tuple[str, ...] = ()
    head: str = ""
    """`3 runs`; empty if it isn't a head."""
    inner: bool = False
    """Whether it belongs to the head above."""
    best: bool = False
    """Whether it is the best setting."""


class SweepScreen(ManageScreen["SweptRun", str]):
    """Returns the name of the run to open, None for none.

    Args:
        run: the run whose sweep is shown; if it belongs to none, the newest sweep is.
    """

    DEFAULT_CSS = f"""
    SweepScreen TitledContainer {{ width: {WIDTH}; }}
    """
    LIST_TITLE = "Sweep"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("W", "dismiss", id="show_sweep"),
        ("left", "turn(-1)"),
        ("right", "turn(1)"),
    ]

    def __init__(self, run: RunSummary | None = None) -> None:
        super().__init__()
        self._run, self._name = run, ""
        self._names: list[str] = []
        """Of all sweeps, the one with the newest run first."""
        self._sweep: Sweep | None = None
        """The one that is shown; None until it is read, or without sweeps."""
        self._widths: list[int] = []

    def compose(self) -> ComposeResult:
        with TitledContainer(title=self.LIST_TITLE, classes="-highlighted"):
            yield Line(id="sweep-heads")
            yield OptionList(markup=False)
            yield OverlayText()

    def on_mount(self) -> None:
        self.set_interval(REFRESH_SECONDS, self.reread)

    # what is shown

    def read(self) -> list[SweptRun]:
        sweeps, runs = client.sweeps, self.context.summaries or ()
        known = sweeps.sweeps_in(runs)
        self._names = list(known)
        own = (name for name, of in known.items() if self._run is not None and self._run in of)
        self._name = self._name or next(own, next(iter(known), ""))
        found = known.get(self._name)
        if found is None:
            self._sweep = None
            return []
        configs = self.context.watcher.runs.configs(run.run for run in found)
        self._sweep = sweep = sweeps.read_sweep(self._name, found, configs.get)
        return [row for setting in sweep.settings for row in _rows(sweep, setting)]

    def name_of(self, item: SweptRun) -> str:
        return f"{item.head}{item.run.run}"

    def legend(self) -> str:
        if self._sweep is None:
            return "no sweeps yet"
        return client.sweeps.states_words(self._sweep, self._waiting)

    def show(self, items: Sequence[SweptRun], at: str = "") -> None:
        self.options.styles.max_height = max(4, self.app.size.height - BELOW)
        title = " ".join(filter(None, (self.LIST_TITLE, safe_text(self._name))))
        self.query_one(TitledContainer).panel_title = title
        keys = self._sweep.keys if self._sweep is not None else ()
        measure = self._sweep.measure if self._sweep is not None else ""
        heads = ("", "", f"{measure} ", *(key.rpartition(".")[2] for key in keys))
        columns = zip_longest(heads, *map(self._cells, items), fillvalue="")
        self._widths = [max(map(cell_len, column)) for column in columns]
        row = Content.assemble("  ", self._row(heads).stylize(DIM))
        self.query_one("#sweep-heads", Line).update(row if items else "")
        super().show(items, at)

    @property
    def _waiting(self) -> frozenset[str]:
        return frozenset(waiting_runs(self.context.queue))

    def _cells(self, item: SweptRun) -> tuple[str, ...]:
        name = item.head or "  " * item.inner + safe_text(item.run.run, newlines="show", limit=24)
        state = "" if item.head else client.sweeps.state_of(item.run, self._waiting)
        return name, state, item.figure + ("★" if item.best else " "), *item.values

    def _row(self, cells: Sequence[str]) -> Content:
        return Content("  ").join(
            Content(cell).pad_left(width - cell_len(cell))
            if place == FIGURE
            else Content(cell).pad_right(width - cell_len(cell))
            for place, (cell, width) in enumerate(zip(cells, self._widths, strict=False))
        )

    def row(self, item: SweptRun) -> Content:
        glyph = Content(" ") if item.head else status_glyph(item.run.status)
        look = f"bold {BRIGHT}" if item.best else DIM if item.inner else TEXT
        row = Content.assemble(glyph, " ", self._row(self._cells(item)).stylize(look))
        return row.truncate(min(WIDTH, self.app.size.width) - 4, ellipsis=True)

    def above(self) -> list[Content]:
        """Return the effects of the keys, and why the chosen run failed or was pruned."""
        sweep, width = self._sweep, min(WIDTH, self.app.size.width) - 4
        if sweep is None:
            words = "`rnnlm-tui train --sweep KEY=A,B` puts a sweep into the queue"
            return [Content.styled(words, TEXT)]
        lines = [_effect(sweep, effect) for effect in sweep.effects[:SHOWN_EFFECTS]]
        if sweep.measure == "bits":
            lines.append(Content.styled("different texts: bits per byte, not perplexity", DIM))
        chosen = self.chosen
        why = chosen.run.message if chosen is not None and not chosen.head else ""
        lines.append(safe_content(why or "", newlines="space").stylize(TEXT))
        return [one.truncate(width, ellipsis=True) for one in lines]

    def keys(self) -> Content:
        keys = [("enter", "open")] if self.items else []
        if len(self._names) > 1:
            keys.append(("← →", f"other sweeps ({len(self._names)})"))
        return key_line([*keys, ("esc", "close")], min(WIDTH, self.app.size.width), self.app)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self.show_outcome()

    # keys

    def action_choose(self) -> None:
        """Close, and open the run under the cursor; of a head, the best."""
        if self.chosen is not None:
            self.dismiss(self.chosen.run.run)

    def action_turn(self, step: int) -> None:
        """Show the next sweep, or the one before."""
        if self._name in self._names:
            at = self._names.index(self._name) + step
            self._name = self._names[at % len(self._names)]
            self.reread()


def _rows(sweep: Sweep, setting: Setting) -> list[SweptRun]:
    values = tuple(safe_text(value, newlines="space", limit=16) for _, value in setting.values)
    figure_text, first = client.sweeps.figure_text, setting.runs[0]
    whole = figure_text(sweep, setting.figure, setting.deviation)
    best = setting is sweep.settings[0] and setting.figure is not None
    if len(setting.runs) == 1:
        return [SweptRun(first, whole, values, best=best)]
    of_run = client.sweeps.READS[sweep.measure]
    below = [SweptRun(run, figure_text(sweep, of_run(run)), inner=True) for run in setting.runs]
    return [SweptRun(first, whole, values, f"{len(setting.runs)} runs", best=best), *below]


def _effect(sweep: Sweep, effect: Effect) -> Content:
    figure_text = client.sweeps.figure_text
    figures = [f"{value} {figure_text(sweep, one)}" for value, one in effect.figures]
    return line(
        "{}{}{}",
        safe_text(effect.key.rpartition(".")[2], limit=KEY - 1).ljust(KEY),
        f"spread {figure_text(sweep, effect.spread)}".ljust(SPREAD),
        (f"best {first_of(figures, SHOWN_VALUES)}", DIM),
    )
