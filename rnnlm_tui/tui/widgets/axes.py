"""The x axes of the charts: step, tokens, epoch, active time and wall time."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from rnnlm_tui.contract.status import LIVING
from rnnlm_tui.tui.widgets.chart.data import XFormat

if TYPE_CHECKING:
    from rnnlm_tui.store.series import SeriesTable
    from rnnlm_tui.supervisor.monitor import RunSnapshot

Axis = Literal["step", "tokens", "epoch", "active", "wall"]
"""`active` is seconds of training without pauses, `wall` is Unix seconds."""
AXES: tuple[Axis, ...] = ("step", "tokens", "epoch", "active", "wall")
AXIS_LABELS: dict[Axis, str] = {"step": "step", "tokens": "tokens", "epoch": "epoch", "active": "active time", "wall": "time of day"}
"""Shown in the bottom edge of a chart."""
AXIS_FORMATS: dict[Axis, XFormat] = {"step": "whole", "tokens": "whole", "epoch": "count", "active": "duration", "wall": "clock"}


def x_values(series: SeriesTable, axis: Axis) -> Sequence[float]:
    """Return x of every bucket, ascending."""
    if axis == "wall":
        return ascending(series.time)
    return {"step": series.step, "tokens": series.tokens, "epoch": series.epoch, "active": series.active}[axis]


def ascending(times: Sequence[float]) -> Sequence[float]:
    """Hold times still after the clock was set back, until they have caught up."""
    return list(accumulate(times, max))


def x_of_step(series: SeriesTable, axis: Axis, step: float, time: float | None = None) -> float:
    """Return x of a step, interpolated between buckets; on the wall axis `time` is used if given."""
    return x_mapper(series, axis)(step, time)


def x_mapper(series: SeriesTable, axis: Axis) -> Callable[[float, float | None], float]:
    """Return `x_of_step` for one table, for converting many steps."""
    if axis == "step" or (not len(series.step) and axis != "wall"):
        return lambda step, _time: step
    places = x_values(series, axis)

    def place(step: float, time: float | None) -> float:
        if axis == "wall" and time is not None:
            return time
        return interpolate(series.step, places, step, from_zero=axis != "wall") if len(places) else step

    return place


def step_of_x(series: SeriesTable, axis: Axis, place: float) -> float:
    """Return the step at an x, or the newest step beyond the end: the inverse of `x_of_step`."""
    if axis == "step":
        return place
    return interpolate(x_values(series, axis), series.step, place, from_zero=axis != "wall") if len(series.step) else place


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


def interpolate(known: Sequence[float], places: Sequence[float], value: float, *, from_zero: bool = True) -> float:
    """Interpolate between known values.

    Beyond the end, return the last place. Before the start, interpolate from 0 or return the first
    place.
    """
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
    newest = series.step[-1]
    return x_of_step(series, axis, step) if step <= newest else x_values(series, axis)[-1] * step / newest
