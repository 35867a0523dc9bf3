"""ChartedRun: a run on an x axis, with the places of its steps, evaluations and readings."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from rnnlm_tui.schema.metrics import evaluations_during_run
from rnnlm_tui.schema.status import LIVING
from rnnlm_tui.tui.text import safe_text
from rnnlm_tui.tui.views.chart_data import Axis

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.schema.metrics import EvaluationRow
    from rnnlm_tui.store.series import SeriesTable

MOST_NAME = 20


@dataclass(frozen=True, eq=False)
class ChartedRun:
    """A run as charts show it, with a letter and a colour if it is marked for comparison."""

    snapshot: RunSnapshot
    axis: Axis = "step"
    letter: str = ""
    colour: str = ""

    @property
    def shown(self) -> tuple[object, ...]:
        """What its charts depend on; a snapshot is the same only if it is the same object."""
        return id(self.snapshot), self.axis, self.letter, self.colour

    @property
    def name(self) -> str:
        """The run's name, sanitized and shortened for a legend."""
        return safe_text(self.snapshot.summary.run, limit=MOST_NAME, newlines="show")

    @cached_property
    def curves(self) -> SeriesTable:
        """The run's buckets with the detail spliced in; `width` is the coarse one."""
        whole, detail = self.snapshot.series, self.snapshot.detail
        if detail is None or not len(detail.step) or not len(whole.step):
            return whole
        from rnnlm_tui.store.series import Band

        before = bisect_left(whole.step, detail.step[0])
        after = bisect_right(whole.step, detail.step[-1])

        def spliced(coarse: object, fine: object, name: str) -> array[float]:
            values: array[float] = getattr(coarse, name)
            between: array[float] = getattr(fine, name)
            return values[:before] + between + values[after:]

        axes = ("step", "tokens", "epoch", "active", "time", "nonfinite")
        columns = {
            name: Band(
                *(spliced(band, detail.columns[name], side) for side in ("low", "high", "mean"))
            )
            for name, band in whole.columns.items()
        }
        rows: dict[str, Any] = {name: spliced(whole, detail, name) for name in axes}
        return replace(whole, columns=columns, **rows)

    @cached_property
    def evaluations(self) -> list[EvaluationRow]:
        """The evaluations on the run's evaluation set, one per step, sorted by step."""
        split = self.snapshot.config.evaluation.split
        return evaluations_during_run(self.snapshot.evaluations, split)

    @cached_property
    def origin(self) -> float:
        """The Unix time from which the wall axis counts: the start of training for a marked run;
        0 otherwise, and before the first step."""
        series = self.snapshot.series
        counted = self.axis == "wall" and self.letter and len(series.time)
        return series.time[0] - series.active[0] if counted else 0.0

    @cached_property
    def places(self) -> Sequence[float]:
        """X of every bucket, ascending."""
        return self.places_in(self.snapshot.series)

    def places_in(self, series: SeriesTable) -> Sequence[float]:
        """Return x of every bucket of the run's series, or of its `curves`."""
        if self.axis != "wall":
            places: Sequence[float] = getattr(series, self.axis)
            return places
        return [time - self.origin for time in ascending(series.time)]

    def x_of_step(self, step: float, time: float | None = None) -> float:
        """Return x of a step, interpolated; on the wall axis `time` is used if given."""
        if self.axis == "step":
            return step
        if self.axis == "wall" and time is not None:
            return max(0.0, time - self.origin)
        known, from_zero = self.snapshot.series.step, self.axis != "wall"
        return interpolate(known, self.places, step, from_zero=from_zero)

    def step_of_x(self, place: float) -> float:
        """Return the step at an x, or the newest step beyond the end."""
        if self.axis == "step":
            return place
        known, from_zero = self.snapshot.series.step, self.axis != "wall"
        return interpolate(self.places, known, place, from_zero=from_zero)

    def x_of_times(self, times: Sequence[float]) -> Sequence[float]:
        """Return x of measurements taken between steps, ascending.

        Everything before the first step gets the x of the run's start.
        """
        series, times = self.snapshot.series, ascending(times)
        if self.axis == "wall":
            return times
        if not len(series.step):
            return [0.0] * len(times)
        ends = ascending(series.time)
        known, places = [ends[0] - series.active[0], *ends], [0.0, *self.places]
        return [interpolate(known, places, time, from_zero=False) for time in times]

    @property
    def planned_end(self) -> float | None:
        """X of the run's planned end, None if unknown.

        A run that ended early keeps its planned end, except on the wall axis: the empty part of the
        chart is what was not trained.
        """
        summary = self.snapshot.summary
        if not summary.max_steps:
            return None
        if self.axis == "epoch" and summary.epochs is not None:
            return float(summary.epochs)
        if self.axis == "wall" and len(self.places):
            left = summary.eta_seconds if summary.status in LIVING else 0.0
            return None if left is None else self.snapshot.series.time[-1] + left - self.origin
        return self.x_beyond(summary.max_steps)

    def x_beyond(self, step: float) -> float | None:
        """Return x of any step, extrapolated beyond the newest at the run's rate per step.

        None on the time of day, and before the first step on every axis but that of steps.
        """
        known = self.snapshot.series.step
        if self.axis == "step":
            return float(step)
        if self.axis == "wall" or not len(known):
            return None
        if step <= known[-1]:
            return self.x_of_step(step)
        return self.places[-1] * step / known[-1]

    @property
    def speeds(self) -> list[float]:
        """Each bucket's tokens per second: its tokens over its training time.

        Falls back to the mean of its steps' speeds if the time is unknown.
        """
        series = self.curves
        tokens, active = series.tokens, series.active
        mean = series.columns["tokens_per_second"].mean
        if not len(tokens):
            return []
        rates = [
            (after - before) / (end - start) if end > start and after > before else known
            for before, after, start, end, known in zip(
                tokens, tokens[1:], active, active[1:], mean[1:], strict=False
            )
        ]
        # whether it starts with the run's first step
        whole = series.step[0] <= series.width and active[0] > 0 and tokens[0] > 0
        return [tokens[0] / active[0] if whole else mean[0], *rates]

    @cached_property
    def short_batches(self) -> tuple[int, ...]:
        """Indices of single steps on an epoch's short last batch: their spikes are noise."""
        every, steps = self.curves.short_every, self.curves.step
        if not every or not len(steps):
            return ()
        return tuple(
            index
            for index, (before, at) in enumerate(zip((0.0, *steps), steps, strict=False))
            if at % every == 0 and at - before == 1
        )


def ascending(times: Sequence[float]) -> Sequence[float]:
    """Hold times still after the clock was set back, until they have caught up."""
    return list(accumulate(times, max))


def interpolate(
    known: Sequence[float], places: Sequence[float], value: float, *, from_zero: bool
) -> float:
    """Interpolate between known values.

    Beyond the end, return the last place. Before the start, interpolate from 0 or return the first
    place. If none is known, return the value.
    """
    if not len(known):
        return value
    index = bisect_left(known, value)
    if index >= len(known):
        return places[-1]
    if not index and not from_zero:
        return places[0]
    before_value, before = (known[index - 1], places[index - 1]) if index else (0.0, 0.0)
    span = known[index] - before_value
    return before + (places[index] - before) * ((value - before_value) / span if span > 0 else 1.0)
