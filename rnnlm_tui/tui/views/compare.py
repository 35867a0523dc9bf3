"""Runs marked for comparison, each with a letter and a colour, and their overlaid charts.

Only runs on the same text with the same tokens are comparable and share a best perplexity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from rnnlm_tui.schema.formatting import NOTHING, figure
from rnnlm_tui.tui.palette import MARK_COLOURS
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.views.chart_data import (
    AXIS_TEXTS,
    Axis,
    Baseline,
    ChartData,
    ChartSeries,
    planned_end,
    step_of_x,
    x_of_step,
    x_values,
)
from rnnlm_tui.tui.views.charts import (
    LOSS,
    NORM,
    RATE,
    SPEED,
    StepMetric,
    bits_per_byte,
    held_out_curve,
    level_to_beat,
    perplexities,
)

if TYPE_CHECKING:
    from rnnlm_tui.client.comparison import Comparison
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import EvaluationRow
    from rnnlm_tui.schema.summary import RunSummary


def best_of_comparable(runs: Sequence[RunSummary]) -> dict[str, float]:
    """Map each run to the best validation perplexity among the runs it is comparable with.

    Runs that are comparable with no other are left out.
    """
    groups: dict[tuple[str, float | None], list[tuple[str, float]]] = {}
    for run in runs:
        if run.validation.best_perplexity is not None:
            groups.setdefault((run.corpus, run.baseline.validation_perplexity), []).append(
                (run.run, run.validation.best_perplexity)
            )
    best = {
        key: min(value for _, value in group) for key, group in groups.items() if len(group) > 1
    }
    return {name: value for key, value in best.items() for name, _ in groups[key]}


LETTERS = "ABCDEFGH"
MOST_MARKED = len(LETTERS)
"""More curves would be hard to distinguish."""


@dataclass(frozen=True, slots=True)
class Marks:
    """A run per letter; unmarking one leaves the others' letters unchanged."""

    places: tuple[str, ...] = ()
    """Run names by letter, A first; empty if the letter is free."""

    @classmethod
    def from_json(cls, kept: object) -> Marks:
        """Return saved marks; none if the value isn't a list of names."""
        if (
            not isinstance(kept, list)
            or len(kept) > MOST_MARKED
            or not all(isinstance(name, str) for name in kept)
        ):
            return cls()
        names = [name for name in kept if name]
        return cls(tuple(kept)) if len(set(names)) == len(names) else cls()

    @property
    def names(self) -> tuple[str, ...]:
        """The marked runs in the order of their letters."""
        return tuple(name for name in self.places if name)

    @property
    def full(self) -> bool:
        """Whether all letters are used."""
        return len(self.names) == MOST_MARKED

    def letter(self, run: str) -> str:
        """Return the run's letter; empty if it isn't marked."""
        return LETTERS[self.places.index(run)] if run and run in self.places else ""

    def colour(self, run: str) -> str:
        """Return the run's colour; empty if it isn't marked."""
        return MARK_COLOURS[self.places.index(run)] if run and run in self.places else ""

    def toggled(self, run: str) -> Marks:
        """Mark the run with the first free letter, or unmark it; no change if no letter is free."""
        if run in self.places:
            return self._with("" if name == run else name for name in self.places)
        if "" in self.places:
            at = self.places.index("")
            return self._with((*self.places[:at], run, *self.places[at + 1 :]))
        return self if self.full else self._with((*self.places, run))

    def marked_at(self, run: str, place: int) -> Marks:
        """Mark the run with its former letter, or another free one if that is taken.

        No change if the run is marked or no letter is free.
        """
        if run in self.places:
            return self
        places = [*self.places, *[""] * (place + 1 - len(self.places))]
        if places[place]:
            return self.toggled(run)
        return self._with(run if index == place else name for index, name in enumerate(places))

    def renamed(self, run: str, name: str) -> Marks:
        """Return the marks with the run renamed."""
        return self._with(name if known == run else known for known in self.places)

    def among(self, runs: Iterable[str]) -> Marks:
        """Return the marks without runs that no longer exist."""
        there = set(runs)
        return self._with(name if name in there else "" for name in self.places)

    def _with(self, places: Iterable[str]) -> Marks:
        found = list(places)
        while found and not found[-1]:
            found.pop()
        return Marks(tuple(found))


