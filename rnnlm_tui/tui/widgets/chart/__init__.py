"""The app's chart: a raster of dots, its ticks and limits, and the widget."""

from rnnlm_tui.tui.views.chart_data import Baseline, ChartData, ChartSeries, Mark, MarksStyle
from rnnlm_tui.tui.widgets.chart.widget import Chart, Window

__all__ = ["Baseline", "Chart", "ChartData", "ChartSeries", "Mark", "MarksStyle", "Window"]
