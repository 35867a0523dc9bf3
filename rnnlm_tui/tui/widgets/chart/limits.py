"""The visible range of x and y: robust against outliers, without the steep start, and stable."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from rnnlm_tui.tui.widgets.chart.bins import Bin

STEEP_PART = 0.08
"""Share of the data at the start that may be left out of y."""
LARGEST_LOG = 230.0
"""Natural logarithm of the largest limit, so that computing with limits can't overflow."""
FEW_COLUMNS = 24
"""Data up to this many dot columns wide is shown completely."""
CURVE_SHARE, RAW_SHARE = 0.02, 0.12
"""Share of a curve's values, and of raw points, ignored at either end to find the usual range."""
FENCE = 0.75
"""Values this many spans beyond the usual range are outliers."""
CURVE_FENCE = 1.5
"""For curves on a log axis, where showing a bump costs the rest little room."""
NEAR, NEAR_FROM_ZERO = 0.6, 1.25
"""A baseline is shown within this many spans of the data; more if y starts at 0."""
ROOM, FORESIGHT = 0.04, 0.15
"""Margin beyond the data, in spans; more on a side that the data has just left."""
LEAST_LOG, LEAST_SHARE = 0.01, 1e-9
"""Data that spans less, as logarithms or relative to its size, is drawn like a single value."""
STILL = 0.6
"""Limits are kept while the data lies within them and fills this share."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The y range, low < high; both positive on a log axis."""

    low: float
    high: float
    log: bool


def wanted_range(
    bands: Sequence[Sequence[Bin]], curves: Sequence[Sequence[tuple[int, float]]], columns: int, log: bool, show_all: bool
) -> tuple[float, float] | None:
    """Return the range of the visible columns; None if nothing is visible.

    `bands` and `curves` belong to the same series by position. Raw points have outliers in many dot
    columns, since one in a thousand points is enough for each; a curve has few.
    """
    raw = [(column, low, high) for band in bands for column, mean, low, high, _, _, _ in band if 0 <= column < columns and mean == mean]
    drawn = [(column, value, value) for curve in curves for column, value in curve if 0 <= column < columns and value == value]
    if log:
        raw, drawn = _logarithms(raw), _logarithms(drawn)
    points = raw + drawn
    if not points:
        return None
    back = math.exp if log else _bounded
    places, bottoms, tops = zip(*points, strict=True)
    first, last = min(places), max(places)
    steep_until = first + math.ceil((last - first) * STEEP_PART)
    inner = [
        found
        for part, share, fence in ((raw, RAW_SHARE, FENCE), (drawn, CURVE_SHARE, CURVE_FENCE if log else FENCE))
        if (found := _inner(part, steep_until, share, fence)) is not None
    ]
    if show_all or last - first < FEW_COLUMNS or not inner:
        return back(min(bottoms)), back(max(tops))
    low, high = min(found[0] for found in inner), max(found[1] for found in inner)
    span = (high - low) or abs(high) * 0.05 or 1.0
    start = [point for point in points if point[0] <= steep_until]
    start_low, start_high = min((point[1] for point in start), default=low), max((point[2] for point in start), default=high)
    if start_low < low and start_low >= low - FENCE * span:
        low = start_low
    if start_high > high and start_high <= high + 0.25 * span:
        high = start_high
    return back(low), back(high)


def _inner(points: Sequence[tuple[int, float, float]], steep_until: int, share: float, fence: float) -> tuple[float, float] | None:
    """Return the range after the steep start without outliers.

    Outliers are more than `fence` spans beyond the middle, which excludes `share` of the values at
    either end.
    """
    rest = sorted([low for column, low, _ in points if column > steep_until] + [high for column, _, high in points if column > steep_until])
    if len(rest) < FEW_COLUMNS:
        return None
    skip = max(3, int(len(rest) * share))
    inner_low, inner_high = rest[skip], rest[-1 - skip]
    span = (inner_high - inner_low) or abs(inner_high) * 0.05 or 1.0
    return rest[bisect_left(rest, inner_low - fence * span)], rest[bisect_right(rest, inner_high + fence * span) - 1]


def _logarithms(points: Sequence[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    log, found = math.log, []
    for column, low, high in points:
        if high > 0:
            top = log(high)
            bottom = log(low) if 0 < low < high else top
            found.append((column, bottom if bottom > -LARGEST_LOG else -LARGEST_LOG, top if top < LARGEST_LOG else LARGEST_LOG))
    return found


def with_baselines(wanted: tuple[float, float], values: Sequence[float], log: bool, from_zero: bool) -> tuple[float, float]:
    """Extend the range to baselines that are near; a distant one would flatten the curves."""
    low, high = wanted
    for value in values:
        if not math.isfinite(value) or (log and value <= 0):
            continue
        bottom, top, level = (math.log(low), math.log(high), math.log(value)) if log else (min(low, 0.0) if from_zero else low, high, value)
        span, near = (top - bottom) or abs(top) * 0.2 or 1.0, NEAR_FROM_ZERO if from_zero and not log else NEAR
        if bottom - near * span <= level <= top + near * span:
            low, high = min(low, value), max(high, value)
    return low, high


def settle(wanted: tuple[float, float], log: bool, from_zero: bool, before: Limits | None) -> Limits:
    """Return rounded limits with a margin, or the previous ones while they still fit."""
    low, high = wanted
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
    moves = before is not None and before.log == log
    below, above = (FORESIGHT if before and moves and low < before.low else ROOM), (FORESIGHT if before and moves and high > before.high else ROOM)
    if log:
        span = math.log(high / low)
        span = span if span > LEAST_LOG else 1.0
        return Limits(_two_digits(low * math.exp(-below * span), down=True), _two_digits(high * math.exp(above * span), down=False), True)
    span = high - low if high - low > LEAST_SHARE * abs(high) else abs(high) * 0.2 or 1.0
    if from_zero:
        step = nice(high / 6) if high > 0 else 1.0
        return Limits(low if low == 0 else math.floor(low / step) * step, max(math.ceil(high / step - 1e-9), 1) * step, False)
    step = nice(span / 20)
    bottom, top = math.floor((low - below * span) / step) * step, math.ceil((high + above * span) / step) * step
    return Limits(0.0 if bottom < 0 <= low else bottom, top, False)


def settle_end(last: float, start: float, before: float | None) -> float:
    """Return a round x end a little past the newest point, kept until that passes it."""
    length = last - start
    if before is not None and last <= before and length >= 0.7 * (before - start):
        return before
    if not length > 0:
        return start + 1.0
    step = nice(length / 8)
    return start + math.ceil(length * 1.02 / step) * step


def nice(value: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 × 10ⁿ that isn't below `value` (> 0)."""
    size = 10.0 ** math.floor(math.log10(value))
    return next((factor * size for factor in (1, 2, 2.5, 5) if factor * size >= value * (1 - 1e-9)), 10 * size)


def _bounded(value: float) -> float:
    return min(max(value, -math.exp(LARGEST_LOG)), math.exp(LARGEST_LOG))


def _two_digits(value: float, *, down: bool) -> float:
    size = 10.0 ** (math.floor(math.log10(value)) - 1)
    return (math.floor(value / size + 1e-9) if down else math.ceil(value / size - 1e-9)) * size


def _span(low: float, high: float, log: bool) -> float:
    return math.log(high / low) if log else high - low
