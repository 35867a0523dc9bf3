"""Sort points into dot columns, smooth them, and draw dots into cells.

A layer is one integer per dot column; bit r is the dot in row r from the top. So a vertical run
is one shift, and a layer costs only what it shows.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from copy import copy
from typing import NamedTuple

from rnnlm_tui.tui.views.chart_data import Average, ChartSeries, MarksStyle

VIRTUAL_POINTS = 1000
"""Smoothing weights refer to this many points over the whole x range, however points are bucketed.
"""
LARGEST = 1e99
"""Larger values are left out like infinite ones, so that computing with limits can't overflow."""
NAN = math.nan
AVERAGES: dict[Average, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "arithmetic": (float, float),
    "geometric": (math.log, math.exp),
    "harmonic": ((1.0).__truediv__, (1.0).__truediv__),
}
"""From a value to what is averaged, and back."""


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


def bins_of(
    series: ChartSeries, start: float, end: float, columns: int, lead: int = 0
) -> list[Bin]:
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

    def bin_of(first: int, after: int, column: int) -> Bin:
        means = mean[first:after]
        lows = means if low is mean else low[first:after]
        highs = means if high is mean else high[first:after]
        bottom, top = min(lows), max(highs)
        if not (abs(sum(means)) <= LARGEST and bottom >= -LARGEST and top <= LARGEST):
            rows = [
                row
                for row in zip(means, lows, highs, strict=True)
                if all(abs(value) <= LARGEST for value in row)
            ]
            if not rows:
                return Bin(column, NAN, NAN, NAN, after - first, first)
            means, lows, highs = zip(*rows, strict=True)
            bottom, top = min(lows), max(highs)
        into, back = AVERAGES[series.average if bottom > 0 else "arithmetic"]
        average = back(sum(map(into, means)) / len(means))
        return Bin(column, average, bottom, top, after - first, first)

    first = bisect_left(x, start - (lead + 0.5) * width, 0, size)
    if first:
        column = math.floor((x[first - 1] - start) / width + 0.5)
        bins.append(bin_of(first - 1, first, min(column, -lead - 1)))
    while first < size:
        column = math.floor((x[first] - start) / width + 0.5)
        if column > columns - 1:
            bins.append(bin_of(first, first + 1, column))
            break
        after, edge = first + 1, start + (column + 0.5) * width
        if after < size and x[after] < edge:
            after = bisect_left(x, edge, after, size)
        elif (
            abs(middle := mean[first]) <= LARGEST
            and (bottom := low[first]) >= -LARGEST
            and (top := high[first]) <= LARGEST
        ):
            bins.append(Bin(column, middle, bottom, top, 1, first))
            first = after
            continue
        bins.append(bin_of(first, after, column))
        first = after
    return bins


def lead_of(smoothing: float, whole: float, shown: float, columns: int) -> int:
    """Return how many columns left of a zoomed view still affect the average at its edge."""
    if smoothing <= 0 or shown >= whole:
        return 0
    # points further away weigh less than 1 %
    reach = 5 / -math.log(smoothing) / VIRTUAL_POINTS * whole
    return min(math.ceil(reach / shown * columns), 2000)


def smoothed(
    bins: Sequence[Bin], smoothing: float, columns_of_range: float, kind: Average = "arithmetic"
) -> list[tuple[int, float]]:
    """Return each bin's column and exponential moving average; a NaN gap restarts the average.

    `smoothing`, from 0 (none) to 1, is the weight of the past between two of VIRTUAL_POINTS points;
    `columns_of_range` is the whole x range in dot columns at this zoom.
    """
    curve: list[tuple[int, float]] = []
    exponent = VIRTUAL_POINTS / max(columns_of_range, 1.0)
    per_column = smoothing**exponent if smoothing > 0 else 0.0
    total = weight = 0.0
    before = bins[0].column if bins else 0
    into, back = AVERAGES["arithmetic" if any(bin.low <= 0 for bin in bins) else kind]
    for column, mean, _, _, points, _ in bins:
        if mean != mean:
            curve.append((column, NAN))
            total = weight = 0.0
            continue
        keep = per_column if column - before == 1 else per_column ** (column - before)
        total, weight = total * keep + into(mean) * points, weight * keep + points
        before = column
        curve.append((column, back(total / weight)))
    return curve


LEFT, RIGHT = (0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)
BRAILLE = [
    chr(
        0x2800
        + sum(bit for row, bit in enumerate(LEFT) if dots >> row & 1)
        + sum(bit for row, bit in enumerate(RIGHT) if dots >> (4 + row) & 1)
    )
    for dots in range(256)
]
"""By left column (low four bits, top first) and right column (high four bits)."""
BLOCKS = list(" ▘▖▌▝▀▞▛▗▚▄▙▐▜▟█")
"""By left column (low two bits, top first) and right column (high two bits)."""

GRID: dict[MarksStyle, tuple[int, int]] = {"braille": (2, 4), "block": (2, 2), "ascii": (1, 1)}
"""Dot columns and rows per cell."""


RUNS = re.compile(rb"\0+|([^\0])(?:\1|\0)*")
"""Runs of one ink in a row of ink numbers."""


class Scale:
    """Map y to dot rows, 0 at the top (`high`) to `rows` - 1 at the bottom (`low`)."""

    def __init__(self, low: float, high: float, rows: int) -> None:
        self.rows = rows
        self._slope = (rows - 1) / (high - low)
        self._offset = high * self._slope

    def row(self, y: float) -> float:
        """Return the row, not rounded, and at most four heights away."""
        far = 4.0 * self.rows
        row = self._offset - self._slope * y
        return row if -far <= row <= far else -far if row < 0 else far


