"""A chart's axes: limits that are robust against outliers and stable, and round ticks."""

import math
import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple

from rnnlm_tui.schema import formatting
from rnnlm_tui.tui.views.chart_data import XFormat
from rnnlm_tui.tui.widgets.chart.raster import LARGEST, Bin, Scale

STEEP_PART = 0.08
"""Share of the data at the start that may be left out of y."""
SMALLEST = 1 / LARGEST
"""The smallest value on a log axis, and the smallest step between ticks."""
BELOW = -1e3
"""The place of smaller values on a log axis: below every limit."""
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
"""Limits are kept while they contain the data and the data fills this share of them."""


class Limits(NamedTuple):
    """The y range, low < high; logarithms on a log axis, like everything that is drawn."""

    low: float
    high: float


def y_of(value: float, log: bool) -> float:
    """Return a value's y, which is its logarithm on a log axis; NaN stays NaN."""
    if not log or value != value:
        return value
    return math.log(value) if value >= SMALLEST else BELOW


def value_at_y(y: float, log: bool) -> float:
    """Return the value at a y."""
    return math.exp(y) if log else y


def wanted_range(
    bands: Sequence[Sequence[Bin]],
    curves: Sequence[Sequence[tuple[int, float]]],
    columns: int,
    log: bool,
    show_all: bool,
) -> Limits | None:
    """Return the range of the visible columns; None if nothing is visible.

    Raw points have outliers in many dot columns, since one in a thousand points is enough for each;
    a curve has few.
    """
    raw = [
        (column, low if low > BELOW else high, high)
        for band in bands
        for column, mean, low, high, _, _ in band
        if 0 <= column < columns and mean == mean and (high > BELOW or not log)
    ]
    drawn = [
        (column, y, y)
        for curve in curves
        for column, y in curve
        if 0 <= column < columns and y == y and (y > BELOW or not log)
    ]
    points = raw + drawn
    if not points:
        return None
    places, bottoms, tops = zip(*points, strict=True)
    first, last = min(places), max(places)
    steep_until = first + math.ceil((last - first) * STEEP_PART)
    inner_raw = _inner(raw, steep_until, RAW_SHARE, FENCE)
    inner_drawn = _inner(drawn, steep_until, CURVE_SHARE, CURVE_FENCE if log else FENCE)
    inner = [found for found in (inner_raw, inner_drawn) if found is not None]
    if show_all or last - first < FEW_COLUMNS or not inner:
        return Limits(min(bottoms), max(tops))
    low, high = min(found[0] for found in inner), max(found[1] for found in inner)
    span = (high - low) or abs(high) * 0.05 or 1.0
    start = [point for point in points if point[0] <= steep_until]
    start_low = min((point[1] for point in start), default=low)
    start_high = max((point[2] for point in start), default=high)
    if low - FENCE * span <= start_low < low:
        low = start_low
    if high < start_high <= high + 0.25 * span:
        high = start_high
    return Limits(low, high)


def _inner(
    points: Sequence[tuple[int, float, float]], steep_until: int, share: float, fence: float
) -> tuple[float, float] | None:
    """Return the range after the steep start without outliers.

    Outliers are more than `fence` spans beyond the middle, which excludes `share` of the values at
    either end.
    """
    rest = sorted(y for column, *ends in points if column > steep_until for y in ends)
    if len(rest) < FEW_COLUMNS:
        return None
    skip = max(3, int(len(rest) * share))
    low, high = rest[skip], rest[-1 - skip]
    span = (high - low) or abs(high) * 0.05 or 1.0
    after = bisect_right(rest, high + fence * span)
    return rest[bisect_left(rest, low - fence * span)], rest[after - 1]


def with_levels(wanted: Limits, levels: Sequence[float], from_zero: bool) -> Limits:
    """Extend the range to levels that are near; a distant one would flatten the curves."""
    low, high = wanted
    near = NEAR_FROM_ZERO if from_zero else NEAR
    for level in levels:
        bottom = min(low, 0.0) if from_zero else low
        span = (high - bottom) or abs(high) * 0.2 or 1.0
        if bottom - near * span <= level <= high + near * span:
            low, high = min(low, level), max(high, level)
    return Limits(low, high)


