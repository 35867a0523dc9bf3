"""Which ways of training and sampling a `bench` measures on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rnnlm_tui.contract.bench import SAMPLED_TOKENS, BenchData, BenchTask, MachineSurvey, Numbers, Role
from rnnlm_tui.contract.config import RunConfig, SamplingConfig
from rnnlm_tui.contract.validation import merge, parse_config
from rnnlm_tui.supervisor.launch import WORKER_SETTINGS
from rnnlm_tui.supervisor.sampler_client import SAMPLER_SETTINGS

NAIVE = "naive"
LIBRARY_NAMES: Mapping[str, str] = {"elman": "nn.RNN", "lstm": "nn.LSTM", "gru": "nn.GRU"}
"""Cells that torch has a module for."""

DRAWN = SamplingConfig(temperature=1.0, top_p=1.0, max_new_tokens=SAMPLED_TOKENS)
"""Plain sampling, the same in the naive way and in ours."""
APP = SamplingConfig(max_new_tokens=SAMPLED_TOKENS)
"""What the app begins with."""


@dataclass(frozen=True, slots=True)
class Row:
    """One way, and the environment of its process."""

    name: str
    task: BenchTask
    settings: Mapping[str, str] = field(default_factory=dict)


def training_rows(config: RunConfig, survey: MachineSurvey, data: BenchData) -> list[Row]:
    """The naive loop, torch's own layers, and the engine in every kind of numbers that the device has."""

    def task(role: Role, own: RunConfig) -> BenchTask:
        return BenchTask(role=role, config=own, folder=data.folder, vocab_size=data.vocab_size)

    rows = [Row(NAIVE, task("naive training", config))]
    if config.model.cell_type in LIBRARY_NAMES:
        rows.append(Row(LIBRARY_NAMES[config.model.cell_type], task("library training", config)))
    for numbers in survey.numbers:
        rows.extend(Row(name, task("engine training", own), WORKER_SETTINGS) for name, own in _engine_ways(config, numbers, survey.device_type))
    return rows


def sampling_rows(config: RunConfig, data: BenchData, weights: str) -> list[Row]:
    """Drawn and greedy, the textbook's way and ours; and ours with the settings that the app begins with.

    The textbook's way computes with as many threads as torch takes by itself, all cores; ours with one, as the sampler does.
    """
    alone = config.model_copy(update={"training": config.training.model_copy(update={"threads": 1})})

    def task(role: Role, sampling: SamplingConfig) -> BenchTask:
        own = (alone if role == "engine sampling" else config).model_copy(update={"sampling": sampling})
        return BenchTask(role=role, config=own, folder=data.folder, vocab_size=data.vocab_size, weights=weights)

    greedy = DRAWN.model_copy(update={"greedy": True})
    return [
        Row("naive", task("naive sampling", DRAWN)),
        Row("naive, greedy", task("naive sampling", greedy)),
        Row("engine", task("engine sampling", DRAWN), SAMPLER_SETTINGS),
        Row(f"engine, top-p {APP.top_p:g}", task("engine sampling", APP), SAMPLER_SETTINGS),
        Row("engine, greedy", task("engine sampling", greedy), SAMPLER_SETTINGS),
    ]


def _engine_ways(config: RunConfig, numbers: Numbers, device_type: str) -> list[tuple[str, RunConfig]]:
    changes: dict[str, object] = {"training.matmul": "float32" if numbers == "float32" else "medium"}
    if numbers == "bf16":
        changes["training.precision"] = "bf16"
    name = f"engine {numbers}"
    if device_type != "cuda":
        return [(name, parse_config(merge(config, changes)))]
    with_graphs, without = ({**changes, "training.cuda_graphs": on} for on in (True, False))
    return [(f"{name}, CUDA graphs", parse_config(merge(config, with_graphs))), (name, parse_config(merge(config, without)))]
