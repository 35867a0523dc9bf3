"""What a chart shows, as frozen values; a run's curves, its x axes, and its points as CSV."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

from rnnlm_tui.schema.status import LIVING

if TYPE_CHECKING:
    from rnnlm_tui.client.monitor import RunSnapshot
    from rnnlm_tui.store.series import SeriesTable


MarksStyle = Literal["braille", "block", "ascii"]
"""Characters for dots: 2×4, 2×2 or 1×1 dots per cell."""

XFormat = Literal["count", "whole", "duration", "clock"]
"""How x is written: `2k`, an integer `2,140`, a time span `5 min`, or local time `14:30`."""


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """One curve; x ascends, all sequences have its length, NaN is a gap, infinity is off scale."""

    name: str
    """Shown in the legend; empty shows only the value."""
    colour: str
    """Hex value from the palette."""
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float] | None = None
    """Lowest value of each bucket; None if a bucket is one point."""
    high: Sequence[float] | None = None
    current: str = ""
    """The newest value as the legend shows it, with its mark (`58.1 ★`)."""
    marker: str = ""
    """A letter at the curve's end and in the legend, to identify it without colour."""
    smooth: bool = True
    """Draw raw points as a dim band under their moving average; otherwise connect the points."""
    geometric: bool = False
    """Average logarithms: for perplexities, which are exponentials of averages."""
    harmonic: bool = False
    """Average reciprocals: for speeds, which are amounts over time."""
    legend_from_curve: bool = False
    """The legend shows the curve's value at the right edge instead of `current`."""
    y_format: Callable[[float], str] | None = None
    """Formats the value at the cursor; None gives about three digits."""
    band: bool = True
    """Show the raw points under a smooth curve; False for charts of many runs."""
    star: tuple[float, float] | None = None
    """x and value of the best point, marked with ★."""
    left_out: tuple[int, ...] = ()
    """Ascending indices of points drawn only if all are shown; cursor and CSV include them."""

    @property
    def drawn(self) -> ChartSeries:
        """The series without the points in `left_out`."""
        if not self.left_out:
            return self
        parts = [
            slice(before + 1, at)
            for before, at in pairwise((-1, *self.left_out, min(len(self.x), len(self.mean))))
        ]

        def without(values: Sequence[float]) -> list[float]:
            return [value for part in parts for value in values[part]]

        low, high = (
            None if values is None else without(values) for values in (self.low, self.high)
        )
        return replace(
            self, x=without(self.x), mean=without(self.mean), low=low, high=high, left_out=()
        )


@dataclass(frozen=True, slots=True)
class Baseline:
    """A dotted level with a label."""

    value: float
    label: str
    """With its value: `bigram 73.0`."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A symbol above the bottom edge; the later of two in one cell wins."""

    x: float
    glyph: str
    colour: str


@dataclass(frozen=True, slots=True)
class ChartData:
    """Everything that one chart shows."""

    title: str
    series: tuple[ChartSeries, ...]
    baselines: tuple[Baseline, ...] = ()
    marks: tuple[Mark, ...] = ()
    evaluated: Sequence[float] = ()
    """x of the evaluations, ascending: each gets an `e` mark, if they are far enough apart."""
    x_end: float | None = None
    """The planned end; the part up to it stays empty. None: a round end after the last point."""
    x_label: str = "step"
    log_y: bool = False
    y_from_zero: bool = False
    note: str = ""
    """Shown below `no points yet` in an empty chart."""
    x_format: XFormat = "count"
    y_unit: str = ""
    """Appended to each y tick: ` %`."""
    guides: tuple[ChartSeries, ...] = ()
    """Reference curves, dotted behind the series; they don't affect the x range."""

    @property
    def can_be_log(self) -> bool:
        """Whether a log y axis makes sense: not for percentages."""
        return "%" not in self.y_unit


def points_csv(data: ChartData, part: tuple[float, float] | None = None) -> tuple[str, int]:
    """Return `series,step,value,lowest,highest` rows for each point, and their number.

    With a `part` of x, only its points. A value is its bucket's mean; lowest and highest are empty
    if a bucket is one point. NaN is written as `nan`.
    """
    import csv  # lazily: only an export needs it
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["series", data.x_label.replace(" ", "_"), "value", "lowest", "highest"])
    count = 0
    for series in (*data.series, *data.guides):
        first, last = 0, len(series.x)
        if part is not None:
            first, last = bisect_left(series.x, part[0]), bisect_right(series.x, part[1])
        name, columns = series.name or data.title.lower(), (series.mean, series.low, series.high)
        for index in range(first, last):
            values = ["" if column is None else _written(column[index]) for column in columns]
            writer.writerow([name, _written(series.x[index]), *values])
            count += 1
    return text.getvalue(), count


def _written(value: float) -> str:
    is_whole = abs(value) < 1e15 and value == int(value)
    return str(int(value)) if is_whole else repr(float(value))