def settle(wanted: Limits, log: bool, from_zero: bool, before: Limits | None) -> Limits:
    """Return rounded limits with a margin, or the previous ones while they still fit."""
    low, high = min(wanted.low, 0.0) if from_zero else wanted.low, wanted.high
    below = above = ROOM
    if before is not None:
        fills = high - low >= STILL * (before.high - before.low)
        if before.low <= low and high <= before.high and fills:
            return before
        below = FORESIGHT if low < before.low else ROOM
        above = FORESIGHT if high > before.high else ROOM
    if from_zero:
        step = nice(high / 6) if high > 0 else 1.0
        return Limits(math.floor(low / step) * step, max(math.ceil(high / step - 1e-9), 1) * step)
    span = high - low
    if span <= (LEAST_LOG if log else LEAST_SHARE * abs(high)):
        span = 1.0 if log else abs(high) * 0.2 or 1.0
    bottom, top = low - below * span, high + above * span
    if log:
        bottom, top = math.exp(bottom), math.exp(top)
        steps = [10.0 ** (math.floor(math.log10(end)) - 1) for end in (bottom, top)]  # two digits
    else:
        steps = [nice(span / 20)] * 2
    bottom = math.floor(bottom / steps[0] + 1e-9 * log) * steps[0]
    top = math.ceil(top / steps[1] - 1e-9 * log) * steps[1]
    if not log and bottom < 0 <= low:
        bottom = 0.0
    return Limits(y_of(bottom, log), y_of(top, log))


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
    """Return the smallest of 1, 2, 2.5, 5 × 10ⁿ that isn't below `value` (> 0), or SMALLEST."""
    size = 10.0 ** math.floor(math.log10(max(value, SMALLEST)))
    return next(
        (factor * size for factor in (1, 2, 2.5, 5) if factor * size >= value * (1 - 1e-9)),
        10 * size,
    )


COARSE = 1.4
"""If a log axis row spans this factor, only values near its middle are labelled.

Otherwise labels and curves would seem to disagree.
"""
OFF_MIDDLE = 0.3
"""How far from the middle, in rows."""
LOG_LEVELS: tuple[tuple[float, ...], ...] = ((1,), (2, 5), (3, 7), (1.5, 4, 6, 8), (1.2, 2.5, 9))
"""Mantissas on a log axis, preferred ones first."""
SPANS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400,
    172800, 604800,
)  # fmt: skip
"""Seconds between time ticks."""
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
LABEL_GAP = 4
"""Least cells between the starts of two labels, beyond the label's own."""


