"""The config of a `bench`, and the ways to train and sample that it measures on a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rnnlm_tui.bench.report import (
    SAMPLED_TOKENS,
    BenchData,
    BenchTask,
    MachineSurvey,
    Numbers,
    Role,
)
from rnnlm_tui.client.control import WORKER_SETTINGS
from rnnlm_tui.client.sampler import SAMPLER_SETTINGS
from rnnlm_tui.schema.config import RunConfig, SamplingConfig
from rnnlm_tui.schema.presets import preset as find_preset
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
    with_graphs, without = ({**changes, "training.cuda_graphs": on} for on in (True, False))
    return [
        (f"{name}, CUDA graphs", parse_config(merge(config, with_graphs))),
        (name, parse_config(merge(config, without))),
    ]
