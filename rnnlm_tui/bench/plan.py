"""The config of a `bench`, and the ways to train and sample that it measures on a device.

Turn measurements into figures: medians, ratios within rounds, shares of the limits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rnnlm_tui.bench.report import (
    SAMPLED_TOKENS,
    BenchData,
    BenchTask,
    MachineFigures,
    MachineSurvey,
    Numbers,
    Role,
    SamplingFigures,
    Spread,
    TaskReady,
    TrainingFigures,
    TurnDone,
)
from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.client.sampler import SAMPLER_SETTINGS
from rnnlm_tui.corpus.news import NEWS
from rnnlm_tui.schema.config import RunConfig, SamplingConfig
from rnnlm_tui.schema.estimates import FLOAT_BYTES, flops_per_token, parameter_count
from rnnlm_tui.schema.presets import preset as find_preset
from rnnlm_tui.schema.reference import SENTENCES
from rnnlm_tui.schema.validation import merge, parse_assignments, parse_config

NAIVE = "naive"
LIBRARY_NAMES: Mapping[str, str] = {"elman": "nn.RNN", "lstm": "nn.LSTM", "gru": "nn.GRU"}
"""torch's modules by cell."""
PLAIN = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=SAMPLED_TOKENS)
"""Plain sampling, for the naive way and for ours."""
APP = SamplingConfig(max_new_tokens=SAMPLED_TOKENS)
"""The app's default settings."""


def bench_config(preset: str, device: str, assignments: Sequence[str] = ()) -> RunConfig:
    """The preset with these changes, on this device, always in fast mode.

    Raises:
        InputError: unknown preset; suggests similar ones.
        ConfigError: lists every problem of the device name and the changes.
    """
    changes = {
        **parse_assignments(list(assignments)),
        "training.device": device,
        "training.deterministic": False,
    }
    return parse_config(merge(find_preset(preset), changes))


@dataclass(frozen=True, slots=True)
class BenchWay:
    """One way to train or sample, and the environment of its process."""

    name: str
    task: BenchTask
    settings: Mapping[str, str] = field(default_factory=dict)


def training_rows(config: RunConfig, survey: MachineSurvey, data: BenchData) -> list[BenchWay]:
    """The naive loop, torch's own layers, and the engine in every number format of the device."""

    def task(role: Role, own: RunConfig) -> BenchTask:
        return BenchTask(role=role, config=own, folder=data.folder, vocab_size=data.vocab_size)

    rows = [BenchWay(NAIVE, task("naive training", config))]
    if config.model.cell_type in LIBRARY_NAMES:
        rows.append(
            BenchWay(LIBRARY_NAMES[config.model.cell_type], task("library training", config))
        )
    for numbers in survey.numbers:
        rows.extend(
            BenchWay(name, task("engine training", own), WORKER_SETTINGS)
            for name, own in _engine_ways(config, numbers, survey.device_type)
        )
    return rows


def sampling_rows(config: RunConfig, data: BenchData, weights: str) -> list[BenchWay]:
    """The naive way and ours, sampled and greedy, and ours with the app's default settings.

    The naive way uses torch's default threads, all cores; ours uses one, as the sampler does.
    """
    alone = config.model_copy(
        update={"training": config.training.model_copy(update={"threads": 1})}
    )

    def task(role: Role, sampling: SamplingConfig) -> BenchTask:
        own = (alone if role == "engine sampling" else config).model_copy(
            update={"sampling": sampling}
        )
        return BenchTask(
            role=role, config=own, folder=data.folder, vocab_size=data.vocab_size, weights=weights
        )

    greedy = PLAIN.model_copy(update={"greedy": True})
    return [
        BenchWay("naive", task("naive sampling", PLAIN)),
        BenchWay("naive, greedy", task("naive sampling", greedy)),
        BenchWay("engine", task("engine sampling", PLAIN), SAMPLER_SETTINGS),
        BenchWay(f"engine, top-p {APP.top_p:g}", task("engine sampling", APP), SAMPLER_SETTINGS),
        BenchWay("engine, greedy", task("engine sampling", greedy), SAMPLER_SETTINGS),
    ]


def _engine_ways(
    config: RunConfig, numbers: Numbers, device_type: str
) -> list[tuple[str, RunConfig]]:
    changes: dict[str, object] = {
        "training.matmul": "float32" if numbers == "float32" else "medium"
    }
    if numbers == "bf16":
        changes["training.precision"] = "bf16"
    name = f"engine {numbers}"
    if device_type != "cuda":
        return [(name, parse_config(merge(config, changes)))]
    with_graphs, without = ({**changes, "training.cuda_graphs": on} for on in ("on", "off"))
    return [
        (f"{name}, CUDA graphs", parse_config(merge(config, with_graphs))),
        (name, parse_config(merge(config, without))),
    ]


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
    """Spread of the ratios of two ways in the same rounds: what slows a whole round cancels
    out."""
    return spread([value / other for value, other in zip(values, others, strict=True)])
