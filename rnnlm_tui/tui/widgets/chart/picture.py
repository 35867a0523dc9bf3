"""A chart's picture in the making: how its data is looked at, what of it lies in the shown part, and what one picture hands to the next."""

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
    """How the data is looked at."""

    start: float
    end: float
    whole: float
    """Length of the whole x range, to which smoothing refers."""
    log: bool
    smoothing: float
    show_all: bool
    marks: MarksStyle
    cursor: float | None = None
    no_colour: bool = False


@dataclass
class PlotState:
    """What one picture hands to the next so that it stands still."""

    limits: Limits | None = None
    part: tuple[float, float] | None = None
    """The part of x that the limits are for."""
    label_width: int = 0
    drawn: dict[int, PlottedSeries] = field(default_factory=dict)
    """The series of the picture before by their identity: a cursor that moves changes none of their dots."""
    painted: PaintedPlot | None = None
    """The previous picture."""


@dataclass(frozen=True, slots=True)
class PlottedSeries:
    """One series in the shown part."""

    series: ChartSeries
    bins: list[Bin]
    curve: list[tuple[int, float]]
    seen: tuple[float, float, float, float, int, bool]
    """What the bins and the curve are made for: start and end of x, the whole of it, smoothing, dot columns, whether all is shown."""
    points: ChartSeries
    """The series that the bins count, without the points that the picture leaves out."""
    raw: bool = True
    """Whether its raw points show: they are drawn, widen the range, and count as off scale."""


@dataclass
class Plot:
    """The picture."""

    width: int
    height: int
    label_width: int = 0
    labels: dict[int, str] = field(default_factory=dict)
    """Row → y tick label."""
    rows: list[list[tuple[str, Style]]] = field(default_factory=list)
    limits: Limits | None = None
    drawn: list[PlottedSeries] = field(default_factory=list)
    guides: list[PlottedSeries] = field(default_factory=list)
    off_scale: int = 0

    @property
    def gutter(self) -> int:
        """Cells at the left of the dots: labels and a blank."""
        return self.label_width + 1 if self.label_width else 0


@dataclass(frozen=True, slots=True)
class PaintedPlot:
    """A picture without its cursor, and what it was made from: a moving cursor is drawn over it."""

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
    """Dot column of x."""
    return math.floor((x - look.start) / (look.end - look.start) * (columns - 1) + 0.5)


def series_marker(series: ChartSeries, index: int, look: PlotOptions) -> str:
    """The letter or sign by which a series is known without colour; empty where colour does it."""
    if series.marker:
        return series.marker
    if look.marks == "ascii":
        return ASCII_SIGNS[index % len(ASCII_SIGNS)]
    return series.name[:1].upper() if look.no_colour and series.name else ""
