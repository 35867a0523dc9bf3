"""A run's curves for charts: the whole run, with finer buckets in the visible part."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnnlm_tui.store.series import SeriesTable
    from rnnlm_tui.supervisor.monitor import RunSnapshot


def speeds(series: SeriesTable) -> list[float]:
    """Return each bucket's tokens per second: its tokens over its training time.

    Falls back to the mean of its steps' speeds if the time is unknown.
    """
    tokens, active, mean = series.tokens, series.active, series.columns["tokens_per_second"].mean
    if not len(tokens):
        return []
    rates = [
        (after - before) / (end - start) if end > start and after > before else known
        for before, after, start, end, known in zip(tokens, tokens[1:], active, active[1:], mean[1:], strict=False)
    ]
    whole = series.step[0] <= series.width and active[0] > 0 and tokens[0] > 0  # starts with the run's first step
    return [tokens[0] / active[0] if whole else mean[0], *rates]


def curves(snapshot: RunSnapshot) -> SeriesTable:
    """Return the run's buckets with the detail spliced in; `width` is that of the coarse buckets."""
    whole, detail = snapshot.series, snapshot.detail
    if detail is None or not len(detail.step) or not len(whole.step):
        return whole
    from rnnlm_tui.store.series import Band, SeriesTable

    before, after = bisect_left(whole.step, detail.step[0]), bisect_right(whole.step, detail.step[-1])

    def spliced(coarse: array[float], fine: array[float]) -> array[float]:
        return coarse[:before] + fine + coarse[after:]

    return SeriesTable(
        whole.width,
        spliced(whole.step, detail.step),
        spliced(whole.tokens, detail.tokens),
        spliced(whole.epoch, detail.epoch),
        spliced(whole.active, detail.active),
        spliced(whole.time, detail.time),
        spliced(whole.nonfinite, detail.nonfinite),
        {
            name: Band(spliced(band.low, fine.low), spliced(band.high, fine.high), spliced(band.mean, fine.mean))
            for (name, band), fine in zip(whole.columns.items(), detail.columns.values(), strict=True)
        },
        whole.short_every,
    )


def short_batches(series: SeriesTable) -> tuple[int, ...]:
    """Return the indices of single steps on an epoch's short last batch: their spikes are noise."""
    every, steps = series.short_every, series.step
    if not every or not len(steps):
        return ()
    return tuple(index for index, (before, at) in enumerate(zip((0.0, *steps), steps, strict=False)) if at % every == 0 and at - before == 1)
