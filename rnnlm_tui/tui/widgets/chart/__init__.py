"""The app's chart: a raster of dots, its ticks and limits, and the widget."""

from rnnlm_tui.tui.widgets.chart.chart import Chart
from rnnlm_tui.tui.widgets.chart.data import Baseline, ChartData, ChartSeries, Mark, MarksStyle

__all__ = ["Baseline", "Chart", "ChartData", "ChartSeries", "Mark", "MarksStyle"]