SINCE_START = "since start"
"""Label of the wall axis for runs trained on different days: time since each began."""
MOST_NAME = 20
MOST_BANDS = 2
"""Up to this many runs show their raw points; more would hide each other's curves."""


@dataclass(frozen=True, slots=True)
class MarkedRun:
    """A run marked for comparison, with its letter and colour."""

    letter: str
    colour: str
    snapshot: RunSnapshot

    @property
    def name(self) -> str:
        """The run's name, sanitized and shortened for a legend."""
        return safe_text(self.snapshot.summary.run, limit=MOST_NAME, newlines="show")

    def origin(self, axis: Axis) -> float:
        """Return the Unix time at which training began, from which the wall axis counts; 0 on every
        other axis, and before the first step."""
        series = self.snapshot.series
        return series.time[0] - series.active[0] if axis == "wall" and len(series.time) else 0.0

    def places(self, axis: Axis) -> Sequence[float]:
        """Return x of each point of its curves."""
        places, origin = x_values(self.snapshot.series, axis), self.origin(axis)
        return [place - origin for place in places] if origin else places

    def step_of_x(self, axis: Axis, place: float) -> float:
        """Return its step at an x."""
        return step_of_x(self.snapshot.series, axis, place + self.origin(axis))

    def x_of_step(self, axis: Axis, step: float) -> float:
        """Return x of its step."""
        return x_of_step(self.snapshot.series, axis, step) - self.origin(axis)


MarkedRuns = Sequence[MarkedRun]


def compared(marks: Marks, snapshots: Sequence[RunSnapshot]) -> MarkedRuns:
    """Return the marked runs that have been read, in the order of their letters."""
    known = {snapshot.summary.run: snapshot for snapshot in snapshots}
    return [
        MarkedRun(marks.letter(name), marks.colour(name), known[name])
        for name in marks.names
        if name in known
    ]


def validation_data(runs: MarkedRuns, axis: Axis) -> ChartData:
    """Perplexity on the set that the runs are evaluated on."""
    splits = {run.snapshot.config.evaluation.split for run in runs}
    name = "Held-out" if len(splits) > 1 else "".join(splits).capitalize()
    title, levels = f"{name} perplexity", _common_level(runs)
    return _held_out(runs, axis, title, perplexities, log=True, levels=levels)


def bits_data(runs: MarkedRuns, axis: Axis) -> ChartData:
    """Bits per byte on held-out text, comparable across tokenizers; NaN with many unknown words."""
    return _held_out(runs, axis, "Bits per byte", bits_per_byte)


def loss_data(runs: MarkedRuns, axis: Axis) -> ChartData:
    """Training loss; the title says so if losses aren't comparable."""
    texts = len({run.snapshot.config.corpus for run in runs}) > 1
    tokens = len({run.snapshot.config.tokenizer for run in runs}) > 1
    why = ", different texts" if texts else ", different tokens" if tokens else ""
    return replace(_trained(LOSS, runs, axis), title=f"{LOSS.title}{why}")


def _held_out(
    runs: MarkedRuns,
    axis: Axis,
    title: str,
    of: Callable[[Sequence[EvaluationRow]], Sequence[float]],
    *,
    log: bool = False,
    levels: tuple[Baseline, ...] = (),
) -> ChartData:
    drawn = [held_out_curve(run.snapshot, axis, of, run.origin(axis)) for run in runs]
    return _overlay(runs, axis, title, drawn, log=log, levels=levels)


def _trained(metric: StepMetric, runs: MarkedRuns, axis: Axis) -> ChartData:
    drawn = [metric.curve(run.snapshot, axis, run.origin(axis)) for run in runs]
    drawn = [replace(curve, current=curve.current.strip(NOTHING)) for curve in drawn]
    if len(runs) > MOST_BANDS:
        drawn = [replace(curve, low=None, high=None, band=False) for curve in drawn]
    return _overlay(runs, axis, metric.title, drawn, from_zero=metric.from_zero)


