"""The chart of a learning-rate range test."""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING

from rnnlm_tui.tui.palette import TRAIN
from rnnlm_tui.tui.views.chart_data import ChartData, ChartSeries

if TYPE_CHECKING:
    from rnnlm_tui.schema.tuning import RangeDone


def range_chart(found: RangeDone) -> ChartData:
    """Return the smoothed loss against the rate's decimal logarithm, over each step's loss, with a
    star at the suggestion.

    The curve ends where it has risen far above its start, which would flatten the fall.
    """
    lowest = found.smoothed.index(min(found.smoothed))
    highest = max(found.smoothed[: lowest + 1])
    ceiling = highest + max(highest - found.smoothed[lowest], 0.02 * highest)
    risen = (at for at in range(lowest, len(found.smoothed)) if found.smoothed[at] > ceiling)
    shown = next(risen, len(found.smoothed)) + 1
    smooth, losses = (
        [min(loss, ceiling) for loss in values[:shown]] for values in (found.smoothed, found.losses)
    )
    star = None
    if found.suggestion is not None:
        nearest = min(found.rates, key=lambda rate: abs(log10(rate / found.suggestion)))
        star = log10(nearest), found.smoothed[found.rates.index(nearest)]
    places = tuple(map(log10, found.rates))
    loss = ChartSeries(
        "loss",
        TRAIN,
        places[:shown],
        smooth,
        [*map(min, losses, smooth)],
        [*map(max, losses, smooth)],
        smooth=False,
        star=star,
    )
    return ChartData("Loss", (loss,), x_end=places[-1], x_label="learning rate", x_format="power")
