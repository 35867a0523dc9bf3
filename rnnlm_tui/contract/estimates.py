"""Estimates from a config alone: parameters, steps, FLOPs and checkpoint sizes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, lcm

from rnnlm_tui.contract.cell_sizes import CELL_SIZES, LayerSize
from rnnlm_tui.contract.config import ModelConfig, RunConfig, TrainingConfig
from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.presets import PRESETS
from rnnlm_tui.errors import ConfigError, Problem

WARMUP = "schedule.warmup_steps"

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Trained parameters by part; a tied matrix counts only in `embedding`."""

    embedding: int
    layers: tuple[int, ...]
    output: int

    @property
    def total(self) -> int:
        return self.embedding + sum(self.layers) + self.output


def layer_sizes(model: ModelConfig) -> tuple[LayerSize, ...]:
    """The sizes of the recurrent layers, from the first to the last."""
    widths = [model.embedding_dim] + [model.hidden_size] * model.num_layers
    return tuple(CELL_SIZES[model.cell_type](inputs, hidden, model.num_heads) for inputs, hidden in pairwise(widths))


def parameter_count(model: ModelConfig, vocab_size: int) -> ParameterCount:
    """Parameters of the model, as `engine.model` builds it."""
    layers = tuple(size.parameters for size in layer_sizes(model))
    matrix = 0 if model.tie_weights else model.hidden_size * vocab_size
    return ParameterCount(embedding=vocab_size * model.embedding_dim, layers=layers, output=matrix + vocab_size)


def flops_per_token(model: ModelConfig, vocab_size: int) -> int:
    """FLOPs per training token: 6 for each multiply-add in a matmul (2 forward, 4 backward)."""
    recurrent = sum(size.weights + size.other_products for size in layer_sizes(model))
    return 6 * (recurrent + model.hidden_size * vocab_size)


def steps_per_epoch(config: RunConfig, train_tokens: int, train_sentences: int) -> int:
    """Optimizer steps per epoch, as `engine.batches` makes them; the last step may be smaller."""
    training = config.training
    if training.data_mode == "stream":
        return max(1, ceil(max(1, (train_tokens - 1) // training.batch_size) / training.bptt))
    return max(1, ceil(train_sentences / training.batch_size))


def smallest_training_split(training: TrainingConfig) -> int:
    """Smallest training split that fills a batch, in tokens (stream mode) or sentences (sentence mode)."""
    return training.batch_size * (2 if training.data_mode == "stream" else 1)


def total_steps(config: RunConfig, per_epoch: int) -> int:
    """Steps of the whole run: `max_steps` if given, else the steps of all epochs."""
    return config.training.max_steps or config.training.epochs * per_epoch


def planned_warmup(config: RunConfig, steps: int) -> int:
    """Warm-up steps in a run of `steps`: as configured, or a tenth if the preset's default is too long."""
    return _warmup(config.schedule.warmup_steps, config.preset, steps)


def warmup_note(config: RunConfig, steps: int | None) -> str:
    """A note if the warm-up was shortened; empty if it wasn't, or if `steps` is unknown."""
    preset = config.schedule.warmup_steps
    if steps is None or (planned := planned_warmup(config, steps)) == preset:
        return ""
    if not planned:
        return f"no warm-up: the run has {counted(steps, 'step')}, the preset's warm-up {preset:,}"
    return f"warm-up shortened to {counted(planned, 'step')}, a tenth of the run: the preset's warm-up has {counted(preset, 'step')}, the run {steps:,}"


def check_warmup(config: RunConfig, steps: int | None) -> None:
    """Check that a warm-up set by the user is shorter than the run.

    Args:
        steps: length of the run; None if unknown.

    Raises:
        ConfigError: the warm-up is not below the run's steps.
    """
    problem = None if steps is None else warmup_problem(config.schedule.warmup_steps, config.preset, steps)
    if problem is not None:
        raise ConfigError([problem])


def warmup_problem(warmup: int, preset: str, steps: int) -> Problem | None:
    """The problem with a warm-up in a run of `steps`; None if it fits or is the preset's default."""
    if _warmup(warmup, preset, steps) < max(steps, 1):
        return None
    return Problem(WARMUP, f"is {warmup:,}, must be below the run's {counted(steps, 'step')}", f"a tenth would be {steps // 10:,}")


def _warmup(warmup: int, preset: str, steps: int) -> int:
    default = PRESETS[preset].schedule.warmup_steps if preset in PRESETS else None
    return steps // 10 if warmup >= steps and warmup == default else warmup


def checkpoint_bytes(model: ModelConfig, vocab_size: int, algorithm: str = "adamw") -> int:
    """Size of a checkpoint: weights and, with AdamW, two moments, all float32."""
    return (3 if algorithm == "adamw" else 1) * FLOAT_BYTES * parameter_count(model, vocab_size).total


def kept_checkpoints(config: RunConfig, steps: int | None) -> int:
    """The most checkpoints on disk at the end of a run: the newest, the best and those always kept.

    Checkpoints are saved when due, at the end, and at each new best evaluation, which may be every one.

    Args:
        steps: length of the run; None if unknown.
    """
    newest = config.checkpoint.keep_last + 1
    if steps is None:
        return newest
    written = _multiples(steps - 1, config.checkpoint.every, config.evaluation.every) + 1
    keep_every = config.checkpoint.keep_every
    for_good = _multiples(steps, lcm(config.checkpoint.every, keep_every), lcm(config.evaluation.every, keep_every)) if keep_every else 0
    return min(newest + for_good, written)


def _multiples(up_to: int, one: int, other: int) -> int:
    """How many numbers from 1 to `up_to` are multiples of either; 0 has no multiples."""
    return sum(up_to // every for every in (one, other) if every) - (up_to // lcm(one, other) if one and other else 0)