def _overlay(
    runs: MarkedRuns,
    axis: Axis,
    title: str,
    drawn: Sequence[ChartSeries],
    *,
    log: bool = False,
    from_zero: bool = False,
    levels: tuple[Baseline, ...] = (),
) -> ChartData:
    ends = [planned_end(run.snapshot, axis) for run in runs]
    known = [end - run.origin(axis) for run, end in zip(runs, ends, strict=True) if end is not None]
    label, form = AXIS_TEXTS[axis] if axis != "wall" else (SINCE_START, "duration")
    return ChartData(
        title=title,
        series=tuple(
            replace(curve, name=run.name, colour=run.colour, marker=run.letter)
            for run, curve in zip(runs, drawn, strict=True)
        ),
        baselines=levels,
        x_end=max(known) if known and len(known) == len(ends) else None,
        x_label=label,
        log_y=log,
        y_from_zero=from_zero,
        x_format=form,
    )


COMPARED_CHARTS: dict[str, Callable[[MarkedRuns, Axis], ChartData]] = {
    "compare-validation": validation_data,
    "compare-loss": loss_data,
    "compare-bits": bits_data,
    "compare-speed": partial(_trained, SPEED),
    "compare-gradient": partial(_trained, NORM),
    "compare-rate": partial(_trained, RATE),
}
"""Chart id to its data, in the order of the tab key."""


def comparison(runs: MarkedRuns) -> Comparison:
    """Compare the runs: the settings that differ, and their figures."""
    from rnnlm_tui.client.comparison import (
        ComparedRun,
        changed_settings,
        comparison_of,
        config_at_start,
    )

    def row(run: MarkedRun) -> ComparedRun:
        snapshot = run.snapshot
        return ComparedRun(
            run.letter,
            snapshot.summary.run,
            snapshot.summary,
            config_at_start(snapshot.config, snapshot.changes),
            _best_seconds(snapshot),
            changed_settings(snapshot.changes),
        )

    return comparison_of([row(run) for run in runs])


def _best_seconds(snapshot: RunSnapshot) -> float | None:
    """Return the training time at the best evaluation."""
    step = snapshot.summary.evaluation.best_step
    if step is None or not len(snapshot.series.step):
        return None
    return x_of_step(snapshot.series, "active", step)


def span(runs: MarkedRuns, axis: Axis) -> tuple[float, float] | None:
    """Return x of the first and the newest step of any run; None if no run has a step."""
    ends = [(places[0], places[-1]) for run in runs if len(places := run.places(axis))]
    return (min(first for first, _ in ends), max(last for _, last in ends)) if ends else None


def values_at_x(runs: MarkedRuns, axis: Axis, place: float, values: Sequence[str]) -> list[str]:
    """Blank out the values of runs that had ended before this x."""
    ends = [places[-1] if len(places := run.places(axis)) else -math.inf for run in runs]
    return [value if place <= end else NOTHING for value, end in zip(values, ends, strict=True)]


def shown_steps(
    runs: MarkedRuns, axis: Axis, part: tuple[float, float]
) -> dict[str, tuple[int, int]]:
    """Map each run to its first and last step in a part of x."""
    return {
        run.snapshot.summary.run: (
            math.floor(run.step_of_x(axis, part[0])),
            math.ceil(run.step_of_x(axis, part[1])),
        )
        for run in runs
    }


def _common_level(runs: MarkedRuns) -> tuple[Baseline, ...]:
    """Return the level to beat if it is the same for all runs."""
    levels = {level_to_beat(run.snapshot) for run in runs}
    level = next(iter(levels)) if len(levels) == 1 else None
    if level is None or not math.isfinite(level[1]):
        return ()
    return (Baseline(level[1], f"{level[0]} {figure(level[1])}"),)
