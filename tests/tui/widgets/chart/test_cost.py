"""Drawing a run of a million steps costs no more than one of two thousand."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import overload

import pytest

from rnnlm_tui.store.index import BUCKET_STEPS
from rnnlm_tui.store.series import RAW_LIMIT, bucket_width
from rnnlm_tui.tui.palette import TRAIN
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries
from rnnlm_tui.tui.widgets.chart.plot import draw
from tests.tui.widgets.chart.pictures import look, perplexities

BUCKETS = 2_048
"""Most buckets that a monitor keeps of a run."""
SEARCHES = 40
"""Points that a dot column's binary search may read beyond those that it draws."""


class Counted(Sequence[float]):
    """Numbers that count how many of them were read."""

    def __init__(self, values: array[float]) -> None:
        self.values = values
        self.read = 0

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, at: int) -> float: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[float]: ...
    def __getitem__(self, at: int | slice) -> float | Sequence[float]:
        found = self.values[at]
        self.read += len(found) if isinstance(found, array) else 1
        return found


def buckets(steps: int) -> tuple[array[float], array[float]]:
    """Return steps and values of a run of so many steps, as the store does."""
    width = bucket_width(steps, BUCKETS, RAW_LIMIT, BUCKET_STEPS)
    count = -(-steps // width)
    return array("d", (width * (1 + at) for at in range(count))), perplexities(count)


@pytest.mark.parametrize("steps", [500, 2_048, 100_000, 30_000_000])
def test_drawing_reads_each_bucket_a_few_times_however_long_the_run(steps: int) -> None:
    x, mean = buckets(steps)
    assert len(x) <= BUCKETS
    places, middle, low, high = (Counted(values) for values in (x, mean, mean, mean))
    train = ChartSeries("train", TRAIN, places, middle, low, high, geometric=True)
    data = ChartData("Perplexity", (train,), x_end=x[-1], log_y=True)
    plot = draw(data, look(data), 96, 12)
    columns = 2 * (96 - plot.gutter)
    assert len(plot.drawn[0].bins) <= columns + 2
    read = sum(part.read for part in (places, middle, low, high))
    assert read <= 8 * BUCKETS + SEARCHES * columns
