"""Which part of x and y a chart shows: robust against outliers, without the first steep fall, and at rest while it can be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rnnlm_tui.tui.widgets.chart.bins import Bin

STEEP_PART = 0.08
"""The part of the data at its start that may be left out of y."""
FENCE = 0.75
"""Values further than this many spans beyond the middle 96 % are outliers."""
STILL = 0.6
"""Limits stay as long as the data lies within them and fills this part of them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The y range, with low < high; on a log axis both positive."""

    low: float
    high: float
    log: bool


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the data asks for."""

    low: float
    high: float
    steep_until: int
    """Dot column up to which values above `high` are the first steep fall."""


def wanted_range(bands: Sequence[Sequence[Bin]], curves: Sequence[Sequence[tuple[int, float]]], columns: int, log: bool, show_all: bool) -> Wanted | None:
    """The range of what is seen in columns 0 to columns - 1; None: nothing is seen. `bands` and `curves` are those of one series at the same place."""
    points = [(bin.column, bin.low, bin.high) for band in bands for bin in band if 0 <= bin.column < columns and bin.mean == bin.mean]
    points += [(column, value, value) for curve in curves for column, value in curve if 0 <= column < columns and value == value]
    if log:
        points = [(column, math.log(low if low > 0 else high), math.log(high)) for column, low, high in points if high > 0]
    if not points:
        return None
    back = math.exp if log else float
    first, last = min(point[0] for point in points), max(point[0] for point in points)
    bottom, top = min(point[1] for point in points), max(point[2] for point in points)
    steep_until = first + math.ceil((last - first) * STEEP_PART)
    rest = sorted(value for point in points if point[0] > steep_until for value in point[1:])
    if show_all or len(rest) < 16:
        return Wanted(back(bottom), back(top), -1)
    skip = max(3, len(rest) // 50)
    inner_low, inner_high = rest[skip], rest[-1 - skip]
    span = (inner_high - inner_low) or abs(inner_high) * 0.05 or 1.0
    low = next(value for value in rest if value >= inner_low - FENCE * span)
    high = next(value for value in reversed(rest) if value <= inner_high + FENCE * span)
    start_low = min((point[1] for point in points if point[0] <= steep_until), default=low)
    start_high = max((point[2] for point in points if point[0] <= steep_until), default=high)
    if start_low < low and start_low >= low - FENCE * span:
        low = start_low
    if start_high > high and start_high <= high + 0.25 * span:
        high = start_high
    return Wanted(back(low), back(high), steep_until if start_high > high else -1)


def with_baselines(wanted: Wanted, values: Sequence[float], log: bool) -> Wanted:
    """Make room for baselines that are near; one that is far away would press the curves flat."""
    low, high = wanted.low, wanted.high
    for value in values:
        if not math.isfinite(value) or (log and value <= 0):
            continue
        bottom, top, level = (math.log(low), math.log(high), math.log(value)) if log else (low, high, value)
        span = (top - bottom) or abs(top) * 0.2 or 1.0
        if bottom - 0.6 * span <= level <= top + 0.6 * span:
            low, high = min(low, value), max(high, value)
    return Wanted(low, high, wanted.steep_until)


def settle(wanted: Wanted, log: bool, from_zero: bool, before: Limits | None) -> Limits:
    """Round limits with some room; those from before where they still serve, so that the picture stands still."""
    low, high = wanted.low, wanted.high
    if from_zero and not log:
        low = min(low, 0.0)
    if (
        before is not None
        and before.log == log
        and before.low <= low
        and high <= before.high
        and _span(low, high, log) >= STILL * _span(before.low, before.high, log)
    ):
        return before
    if log:
        room = 0.06 * math.log(high / low) or 0.1
        return Limits(_two_digits(low * math.exp(-room), down=True), _two_digits(high * math.exp(room), down=False), True)
    span = (high - low) or abs(high) * 0.2 or 1.0
    if from_zero:
        step = nice(high / 6) if high > 0 else 1.0
        return Limits(low if low == 0 else math.floor(low / step) * step, max(math.ceil(high / step - 1e-9), 1) * step, False)
    step = nice(span / 20)
    bottom, top = math.floor((low - 0.06 * span) / step) * step, math.ceil((high + 0.06 * span) / step) * step
    return Limits(0.0 if bottom < 0 <= low else bottom, top, False)


def settle_end(last: float, start: float, before: float | None) -> float:
    """The right end of x where none is planned: round, a little past the newest point, and at rest until that passes it."""
    length = last - start
    if before is not None and last <= before and length >= 0.7 * (before - start):
        return before
    if not length > 0:
        return start + 1.0
    step = nice(length / 8)
    return start + math.ceil(length * 1.02 / step) * step


def nice(value: float) -> float:
    """The smallest of 1, 2, 2.5, 5 × 10ⁿ that is not below `value` (> 0)."""
    size = 10.0 ** math.floor(math.log10(value))
    return next((factor * size for factor in (1, 2, 2.5, 5) if factor * size >= value * (1 - 1e-9)), 10 * size)


def _two_digits(value: float, *, down: bool) -> float:
    size = 10.0 ** (math.floor(math.log10(value)) - 1)
    return (math.floor(value / size + 1e-9) if down else math.ceil(value / size - 1e-9)) * size


def _span(low: float, high: float, log: bool) -> float:
    return math.log(high / low) if log else high - low