def run(first: int, last: int, rows: int) -> int:
    """Return the bits of rows `first` to `last`, in either order, clipped."""
    first, last = max(min(first, last), 0), min(max(first, last), rows - 1)
    return ((1 << (last - first + 1)) - 1) << first if first <= last else 0


def band_layer(bins: Sequence[Bin], scale: Scale, columns: int) -> list[int]:
    """Fill from lowest to highest in each dot column."""
    layer, row, rows = [0] * columns, scale.row, scale.rows
    for column, mean, low, high, *_ in bins:
        if 0 <= column < columns and mean == mean:
            top = round(row(high))
            layer[column] |= run(top, top if low == high else round(row(low)), rows)
    return layer


def curve_layer(curve: Sequence[tuple[int, float]], scale: Scale, columns: int) -> list[int]:
    """Connect the points, with a gap at NaN; a single point is a dot.

    A steep line is split between its two columns.
    """
    layer, rows, row_of = [0] * columns, scale.rows, scale.row

    def piece(column: int, before: int, here: int) -> None:
        """Draw the line from row `before` in the previous column to row `here` in this one."""
        if -2 < here - before < 2:
            if 0 <= here < rows and 0 <= column < columns:
                layer[column] |= 1 << here
            return
        middle = (before + here) // 2
        if 1 <= column <= columns:
            layer[column - 1] |= run(before, middle, rows)
        if 0 <= column < columns:
            layer[column] |= run(middle + 1 if here > before else middle, here, rows)

    joined, column_before, row_before = False, 0, 0.0
    for column, value in curve:
        if value != value:
            joined = False
            continue
        row = row_of(value)
        if joined and column == column_before + 1:
            piece(column, round(row_before), round(row))
        elif joined:
            slope = (row - row_before) / max(column - column_before, 1)
            first = max(column_before, -1)
            last = round(row_before + slope * (first - column_before))
            for at in range(first + 1, min(column, columns) + 1):
                here = round(row_before + slope * (at - column_before))
                piece(at, last, here)
                last = here
        elif 0 <= column < columns and 0 <= round(row) < rows:
            layer[column] |= 1 << round(row)
        joined, column_before, row_before = True, column, row
    return layer


class Raster:
    """A grid of cells, each a character and an ink number (0: empty)."""

    def __init__(self, width: int, height: int, marks: MarksStyle = "braille") -> None:
        self.width, self.height, self.marks = width, height, marks
        self.sub_columns, self.sub_rows = GRID[marks]
        self.signs = [[" "] * width for _ in range(height)]
        self.inks = [bytearray(width) for _ in range(height)]

    def copy(self) -> "Raster":
        """Return a copy to draw over."""
        other = copy(self)
        other.signs, other.inks = [row[:] for row in self.signs], [row[:] for row in self.inks]
        return other

    @property
    def columns(self) -> int:
        """Dot columns."""
        return self.width * self.sub_columns

    @property
    def rows(self) -> int:
        """Dot rows."""
        return self.height * self.sub_rows

    def cells(self, layer: Sequence[int], sign: str = "*") -> list[tuple[int, int, str]]:
        """Return (row, column, character) of the layer's cells; `sign` is used in ASCII."""
        found: list[tuple[int, int, str]] = []
        if self.marks == "ascii":
            for column, bits in enumerate(layer[: self.width]):
                while bits:
                    row = (bits & -bits).bit_length() - 1
                    found.append((row, column, sign))
                    bits &= bits - 1
            return found
        sub, table = self.sub_rows, BRAILLE if self.marks == "braille" else BLOCKS
        full = (1 << sub) - 1
        for column in range(self.width):
            left, right = layer[2 * column], layer[2 * column + 1]
            both = left | right
            while both:
                row = ((both & -both).bit_length() - 1) // sub
                shift = row * sub
                found.append(
                    (row, column, table[(left >> shift & full) | (right >> shift & full) << sub])
                )
                both = both >> (shift + sub) << (shift + sub)
        return found

    def paint(self, layer: Sequence[int], ink: int, sign: str = ":") -> None:
        """Draw a layer over what is there."""
        for row, column, glyph in self.cells(layer, sign):
            self.signs[row][column] = glyph
            self.inks[row][column] = ink

    def paint_curves(self, curves: Sequence[tuple[Sequence[int], int, str]]) -> None:
        """Draw curves (layer, ink, ASCII character) over what is there.

        Curves that share a cell take turns by column, so that none disappears.
        """
        taken: dict[tuple[int, int], list[tuple[str, int]]] = {}
        for layer, ink, sign in curves:
            for row, column, glyph in self.cells(layer, sign):
                taken.setdefault((row, column), []).append((glyph, ink))
        for (row, column), choices in taken.items():
            self.signs[row][column], self.inks[row][column] = choices[column % len(choices)]

    def free(self, row: int, first: int, last: int, over: Collection[int] = ()) -> bool:
        """Whether these cells of a row exist and are empty, except for inks in `over`."""
        return (
            0 <= row < self.height
            and 0 <= first <= last < self.width
            and not any(ink and ink not in over for ink in self.inks[row][first : last + 1])
        )

    def has(self, row: int, column: int) -> bool:
        """Whether there is such a cell."""
        return 0 <= row < self.height and 0 <= column < self.width

    def write(self, row: int, column: int, text: str, ink: int) -> None:
        """Write text over what is there, one cell per character, clipped."""
        for offset, sign in enumerate(text):
            if self.has(row, column + offset):
                self.signs[row][column + offset] = sign
                self.inks[row][column + offset] = ink

    def runs(self, row: int) -> list[tuple[str, int]]:
        """Return a row as (text, ink) runs; empty cells belong to the run before them."""
        text = "".join(self.signs[row])
        return [
            (text[found.start() : found.end()], self.inks[row][found.start()])
            for found in RUNS.finditer(self.inks[row])
        ]