Axis = Literal["step", "tokens", "epoch", "active", "wall"]
"""`active` is seconds of training without pauses, `wall` is Unix seconds."""
AXES: tuple[Axis, ...] = get_args(Axis)
AXIS_TEXTS: dict[Axis, tuple[str, XFormat]] = {
    "step": ("step", "whole"),
    "tokens": ("tokens", "whole"),
    "epoch": ("epoch", "count"),
    "active": ("active time", "duration"),
    "wall": ("time of day", "clock"),
}
"""The label in the bottom edge of a chart, and how x is written."""


def x_values(series: SeriesTable, axis: Axis) -> Sequence[float]:
    """Return x of every bucket, ascending."""
    values: Sequence[float] = ascending(series.time) if axis == "wall" else getattr(series, axis)
    return values


def ascending(times: Sequence[float]) -> Sequence[float]:
    """Hold times still after the clock was set back, until they have caught up."""
    return list(accumulate(times, max))


def x_of_step(series: SeriesTable, axis: Axis, step: float, time: float | None = None) -> float:
    """Return x of a step, interpolated; on the wall axis `time` is used if given."""
    return x_mapper(series, axis)(step, time)


def x_mapper(series: SeriesTable, axis: Axis) -> Callable[[float, float | None], float]:
    """Return `x_of_step` for one table, for converting many steps."""
    if axis == "step":
        return lambda step, _time: step
    places = x_values(series, axis)

    def place(step: float, time: float | None) -> float:
        if axis == "wall" and time is not None:
            return time
        return interpolate(series.step, places, step, from_zero=axis != "wall")

    return place


def step_of_x(series: SeriesTable, axis: Axis, place: float) -> float:
    """Return the step at an x, or the newest step beyond the end: the inverse of `x_of_step`."""
    if axis == "step":
        return place
    return interpolate(x_values(series, axis), series.step, place, from_zero=axis != "wall")


def x_of_times(series: SeriesTable, axis: Axis, times: Sequence[float]) -> Sequence[float]:
    """Return x of measurements taken between steps, ascending.

    Everything before the first step gets the x of the run's start.
    """
    if axis == "wall":
        return ascending(times)
    if not len(series.step):
        return [0.0] * len(times)
    known, places = ascending(series.time), x_values(series, axis)
    start = known[0] - (series.active[0] if len(series.active) else 0.0)
    found: list[float] = []
    at, size, before_time, before = 0, len(known), start, 0.0
    for time in ascending(times):
        while at < size and known[at] < time:
            before_time, before = known[at], places[at]
            at += 1
        if at >= size:
            found.append(places[-1])
            continue
        span = known[at] - before_time
        share = (time - before_time) / span if span > 0 else 1.0
        found.append(before + (places[at] - before) * min(max(share, 0.0), 1.0))
    return found


def interpolate(
    known: Sequence[float], places: Sequence[float], value: float, *, from_zero: bool = True
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


def planned_end(snapshot: RunSnapshot, axis: Axis) -> float | None:
    """Return x of the run's planned end, None if unknown.

    A run that ended early keeps its planned end, except on the wall axis: the empty part of the
    chart is what was not trained.
    """
    summary, series = snapshot.summary, snapshot.series
    if summary.max_steps is None or not summary.max_steps:
        return None
    if axis == "step":
        return float(summary.max_steps)
    if axis == "epoch" and summary.epochs is not None:
        return float(summary.epochs)
    if not summary.step or not len(series.step):
        return None
    if axis == "wall":
        if summary.status in LIVING:
            return None if summary.eta_seconds is None else series.time[-1] + summary.eta_seconds
        return series.time[-1]
    return x_values(series, axis)[-1] * summary.max_steps / series.step[-1]


def extrapolated_x(series: SeriesTable, axis: Axis, step: float) -> float | None:
    """Return x of any step, extrapolated beyond the newest at the run's tokens and epochs per step.

    None on the time axes: future times of another machine's run are unknown.
    """
    if axis == "step":
        return step
    if axis in ("active", "wall") or not len(series.step):
        return None
    if step <= series.step[-1]:
        return x_of_step(series, axis, step)
    return x_values(series, axis)[-1] * step / series.step[-1]


def speeds(series: SeriesTable) -> list[float]:
    """Return each bucket's tokens per second: its tokens over its training time.

    Falls back to the mean of its steps' speeds if the time is unknown.
    """
    tokens, active, mean = series.tokens, series.active, series.columns["tokens_per_second"].mean
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


def curves(snapshot: RunSnapshot) -> SeriesTable:
    """Return the run's buckets with the detail spliced in; `width` is the coarse one."""
    whole, detail = snapshot.series, snapshot.detail
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
        name: Band(*(spliced(band, detail.columns[name], side) for side in ("low", "high", "mean")))
        for name, band in whole.columns.items()
    }
    rows: dict[str, Any] = {name: spliced(whole, detail, name) for name in axes}
    return replace(whole, columns=columns, **rows)


def short_batches(series: SeriesTable) -> tuple[int, ...]:
    """Return the indices of single steps on an epoch's short last batch: their spikes are noise."""
    every, steps = series.short_every, series.step
    if not every or not len(steps):
        return ()
    return tuple(
        index
        for index, (before, at) in enumerate(zip((0.0, *steps), steps, strict=False))
        if at % every == 0 and at - before == 1
    )
