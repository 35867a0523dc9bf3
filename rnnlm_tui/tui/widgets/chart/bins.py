"""Sort points into dot columns with their lowest, highest and mean value, and smooth them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from rnnlm_tui.tui.widgets.chart.data import ChartSeries

VIRTUAL_POINTS = 1000
"""Smoothing weights refer to this many points over the whole x range, however points are bucketed.
"""

NAN = math.nan


class Bin(NamedTuple):
    """The points of one dot column."""

    column: int
    mean: float
    """NaN means a gap."""
    low: float
    high: float
    points: int
    first: int
    """Index of the first point; the last is first + points - 1."""
    infinite: int = 0
    """How many of them are infinite."""


def bins_of(series: ChartSeries, start: float, end: float, columns: int, lead: int = 0) -> list[Bin]:
    """Return the non-empty dot columns from `start` to `end`.

    With `lead` more columns on the left, numbered below 0, and one on each side for lines that
    cross
    the edges.
    """
    x, mean = series.x, series.mean
    low, high = series.low or mean, series.high or mean
    size = min(len(x), len(mean), len(low), len(high))
    width = (end - start) / max(columns - 1, 1)
    bins: list[Bin] = []
    if not size or not width > 0:
        return bins
    first = bisect_left(x, start - (lead + 0.5) * width, 0, size)
    if first:
        bins.append(_bin(series, mean, low, high, first - 1, first, min(math.floor((x[first - 1] - start) / width + 0.5), -lead - 1)))
    while first < size:
        column = math.floor((x[first] - start) / width + 0.5)
        if column > columns - 1:
            bins.append(_bin(series, mean, low, high, first, first + 1, column))
            break
        after, edge = first + 1, start + (column + 0.5) * width
        if after < size and x[after] < edge:
            after = bisect_left(x, edge, after, size)
        elif math.isfinite((middle := mean[first]) + (bottom := low[first]) + (top := high[first])):
            bins.append(Bin(column, middle, bottom, top, 1, first))
            first = after
            continue
        bins.append(_bin(series, mean, low, high, first, after, column))
        first = after
    return bins


def _bin(series: ChartSeries, mean: Sequence[float], low: Sequence[float], high: Sequence[float], first: int, after: int, column: int) -> Bin:
    means = mean[first:after]
    lows, highs = (means if low is mean else low[first:after]), (means if high is mean else high[first:after])
    total, bottom, top = sum(means), min(lows), max(highs)
    infinite = 0
    if not math.isfinite(total + bottom + top):
        infinite = sum(map(math.isinf, means))
        rows = [row for row in zip(means, lows, highs, strict=True) if math.isfinite(sum(row))]
        if not rows:
            return Bin(column, NAN, NAN, NAN, after - first, first, infinite)
        means, lows, highs = zip(*rows, strict=True)
        total, bottom, top = sum(means), min(lows), max(highs)
    if series.geometric and bottom > 0:
        average = math.exp(sum(map(math.log, means)) / len(means))
    else:
        average = len(means) / sum(1 / value for value in means) if series.harmonic and min(means) > 0 else total / len(means)
    return Bin(column, average, bottom, top, after - first, first, infinite)


def lead_of(smoothing: float, whole: float, shown: float, columns: int) -> int:
    """Return how many columns left of a zoomed view still affect the average at its edge."""
    if smoothing <= 0 or shown >= whole:
        return 0
    reach = 5 / -math.log(smoothing) / VIRTUAL_POINTS * whole  # points further away weigh less than 1 %
    return min(math.ceil(reach / shown * columns), 2000)


def smoothed(bins: Sequence[Bin], smoothing: float, columns_of_range: float, geometric: bool, harmonic: bool = False) -> list[tuple[int, float]]:
    """Return each bin's column and exponential moving average; a NaN gap restarts the average.

    `smoothing`, from 0 (none) to 1, is the weight of the past between two of VIRTUAL_POINTS points;
    `columns_of_range` is the whole x range in dot columns at this zoom.
    """
    curve: list[tuple[int, float]] = []
    per_column = smoothing ** (VIRTUAL_POINTS / max(columns_of_range, 1.0)) if smoothing > 0 else 0.0
    total = weight = 0.0
    before = bins[0].column if bins else 0
    logs = geometric and all(not bin.low <= 0 for bin in bins)
    inverse = harmonic and all(not bin.mean <= 0 for bin in bins)
    for column, mean, _, _, points, _, _ in bins:
        if mean != mean:
            curve.append((column, NAN))
            total = weight = 0.0
            continue
        keep = per_column if column - before == 1 else per_column ** (column - before)
        total, weight = total * keep + (math.log(mean) if logs else 1 / mean if inverse else mean) * points, weight * keep + points
        before = column
        curve.append((column, math.exp(total / weight) if logs else weight / total if inverse else total / weight))
    return curve
