"""Turn measurements into figures: medians, ratios within rounds, shares of the limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rnnlm_tui.bench.plan import NAIVE, BenchWay
from rnnlm_tui.bench.report import (
    BenchData,
    MachineFigures,
    SamplingFigures,
    Spread,
    TaskReady,
    TrainingFigures,
    TurnDone,
)
from rnnlm_tui.corpus.news import NEWS
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import (
    FLOAT_BYTES,
    flops_per_token,
    parameter_count,
)
from rnnlm_tui.schema.reference import SENTENCES


@dataclass
class Measurement:
    """The answers of one child."""

    ready: TaskReady
    warm_up: TurnDone
    turns: list[TurnDone] = field(default_factory=list)

    @property
    def speeds(self) -> list[float]:
        """Tokens per second of each turn."""
        return [turn.tokens / turn.seconds for turn in self.turns]


def training_figures(
    config: RunConfig,
    data: BenchData,
    machine: MachineFigures,
    rows: Sequence[BenchWay],
    measured: Mapping[str, Measurement],
) -> tuple[TrainingFigures, ...]:
    """One row per way to train, in order."""
    naive = measured[NAIVE]
    library = next(
        (measured[row.name] for row in rows if row.task.role == "library training"), None
    )
    flops = flops_per_token(config.model, data.vocab_size)
    figures = []
    for row in rows:
        found = measured[row.name]
        speed = spread(found.speeds)
        gflops = flops * speed.median / 1e9
        peak = found.turns[-1].peak_bytes
        figures.append(
            TrainingFigures(
                name=row.name,
                numbers=found.ready.numbers,
                threads=found.ready.threads,
                tokens_per_second=speed,
                ratio=ratio(found.speeds, naive.speeds),
                ratio_to_library=None if library is None else ratio(found.speeds, library.speeds),
                peak_bytes=peak,
                peak_share=peak / naive.turns[-1].peak_bytes,
                gflops=gflops,
                gemm_share=gflops / machine.gflops[found.ready.numbers],
                first_loss=found.warm_up.first or 0.0,
                first_tokens=found.warm_up.tokens,
                turns=len(found.turns),
                steps=sum(turn.steps for turn in found.turns),
                epoch_seconds=_epoch_seconds(config, data, speed.median),
            )
        )
    return tuple(figures)


def sampling_figures(
    config: RunConfig,
    data: BenchData,
    machine: MachineFigures,
    rows: Sequence[BenchWay],
    measured: Mapping[str, Measurement],
) -> tuple[SamplingFigures, ...]:
    """One row per way to continue a prompt, in order."""
    count = parameter_count(config.model, data.vocab_size)
    # A token reads one row of the embedding, and all of the layers and the head.
    read = FLOAT_BYTES * (
        sum(count.layers) + config.model.hidden_size * data.vocab_size + data.vocab_size
    )
    naive = {
        row.task.config.sampling.greedy: measured[row.name]
        for row in rows
        if row.task.role == "naive sampling"
    }
    figures = []
    for row in rows:
        found, greedy = measured[row.name], row.task.config.sampling.greedy
        speed = spread(found.speeds)
        bandwidth = machine.bandwidth_one if found.ready.threads == 1 else machine.bandwidth
        figures.append(
            SamplingFigures(
                name=row.name,
                greedy=greedy,
                turns=len(found.turns),
                threads=found.ready.threads,
                tokens_per_second=speed,
                ratio=ratio(found.speeds, naive[greedy].speeds),
                first_token_seconds=spread([turn.first or 0.0 for turn in found.turns]).median,
                bandwidth_share=read * speed.median / bandwidth,
                same_tokens=found.warm_up.ids == naive[greedy].warm_up.ids if greedy else None,
            )
        )
    return tuple(figures)


def _epoch_seconds(config: RunConfig, data: BenchData, speed: float) -> float | None:
    """Seconds of one pass over the config's own text; of a missing text only the news has a known
    length."""
    steps = data.steps_per_epoch
    if not data.own:
        if config.corpus.source != NEWS or config.training.data_mode != "sentences":
            return None
        steps = math.ceil(SENTENCES / config.training.batch_size)
    return steps * data.tokens_per_step / speed


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles by linear interpolation; at least one value."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return Spread(median=at(0.5), low=at(0.25), high=at(0.75))


def ratio(values: Sequence[float], others: Sequence[float]) -> Spread:
    """Spread of the ratios of two ways in the same rounds: whatever slows a whole round cancels
    out."""
    return spread([value / other for value, other in zip(values, others, strict=True)])
