"""The chart of the app: a raster of dots, its ticks and limits, and the widget that shows them."""

from rnnlm_tui.tui.widgets.chart.chart import Chart
from rnnlm_tui.tui.widgets.chart.data import Baseline, ChartData, ChartSeries, Mark, MarksStyle

__all__ = ["Baseline", "Chart", "ChartData", "ChartSeries", "Mark", "MarksStyle"]
