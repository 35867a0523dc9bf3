"""Dots to cells. A layer is one integer for each dot column, bit r of it the dot in row r from the top, so that a vertical run is one shift and a layer costs what it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rnnlm_tui.tui.widgets.chart.bins import Bin
from rnnlm_tui.tui.widgets.chart.data import MarksStyle

LEFT, RIGHT = (0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)
BRAILLE = [
    chr(0x2800 + sum(bit for row, bit in enumerate(LEFT) if dots >> row & 1) + sum(bit for row, bit in enumerate(RIGHT) if dots >> (4 + row) & 1))
    for dots in range(256)
]
"""By left column (low four bits, top first) and right column (high four bits)."""
BLOCKS = list(" ▘▖▌▝▀▞▛▗▚▄▙▐▜▟█")
"""By left column (low two bits, top first) and right column (high two bits)."""

GRID: dict[MarksStyle, tuple[int, int]] = {"braille": (2, 4), "block": (2, 2), "ascii": (1, 1)}
"""Dot columns and rows of a cell."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Value to dot row (0 at the top)."""

    low: float
    high: float
    log: bool
    rows: int

    def row(self, value: float) -> float:
        """The row, not rounded and perhaps outside; a value that a logarithm can't take lies far below."""
        if self.log:
            if value <= 0:
                return 4.0 * self.rows
            return (math.log(self.high) - math.log(value)) / (math.log(self.high) - math.log(self.low)) * (self.rows - 1)
        return (self.high - value) / (self.high - self.low) * (self.rows - 1)


def run(first: int, last: int, rows: int) -> int:
    """The bits of rows `first` to `last`, in either order, without what lies outside."""
    if first > last:
        first, last = last, first
    if last < 0 or first >= rows:
        return 0
    first, last = max(first, 0), min(last, rows - 1)
    return ((1 << (last - first + 1)) - 1) << first


def band_layer(bins: Sequence[Bin], scale: Scale, columns: int) -> list[int]:
    """From lowest to highest in each dot column."""
    layer, row, rows = [0] * columns, scale.row, scale.rows
    for bin in bins:
        if 0 <= bin.column < columns and bin.mean == bin.mean:
            layer[bin.column] |= run(round(row(bin.high)), round(row(bin.low)), rows)
    return layer


def curve_layer(curve: Sequence[tuple[int, float]], scale: Scale, columns: int) -> list[int]:
    """A line through the points, broken at NaN; a steep piece is split between its two columns, a point alone is a dot."""
    layer, rows, limit = [0] * columns, scale.rows, 4 * scale.rows
    joined, column_before, row_before = False, 0, 0.0
    for column, value in curve:
        if value != value:
            joined = False
            continue
        row = min(max(scale.row(value), -limit), 2.0 * limit)
        if not joined:
            if 0 <= column < columns:
                layer[column] |= run(round(row), round(row), rows)
        else:
            slope = (row - row_before) / max(column - column_before, 1)
            first = max(column_before, -1)
            last = round(row_before + slope * (first - column_before))
            for at in range(first + 1, min(column, columns) + 1):
                here = round(row_before + slope * (at - column_before))
                middle = (last + here) // 2 if abs(here - last) > 1 else here
                if middle != here or abs(here - last) > 1:
                    if at - 1 >= 0:
                        layer[at - 1] |= run(last, middle, rows)
                    middle += 1 if here > last else -1
                if 0 <= at < columns:
                    layer[at] |= run(middle, here, rows)
                last = here
        joined, column_before, row_before = True, column, row
    return layer


def dotted_layer(value: float, scale: Scale, columns: int, spacing: int) -> list[int]:
    """A dot in every `spacing`-th column."""
    layer, row = [0] * columns, round(scale.row(value))
    bit = run(row, row, scale.rows)
    for column in range(0, columns, spacing):
        layer[column] = bit
    return layer


class Raster:
    """A grid of cells, each a sign and the number of an ink (0: empty)."""

    def __init__(self, width: int, height: int, marks: MarksStyle = "braille") -> None:
        self.width, self.height, self.marks = width, height, marks
        self.sub_columns, self.sub_rows = GRID[marks]
        self.signs = [[" "] * width for _ in range(height)]
        self.inks = [[0] * width for _ in range(height)]

    @property
    def columns(self) -> int:
        """Dot columns."""
        return self.width * self.sub_columns

    @property
    def rows(self) -> int:
        """Dot rows."""
        return self.height * self.sub_rows

    def cells(self, layer: Sequence[int], sign: str = "*") -> list[tuple[int, int, str]]:
        """(row, column, sign) of the cells in which the layer has dots; `sign` is what ASCII draws with."""
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
                found.append((row, column, table[(left >> shift & full) | (right >> shift & full) << sub]))
                both = both >> (shift + sub) << (shift + sub)
        return found

    def paint(self, layer: Sequence[int], ink: int, sign: str = ":") -> None:
        """Draw a layer over all that is there."""
        for row, column, glyph in self.cells(layer, sign):
            self.signs[row][column] = glyph
            self.inks[row][column] = ink

    def paint_curves(self, curves: Sequence[tuple[Sequence[int], int, str]]) -> None:
        """Draw curves (layer, ink, sign in ASCII) over all that is there; where several cross a cell they take turns by column, so that none disappears."""
        taken: dict[tuple[int, int], list[tuple[str, int]]] = {}
        for layer, ink, sign in curves:
            for row, column, glyph in self.cells(layer, sign):
                taken.setdefault((row, column), []).append((glyph, ink))
        for (row, column), choices in taken.items():
            self.signs[row][column], self.inks[row][column] = choices[column % len(choices)]

    def free(self, row: int, first: int, last: int) -> bool:
        """Whether the cells `first` to `last` of a row exist and are empty."""
        return 0 <= row < self.height and 0 <= first <= last < self.width and not any(self.inks[row][first : last + 1])

    def write(self, row: int, column: int, text: str, ink: int) -> None:
        """Put text, one cell a character, over what is there; what falls outside is cut."""
        for offset, sign in enumerate(text):
            if 0 <= row < self.height and 0 <= column + offset < self.width:
                self.signs[row][column + offset] = sign
                self.inks[row][column + offset] = ink

    def runs(self, row: int) -> list[tuple[str, int]]:
        """A row as (text, ink) runs; empty cells belong to the run before them."""
        signs, inks = self.signs[row], self.inks[row]
        if not any(inks):
            return [(" " * self.width, 0)]
        found: list[tuple[str, int]] = []
        start, current = 0, inks[0]
        for column, ink in enumerate(inks):
            if ink != current and ink:
                if column > start:
                    found.append(("".join(signs[start:column]), current))
                start, current = column, ink
        found.append(("".join(signs[start:]), current))
        return found