def y_ticks(limits: Limits, rows: int, sub_rows: int, log: bool) -> list[tuple[int, float]]:
    """Return text row and value of each tick; a text row has some dot rows.

    From five rows on, a row is free between two labels.
    """
    scale = Scale(*limits, rows * sub_rows)

    def place(y: float) -> float:
        """The row of a y, 0.5 in the middle of the first."""
        return (scale.row(y) + 0.5) / sub_rows

    apart = 2 if rows >= 5 else 1
    if log:
        ticks = _log_ticks(limits, rows, place, apart)
        if len(ticks) >= 2:
            return ticks
    low, high = (value_at_y(y, log) for y in limits)
    step = nice((high - low) / max((rows - 1) // apart, 1))
    if low == 0:
        parts = range(min(max((rows - 1) // apart, 1), 6), 0, -1)
        step = next((high / some for some in parts if is_round(high / some)), step)
    return [(math.floor(place(y_of(value, log))), value) for value in multiples(step, low, high)]


def _log_ticks(
    limits: Limits, rows: int, place: Callable[[float], float], apart: int
) -> list[tuple[int, float]]:
    chosen: list[tuple[int, float]] = []
    low, high = limits
    coarse = math.exp((high - low) / max(rows, 1)) >= COARSE
    decades = range(math.floor(low / math.log(10)), math.ceil(high / math.log(10)) + 1)
    for level in LOG_LEVELS:
        for value in (mantissa * 10.0**decade for decade in decades for mantissa in level):
            if low - 1e-9 <= math.log(value) <= high + 1e-9:
                at = place(math.log(value))
                row = math.floor(at)
                if (not coarse or abs(at - row - 0.5) <= OFF_MIDDLE) and all(
                    abs(row - other) >= apart for other, _ in chosen
                ):
                    chosen.append((row, value))
        if level == LOG_LEVELS[0] and len(chosen) > rows // apart:
            break
    return sorted(chosen, key=itemgetter(1))


def multiples(step: float, low: float, high: float) -> list[float]:
    """Return the multiples of a step from `low` to `high`."""
    first, last = math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6)
    return [number * step for number in range(first, last + 1)]


def is_round(value: float) -> bool:
    """Whether a step has one of the mantissas 1, 1.5, 2, 2.5, 3, 4, 5."""
    mantissa = value / 10.0 ** math.floor(math.log10(value)) if value > 0 else 0.0
    return any(abs(mantissa - good) < 1e-6 for good in (1, 1.5, 2, 2.5, 3, 4, 5, 10))


def y_labels(values: Sequence[float], log: bool, unit: str = "") -> list[str]:
    """Format values with the same number of decimals, as few as keep them distinct."""
    return [text + unit for text in _y_texts(values, log)] if values else []


def _y_texts(values: Sequence[float], log: bool) -> list[str]:
    largest = max(abs(value) for value in values)
    smallest = min((abs(value) for value in values if value), default=1.0)
    step = min((b - a for a, b in pairwise(values)), default=smallest)
    if largest < 0.0095 or (log and smallest < 0.0095):
        return [formatting.scientific(value) if value else "0" for value in values]
    if log:
        cleaned = [float(f"{value:.6g}") for value in values]
        texts = [f"{it:g}" if 0.01 <= it < 1000 else formatting.short(it) for it in cleaned]
        if len(set(texts)) == len(texts):
            return texts
    if largest >= 1000 and step / largest < 0.002:
        return [f"{value:,.0f}" for value in values]
    sizes = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (0.0, ""))
    size, letter = next((size or 1.0, letter) for size, letter in sizes if largest >= size)
    texts = fixed([value / size for value in values], step / size)
    return [text + letter if float(text) else "0" for text in texts] if letter else texts


def fixed(values: Sequence[float], step: float) -> list[str]:
    """Format with the decimals that the step needs; integers without any."""
    decimals = next(
        (
            digits
            for digits in range(7)
            if abs(step * 10**digits - round(step * 10**digits)) < 1e-6 * 10**digits * step + 1e-9
        ),
        7,
    )
    texts = [f"{value:.{decimals}f}" for value in values]
    return [re.sub(r"\.0+$", "", text) for text in texts]


def x_ticks(
    start: float, end: float, width: int, form: XFormat = "count"
) -> list[tuple[float, str]]:
    """Return (value, label) for an axis of `width` cells, ascending, evenly spaced, in one unit."""
    span = end - start
    if not span > 0 or width < 4:
        return []
    step = _step(span / width * max(6, min(12, width // 3)), form)
    shift = _local_offset(end) if form == "clock" else 0
    while True:
        values = [value - shift for value in multiples(step, start + shift, end + shift)]
        texts = x_texts(values, form, step)
        if (
            len(values) < 2
            or step >= span
            or max(map(len, texts)) + LABEL_GAP <= step / span * width
        ):
            return list(zip(values, texts, strict=True))
        step = _step(step * 1.01, form)


def _step(least: float, form: XFormat) -> float:
    """Return the smallest round step that isn't below `least`."""
    if form in ("count", "whole", "power"):
        return nice(least if form == "count" else max(least, 1.0))
    return next((float(seconds) for seconds in SPANS if seconds >= least), nice(least))


def x_texts(values: Sequence[float], form: XFormat, step: float) -> list[str]:
    """Label ticks that are `step` apart, in one unit."""
    if form == "clock":
        pattern = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86400 else "%d %b"
        return [time.strftime(pattern, time.localtime(value)) for value in values]
    if form == "power":
        return [formatting.scientific(10**value) for value in values]
    if form == "duration":
        seconds, unit = next(
            ((seconds, unit) for seconds, unit in UNITS if step % seconds == 0), (1, "s")
        )
        return [f"{value / seconds:.10g} {unit}" if value else "0" for value in values]
    largest = max(map(abs, values), default=0.0)
    if largest >= 1000:
        # `200 … 1,000`, not `0.2k`
        from_hundreds = largest < 10_000 and any(0 < abs(value) < 1000 for value in values)
        if step < 100 or from_hundreds:
            return [formatting.count(value) for value in values]
        return y_labels(values, False)
    return fixed(values, step)


def x_at(value: float, form: XFormat) -> str:
    """Format the cursor's x in full: `2,140`, `1 min 39 s`, `14:31:07`."""
    if form == "clock":
        return time.strftime("%H:%M:%S", time.localtime(value))
    if form == "duration":
        return formatting.duration(value)
    if form == "power":
        return formatting.scientific(10**value)
    whole = form == "whole" or value == round(value) or abs(value) >= 1000
    return formatting.count(value) if whole else f"{value:.2f}"


def _local_offset(value: float) -> int:
    return time.localtime(value).tm_gmtoff
