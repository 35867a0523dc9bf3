"""Data and plot options shared by the tests of plots and charts."""

from __future__ import annotations

import math
from array import array

from rnnlm_tui.tui.palette import TRAIN, VALIDATION
from rnnlm_tui.tui.views.chart_data import Baseline, ChartData, ChartSeries, Mark, MarksStyle
from rnnlm_tui.tui.widgets.chart.plot import Plot, PlotOptions, draw

PLANNED = 1000


def perplexities(steps: int) -> array[float]:
    """A falling perplexity with a deterministic ripple."""
    return array(
        "d",
        (
            50 + 100 * math.exp(-step / 250) + 1800 * math.exp(-step / 8) + 6 * math.sin(step * 2.4)
            for step in range(1, steps + 1)
        ),
    )


def training(steps: int) -> ChartData:
    """A run of PLANNED steps, at one of its steps."""
    x, mean = array("d", range(1, steps + 1)), perplexities(steps)
    evaluated = array("d", range(50, steps + 1, 50))
    validation = array("d", (58 + 100 * math.exp(-step / 250) for step in evaluated))
    return ChartData(
        "Perplexity",
        (
            ChartSeries("train", TRAIN, x, mean, current="50.9", average="geometric"),
            ChartSeries("val", VALIDATION, evaluated, validation, current="58.1 ★", smooth=False),
        ),
        (Baseline(73.0, "5-gram 73.0"),),
        (Mark(250, "c", "#d0d0d0"), Mark(500, "★", VALIDATION)),
        x_end=PLANNED,
        log_y=True,
    )


def line(values: list[float], *, smooth: bool = False) -> ChartData:
    """One curve."""
    x = array("d", range(len(values)))
    series = ChartSeries("a", TRAIN, x, array("d", values), smooth=smooth)
    return ChartData("Line", (series,), x_end=x[-1])


def look(
    data: ChartData,
    *,
    marks: MarksStyle = "braille",
    show_all: bool = False,
) -> PlotOptions:
    """Options that show all of x."""
    end = data.x_end or 1.0
    return PlotOptions(0.0, end, end, data.log_y, 0.9, show_all, marks)


def picture(
    data: ChartData,
    width: int,
    height: int,
    *,
    marks: MarksStyle = "braille",
    show_all: bool = False,
) -> tuple[Plot, list[str]]:
    """Draw; return the plot and its rows as text, without labels."""
    plot = draw(data, look(data, marks=marks, show_all=show_all), width, height)
    return plot, ["".join(text for text, _ in row) for row in plot.rows]
