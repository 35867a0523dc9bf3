"""A plot's options, its parts, and what is kept from one drawing to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from rich.style import Style

from rnnlm_tui.tui.widgets.chart.bins import Bin
from rnnlm_tui.tui.widgets.chart.data import ChartData, ChartSeries, MarksStyle
from rnnlm_tui.tui.widgets.chart.limits import Limits
from rnnlm_tui.tui.widgets.chart.raster import Raster

ASCII_SIGNS = "*o+x"


@dataclass(frozen=True, slots=True)
class PlotOptions:
    """How the data is shown: range, scale, smoothing, characters and cursor."""

    start: float
    end: float
    whole: float
    """Length of the whole x range, which smoothing refers to."""
    log: bool
    smoothing: float
    show_all: bool
    marks: MarksStyle
    cursor: float | None = None
    no_colour: bool = False


@dataclass
class PlotState:
    """Kept from one drawing to the next, so that the plot is stable."""

    limits: Limits | None = None
    part: tuple[float, float] | None = None
    """The part of x that the limits are for."""
    label_width: int = 0
    drawn: dict[int, PlottedSeries] = field(default_factory=dict)
    """The drawn series by identity: moving the cursor doesn't change their dots."""
    painted: PaintedPlot | None = None
    """The previous drawing."""


@dataclass(frozen=True, slots=True)
class PlottedSeries:
    """One series in the visible part."""

    series: ChartSeries
    bins: list[Bin]
    curve: list[tuple[int, float]]
    seen: tuple[float, float, float, float, int, bool]
    """What bins and curve depend on: x start and end, whole range, smoothing, columns, show all."""
    points: ChartSeries
    """The series that was binned, without the left-out points."""
    raw: bool = True
    """Whether raw points are drawn, widen the range and count as off scale."""


@dataclass
class Plot:
    """A finished plot."""

    width: int
    height: int
    label_width: int = 0
    labels: dict[int, str] = field(default_factory=dict)
    """Row to y tick label."""
    rows: list[list[tuple[str, Style]]] = field(default_factory=list)
    limits: Limits | None = None
    drawn: list[PlottedSeries] = field(default_factory=list)
    guides: list[PlottedSeries] = field(default_factory=list)
    off_scale: int = 0

    @property
    def gutter(self) -> int:
        """Cells left of the dots: labels and a blank."""
        return self.label_width + 1 if self.label_width else 0


@dataclass(frozen=True, slots=True)
class PaintedPlot:
    """A drawing without its cursor and what it was made from, to draw a moving cursor over."""

    data: ChartData
    look: PlotOptions
    """Without a cursor."""
    width: int
    height: int
    plot: Plot
    raster: Raster
    styles: list[Style]
    """By their numbers in the raster."""


def column_of(x: float, look: PlotOptions, columns: int) -> int:
    """Return the dot column of x."""
    return math.floor((x - look.start) / (look.end - look.start) * (columns - 1) + 0.5)


def series_marker(series: ChartSeries, index: int, look: PlotOptions) -> str:
    """Return the letter or symbol of a series without colour; empty if colour identifies it."""
    if series.marker:
        return series.marker
    if look.marks == "ascii":
        return ASCII_SIGNS[index % len(ASCII_SIGNS)]
    return series.name[:1].upper() if look.no_colour and series.name else ""
