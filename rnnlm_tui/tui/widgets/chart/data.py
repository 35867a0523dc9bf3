"""What a chart shows: series with their raw band, baselines, marks; frozen values that a caller builds anew for every change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

MarksStyle = Literal["braille", "block", "ascii"]
"""Signs that dots are drawn with: 2×4, 2×2 or 1×1 to a cell."""

XFormat = Literal["count", "whole", "duration", "clock"]
"""How x is written: a count (`2k`), one that has no parts between (`2,140`), seconds as a time span (`5 min`), Unix seconds as the local time (`14:30`)."""


@dataclass(frozen=True, slots=True)
class ChartSeries:
    """One curve. `x` ascends; `mean`, `low` and `high` have its length; NaN is a gap, infinity counts as off scale."""

    name: str
    """In the legend; empty: only the value stands there."""
    colour: str
    """Hex value of the palette."""
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float] | None = None
    """Lowest value of each bucket; None: the bucket is one point."""
    high: Sequence[float] | None = None
    current: str = ""
    """The newest value as the legend shows it, a mark included (`58.1 ★`)."""
    marker: str = ""
    """One letter that stands at the curve's end and in the legend, so that the series is known without colour."""
    smooth: bool = True
    """Raw points as a dim band with their moving average over it; False: the points themselves, connected."""
    geometric: bool = False
    """Average logarithms: for perplexities, which are the exponential of an average."""
    harmonic: bool = False
    """Average the time that each unit takes: for speeds, whose mean over equal amounts is all of it over all the time."""
    legend_from_curve: bool = False
    """The legend tells where the curve ends in the shown part, in place of `current`."""
    y_format: Callable[[float], str] | None = None
    """Writes the value at the cursor; None: about three digits."""
    band: bool = True
    """Where it is smooth, its raw points are shown under it; False: the average alone, for pictures of many."""
    star: tuple[float, float] | None = None
    """x and value of its best point, which a ★ marks."""
    left_out: tuple[int, ...] = ()
    """Indices, ascending, of points that the picture leaves out unless it shows all; the cursor and a CSV file include them."""

    @property
    def drawn(self) -> ChartSeries:
        """The series without the points that the picture leaves out."""
        if not self.left_out:
            return self
        parts = [slice(before + 1, at) for before, at in pairwise((-1, *self.left_out, min(len(self.x), len(self.mean))))]

        def without(values: Sequence[float]) -> list[float]:
            return [value for part in parts for value in values[part]]

        low, high = (None if values is None else without(values) for values in (self.low, self.high))
        return replace(self, x=without(self.x), mean=without(self.mean), low=low, high=high, left_out=())


@dataclass(frozen=True, slots=True)
class Baseline:
    """A dotted level with its name."""

    value: float
    label: str
    """As it is shown, figure included: `bigram 73.0`."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A sign above the bottom edge; of two in one cell the later one is seen."""

    x: float
    glyph: str
    colour: str


@dataclass(frozen=True, slots=True)
class ChartData:
    """All that one chart shows."""

    title: str
    series: tuple[ChartSeries, ...]
    baselines: tuple[Baseline, ...] = ()
    marks: tuple[Mark, ...] = ()
    evaluated: Sequence[float] = ()
    """x of the evaluations, ascending: an `e` among the marks for each, as long as they are far enough apart."""
    x_end: float | None = None
    """The planned end: the empty part up to it is the time left. None: a round value past the newest point."""
    x_label: str = "step"
    log_y: bool = False
    y_from_zero: bool = False
    note: str = ""
    """What an empty chart says under `no points yet`: what will come and when."""
    x_format: XFormat = "count"
    y_unit: str = ""
    """Behind each y tick: ` %`."""
    guides: tuple[ChartSeries, ...] = ()
    """Curves from elsewhere, dotted behind the own ones and over their bands; they decide nothing about x."""

    @property
    def can_be_log(self) -> bool:
        """Whether a logarithmic y says anything: not of a share of 100 %."""
        return "%" not in self.y_unit
