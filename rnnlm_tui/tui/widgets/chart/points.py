"""A chart's points as CSV."""

from __future__ import annotations

import csv
import io
from bisect import bisect_left, bisect_right

from rnnlm_tui.tui.widgets.chart.data import ChartData


def points_csv(data: ChartData, part: tuple[float, float] | None = None) -> tuple[str, int]:
    """Return `series,step,value,lowest,highest` rows for each point, and their number.

    With a `part` of x, only its points. A value is its bucket's mean; lowest and highest are empty
    if a bucket is one point. NaN is written as `nan`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["series", data.x_label.replace(" ", "_"), "value", "lowest", "highest"])
    count = 0
    for series in (*data.series, *data.guides):
        first, last = (0, len(series.x)) if part is None else (bisect_left(series.x, part[0]), bisect_right(series.x, part[1]))
        low, high = series.low, series.high
        for index in range(first, last):
            sides = ["", ""] if low is None or high is None else [_written(low[index]), _written(high[index])]
            writer.writerow([series.name or data.title.lower(), _written(series.x[index]), _written(series.mean[index]), *sides])
            count += 1
    return text.getvalue(), count


def _written(value: float) -> str:
    return str(int(value)) if value == value and abs(value) < 1e15 and value == int(value) else repr(float(value))
