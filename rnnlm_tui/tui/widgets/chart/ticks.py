"""Round tick values and their labels: `80`, `1k`, `4e-3`, `15 %`, `5 min`, `14:30`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from rnnlm_tui.contract import figures
from rnnlm_tui.tui.widgets.chart.data import XFormat
from rnnlm_tui.tui.widgets.chart.limits import Limits, nice

COARSE = 1.4
"""If a log axis row spans this factor, only values near its middle are labelled.

Otherwise labels and curves would seem to disagree.
"""
OFF_MIDDLE = 0.3
"""How far from the middle, in rows."""
LOG_LEVELS: tuple[tuple[float, ...], ...] = ((1,), (2, 5), (3, 7), (1.5, 4, 6, 8), (1.2, 2.5, 9))
"""Mantissas on a log axis, preferred ones first."""
SPANS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
"""Seconds between time ticks."""
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
LABEL_GAP = 4
"""Least cells between the starts of two labels, beyond the label's own."""


def y_ticks(limits: Limits, rows: int, place_of: Callable[[float], float]) -> list[float]:
    """Return tick values for `rows` text rows, ascending, with a free row between if there are
    five.

    `place_of` returns a value's row, 0.5 in the middle of the first.
    """
    apart = 2 if rows >= 5 else 1
    if limits.log:
        return _log_ticks(limits, rows, place_of, apart)
    most = max((rows - 1) // apart, 1)
    span = limits.high - limits.low
    if limits.low == 0:
        steps = [limits.high / parts for parts in range(min(most, 6), 0, -1) if is_round(limits.high / parts)]
        step = steps[0] if steps else nice(span / most)
    else:
        step = nice(span / most)
    first, last = math.ceil(limits.low / step - 1e-6), math.floor(limits.high / step + 1e-6)
    return [number * step for number in range(first, last + 1)]


def is_round(value: float) -> bool:
    """Whether a step has one of the mantissas 1, 1.5, 2, 2.5, 3, 4, 5."""
    mantissa = value / 10.0 ** math.floor(math.log10(value)) if value > 0 else 0.0
    return any(abs(mantissa - good) < 1e-6 for good in (1, 1.5, 2, 2.5, 3, 4, 5, 10))


def _log_ticks(limits: Limits, rows: int, place_of: Callable[[float], float], apart: int) -> list[float]:
    chosen: list[tuple[int, float]] = []
    coarse = (limits.high / limits.low) ** (1 / max(rows, 1)) >= COARSE
    decades = range(math.floor(math.log10(limits.low)), math.ceil(math.log10(limits.high)) + 1)
    for level in LOG_LEVELS:
        for value in (mantissa * 10.0**decade for decade in decades for mantissa in level):
            if limits.low * (1 - 1e-9) <= value <= limits.high * (1 + 1e-9):
                row = math.floor(place_of(value))
                if (not coarse or abs(place_of(value) - row - 0.5) <= OFF_MIDDLE) and all(abs(row - other) >= apart for other, _ in chosen):
                    chosen.append((row, value))
        if level == LOG_LEVELS[0] and len(chosen) > rows // apart:
            break
    if len(chosen) >= 2:
        return sorted(value for _, value in chosen)
    step = nice((limits.high - limits.low) / max((rows - 1) // apart, 1))
    return [number * step for number in range(math.ceil(limits.low / step - 1e-6), math.floor(limits.high / step + 1e-6) + 1)]


def y_labels(values: Sequence[float], log: bool, unit: str = "") -> list[str]:
    """Format values with the same number of decimals, as few as keep them distinct."""
    if not values:
        return []
    largest = max(abs(value) for value in values)
    smallest = min((abs(value) for value in values if value), default=1.0)
    step = min((b - a for a, b in pairwise(values)), default=smallest)
    if largest < 0.0095 or (log and smallest < 0.0095):
        return [(figures.scientific(value) if value else "0") + unit for value in values]
    if log:
        texts = [f"{value:.10g}" + unit if 0.01 <= value < 1000 else figures.short(value) + unit for value in map(_clean, values)]
        if len(set(texts)) == len(texts):
            return texts
    if largest >= 1000:
        if step / largest < 0.002:
            return [f"{value:,.0f}" + unit for value in values]
        size, letter = next((size, letter) for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")) if largest >= size)
        return [(fixed([value / size], step / size)[0] + letter if value else "0") + unit for value in values]
    return [text + unit for text in fixed(values, step)]


def fixed(values: Sequence[float], step: float) -> list[str]:
    """Format with the decimals that the step needs; integers without any."""
    decimals = next((digits for digits in range(7) if abs(step * 10**digits - round(step * 10**digits)) < 1e-6 * 10**digits * step + 1e-9), 7)
    texts = [f"{value:.{decimals}f}" for value in values]
    return [text.split(".")[0] if "." in text and not text.split(".")[1].strip("0") else text for text in texts]


def x_ticks(start: float, end: float, width: int, form: XFormat = "count") -> list[tuple[float, str]]:
    """Return (value, label) for an axis of `width` cells, ascending, evenly spaced, in one unit."""
    span = end - start
    if not span > 0 or width < 4:
        return []
    step = _step(span / width * max(6, min(12, width // 3)), form)
    shift = _local_offset(end) if form == "clock" else 0
    while True:
        first, last = math.ceil((start + shift) / step - 1e-6), math.floor((end + shift) / step + 1e-6)
        values = [number * step - shift for number in range(first, last + 1)]
        texts = x_texts(values, form, step)
        if len(values) < 2 or step >= span or max(map(len, texts)) + LABEL_GAP <= step / span * width:
            return list(zip(values, texts, strict=True))
        step = _step(step * 1.01, form)


def _step(least: float, form: XFormat) -> float:
    """Return the smallest round step that isn't below `least`."""
    if form in ("count", "whole"):
        return nice(max(least, 1.0) if form == "whole" else least)
    return next((float(seconds) for seconds in SPANS if seconds >= least), nice(least))


def x_texts(values: Sequence[float], form: XFormat, step: float) -> list[str]:
    """Label ticks that are `step` apart, in one unit."""
    if form == "clock":
        pattern = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86400 else "%d %b"
        return [time.strftime(pattern, time.localtime(value)) for value in values]
    if form == "duration":
        seconds, unit = next(((seconds, unit) for seconds, unit in UNITS if step % seconds == 0), (1, "s"))
        return [f"{value / seconds:.10g} {unit}" if value else "0" for value in values]
    largest = max(map(abs, values), default=0.0)
    if largest >= 1000:
        from_hundreds = largest < 10_000 and any(0 < abs(value) < 1000 for value in values)  # `200 … 1,000`, not `0.2k`
        return [figures.count(value) for value in values] if step < 100 or from_hundreds else y_labels(values, False)
    return fixed(values, step)


def x_at(value: float, form: XFormat) -> str:
    """Format the cursor's x in full: `2,140`, `1 min 39 s`, `14:31:07`."""
    if form == "clock":
        return time.strftime("%H:%M:%S", time.localtime(value))
    if form == "duration":
        return figures.duration(value)
    return figures.count(value) if form == "whole" or value == round(value) or abs(value) >= 1000 else f"{value:.2f}"


def _local_offset(value: float) -> int:
    return time.localtime(value).tm_gmtoff


def _clean(value: float) -> float:
    return float(f"{value:.6g}")
