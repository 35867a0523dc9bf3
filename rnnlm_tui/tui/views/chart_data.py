"""What a chart shows, as frozen values; the x axes of runs, and points as CSV."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Literal, NamedTuple, get_args

MarksStyle = Literal["braille", "block", "ascii"]
"""Characters for dots: 2×4, 2×2 or 1×1 dots per cell."""

Average = Literal["arithmetic", "geometric", "harmonic"]
"""How points are averaged: geometric for perplexities, which are exponentials of averages, harmonic
for speeds, which are amounts over time."""

XFormat = Literal["count", "whole", "duration", "clock", "power"]
"""How x is written: `2k`, an integer `2,140`, a time span `5 min`, local time `14:30`, or, of its
decimal logarithm, `1e-3`."""


class ChartSeries(NamedTuple):
    """One curve; x ascends, all sequences have its length, NaN and infinity are gaps."""

    name: str
    """Shown in the legend; empty shows only the value."""
    colour: str
    """Hex value from the palette."""
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float] | None = None
    """Lowest value of each bucket; None if a bucket is one point."""
    high: Sequence[float] | None = None
    current: str | None = None
    """The newest value as the legend shows it, with its mark (`58.1 ★`); None for the value of the
    curve at the right edge."""
    marker: str = ""
    """A letter at the curve's end and in the legend, to identify it without colour."""
    smooth: bool = True
    """Draw raw points as a dim band under their moving average; otherwise connect the points."""
    average: Average = "arithmetic"
    y_format: Callable[[float], str] | None = None
    """Formats the value at the cursor; None gives about three digits."""
    band: bool = True
    """Show the raw points under a smooth curve; False for charts of many runs."""
    star: tuple[float, float] | None = None
    """x and value of the best point, marked with ★."""
    left_out: tuple[int, ...] = ()
    """Ascending indices of points drawn only if all are shown; cursor and CSV include them."""

    @property
    def drawn(self) -> "ChartSeries":
        """The series without the points in `left_out`."""
        if not self.left_out:
            return self
        kept = [True] * len(self.x)
        for index in self.left_out:
            kept[index] = False

        def part(values: Sequence[float]) -> list[float]:
            return list(compress(values, kept))

        low, high = (values and part(values) for values in (self.low, self.high))
        return self._replace(x=part(self.x), mean=part(self.mean), low=low, high=high, left_out=())


class Baseline(NamedTuple):
    """A dotted level with a label."""

    value: float
    label: str
    """With its value: `bigram 73.0`."""


class Mark(NamedTuple):
    """A symbol above the bottom edge; the later of two in one cell wins."""

    x: float
    glyph: str
    colour: str


class ChartData(NamedTuple):
    """Everything that one chart shows."""

    title: str
    series: tuple[ChartSeries, ...]
    baselines: tuple[Baseline, ...] = ()
    marks: tuple[Mark, ...] = ()
    evaluated: Sequence[float] = ()
    """x of the evaluations, ascending: each gets an `e` mark, if they are far enough apart."""
    x_end: float | None = None
    """The planned end; the part up to it stays empty. None: a round end after the last point."""
    x_label: str = "step"
    log_y: bool = False
    y_from_zero: bool = False
    note: str = ""
    """Shown below `no points yet` in an empty chart."""
    x_format: XFormat = "count"
    y_unit: str = ""
    """Appended to each y tick: ` %`."""
    guides: tuple[ChartSeries, ...] = ()
    """Reference curves, dotted behind the series; they don't affect the x range."""

    @property
    def can_be_log(self) -> bool:
        """Whether a log y axis makes sense: not for percentages."""
        return "%" not in self.y_unit


def points_csv(data: ChartData, part: tuple[float, float] | None = None) -> tuple[str, int]:
    """Return `series,step,value,lowest,highest` rows for each point, and their number.

    With a `part` of x, only its points. A value is its bucket's mean; lowest and highest are empty
    if a bucket is one point. NaN is written as `nan`.
    """
    import csv  # lazily: only an export needs it
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["series", data.x_label.replace(" ", "_"), "value", "lowest", "highest"])
    count = 0
    for series in (*data.series, *data.guides):
        first, last = 0, len(series.x)
        if part is not None:
            first, last = bisect_left(series.x, part[0]), bisect_right(series.x, part[1])
        name, columns = series.name or data.title.lower(), (series.mean, series.low, series.high)
        for index in range(first, last):
            values = ["" if column is None else _written(column[index]) for column in columns]
            writer.writerow([name, _written(series.x[index]), *values])
            count += 1
    return text.getvalue(), count


def _written(value: float) -> str:
    is_whole = abs(value) < 1e15 and value == int(value)
    return str(int(value)) if is_whole else repr(float(value))


Axis = Literal["step", "tokens", "epoch", "active", "wall"]
"""`active` is seconds of training without pauses, `wall` is Unix seconds."""
AXES: tuple[Axis, ...] = get_args(Axis)
AXIS_TEXTS: dict[Axis, tuple[str, XFormat]] = {
    "step": ("step", "whole"),
    "tokens": ("tokens", "whole"),
    "epoch": ("epoch", "count"),
    "active": ("active time", "duration"),
    "wall": ("time of day", "clock"),
}
"""The label in the bottom edge of a chart, and how x is written."""
