"""Reference curves, dotted behind a chart's own, with their name at the end."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

from rnnlm_tui.tui.widgets.chart.raster import Raster, Scale, curve_layer

Curve = Sequence[tuple[int, float]]
"""(dot column, value), ascending."""


def value_at(curve: Curve, column: int) -> float | None:
    """Interpolate the curve at a dot column; None outside of it."""
    after = bisect_right(curve, column, key=lambda point: point[0])
    if after == 0 or (after == len(curve) and curve[-1][0] < column):
        return None
    left, low = curve[after - 1]
    if left == column:
        return low
    right, high = curve[after]
    return low + (high - low) * (column - left) / (right - left)


def last_column(curve: Curve, columns: int) -> int | None:
    """Return the last visible column that the curve reaches; None if none."""
    if not curve or curve[0][0] >= columns or curve[-1][0] < 0:
        return None
    return min(columns - 1, curve[-1][0])


def levels(curve: Curve, newest: int, columns: int, show_all: bool) -> list[float]:
    """Return a guide's values that count for the y range.

    These are its values beside the newest point and at its end, or all if everything is shown. Its
    steep start is left out, like that of the other curves.
    """
    end = last_column(curve, columns)
    if end is None:
        return []
    shown = [value for column, value in curve if 0 <= column < columns] if show_all else []
    ends = [value_at(curve, column) for column in (min(newest, columns - 1), end)]
    return [value for value in (*shown, *ends) if value is not None and math.isfinite(value)]


def guide_layer(curve: Curve, scale: Scale, columns: int, spacing: int) -> list[int]:
    """Draw the curve in every `spacing`-th dot column, dotted like levels."""
    return [bits if column % spacing == 0 else 0 for column, bits in enumerate(curve_layer(curve, scale, columns))]


def write_name(raster: Raster, curve: Curve, name: str, scale: Scale, dim: int, dotted: int) -> None:
    """Write the name at the end of the curve; left out if anything is in the way."""
    end = last_column(curve, raster.columns)
    value = value_at(curve, end) if end is not None else None
    if end is None or value is None or not math.isfinite(value) or not name:
        return
    row = round(scale.row(value)) // raster.sub_rows
    first = min(end // raster.sub_columns + 2, raster.width - len(name))
    if not 0 <= row < raster.height or first < 4 or any(ink not in (0, dotted) for ink in raster.inks[row][first - 1 : first + len(name) + 1]):
        return
    raster.write(row, first - 1, " " * (len(name) + 1), 0)
    raster.write(row, first, name, dim)
