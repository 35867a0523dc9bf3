"""Drawing a run of a million steps costs no more than one of two thousand."""

from __future__ import annotations

from array import array

from rnnlm_tui.store.index import BUCKET_STEPS
from rnnlm_tui.store.series import RAW_LIMIT, bucket_width
from rnnlm_tui.tui.palette import TRAIN
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.widgets.chart.plot import draw
from tests.tui.widgets.chart.pictures import look, perplexities

BUCKETS = 2_048
"""Most buckets that a monitor keeps of a run."""


def test_a_plot_has_a_bin_for_each_dot_column_however_long_the_run() -> None:
    for steps in (500, 2_048, 100_000, 30_000_000):
        width = bucket_width(steps, BUCKETS, RAW_LIMIT, BUCKET_STEPS)
        count = -(-steps // width)
        assert count <= BUCKETS
        x, mean = array("d", (width * (1 + at) for at in range(count))), perplexities(count)
        train = ChartSeries("train", TRAIN, x, mean, mean, mean, average="geometric")
        data = ChartData("Perplexity", (train,), x_end=x[-1], log_y=True)
        plot = draw(data, look(data), 96, 12)
        assert len(plot.drawn[0].bins) <= plot.columns + 2
