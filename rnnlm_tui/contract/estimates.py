"""What a config gives before anything runs: parameters, steps, memory, disk, time."""

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
    """Trained parameters by part; a tied output matrix counts once, in `embedding`."""

    embedding: int
    layers: tuple[int, ...]
    output: int

    @property
    def total(self) -> int:
        return self.embedding + sum(self.layers) + self.output


def layer_sizes(model: ModelConfig) -> tuple[LayerSize, ...]:
    """The size of each recurrent layer, the first one first; the formulas stand with the cells in `contract.cell_sizes`."""
    widths = [model.embedding_dim] + [model.hidden_size] * model.num_layers
    return tuple(CELL_SIZES[model.cell_type](inputs, hidden, model.num_heads) for inputs, hidden in pairwise(widths))


def parameter_count(model: ModelConfig, vocab_size: int) -> ParameterCount:
    """Parameters of the network that `engine.model` builds from the same numbers."""
    layers = tuple(size.parameters for size in layer_sizes(model))
    matrix = 0 if model.tie_weights else model.hidden_size * vocab_size
    return ParameterCount(embedding=vocab_size * model.embedding_dim, layers=layers, output=matrix + vocab_size)


def flops_per_token(model: ModelConfig, vocab_size: int) -> int:
    """Floating-point operations of one training token: 6 for each multiply-add of a matrix product (2 forward, 4 backward)."""
    recurrent = sum(size.weights + size.other_products for size in layer_sizes(model))
    return 6 * (recurrent + model.hidden_size * vocab_size)


def steps_per_epoch(config: RunConfig, train_tokens: int, train_sentences: int) -> int:
    """Optimizer updates of one pass, as `engine.batches` cuts it; the last step of a pass may be smaller."""
    training = config.training
    if training.data_mode == "stream":
        return max(1, ceil(max(1, (train_tokens - 1) // training.batch_size) / training.bptt))
    return max(1, ceil(train_sentences / training.batch_size))


def smallest_training_split(training: TrainingConfig) -> int:
    """Tokens (stream mode) or sentences (sentence mode) that the training split must have to fill one batch."""
    return training.batch_size * (2 if training.data_mode == "stream" else 1)


def total_steps(config: RunConfig, per_epoch: int) -> int:
    """Steps of the whole run: `max_steps` where given, else the epochs' worth."""
    return config.training.max_steps or config.training.epochs * per_epoch


def planned_warmup(config: RunConfig, steps: int) -> int:
    """Warm-up steps of a run of this length: the config's, or a tenth of the run if the preset's default would take all of it."""
    return _warmup(config.schedule.warmup_steps, config.preset, steps)


def warmup_note(config: RunConfig, steps: int | None) -> str:
    """A note on a warm-up that was shortened; empty if it wasn't, or while the number of steps is unknown."""
    preset = config.schedule.warmup_steps
    if steps is None or (planned := planned_warmup(config, steps)) == preset:
        return ""
    if not planned:
        return f"no warm-up: the preset's {counted(preset, 'step')} would take the whole run of {counted(steps, 'step')}"
    return f"warm-up shortened to {counted(planned, 'step')}, a tenth of the run's {steps:,}: the preset's {preset:,} would take the whole run"


def check_warmup(config: RunConfig, steps: int | None) -> None:
    """Refuse a warm-up that the user set and that would take the whole run.

    Args:
        steps: length of the run; None while it is unknown.

    Raises:
        ConfigError: the warm-up is not below the run's steps.
    """
    problem = None if steps is None else warmup_problem(config.schedule.warmup_steps, config.preset, steps)
    if problem is not None:
        raise ConfigError([problem])


def warmup_problem(warmup: int, preset: str, steps: int) -> Problem | None:
    """The problem with a warm-up in a run of this length; None if it fits, or if it is the preset's default."""
    if _warmup(warmup, preset, steps) < max(steps, 1):
        return None
    return Problem(WARMUP, f"is {warmup:,}, must be below the run's {counted(steps, 'step')}", f"a tenth of them is {steps // 10:,}")


def _warmup(warmup: int, preset: str, steps: int) -> int:
    default = PRESETS[preset].schedule.warmup_steps if preset in PRESETS else None
    return steps // 10 if warmup >= steps and warmup == default else warmup


def checkpoint_bytes(model: ModelConfig, vocab_size: int, algorithm: str = "adamw") -> int:
    """Size of one checkpoint: weights and, with AdamW, its two moments, float32."""
    return (3 if algorithm == "adamw" else 1) * FLOAT_BYTES * parameter_count(model, vocab_size).total


def kept_checkpoints(config: RunConfig, steps: int | None) -> int:
    """Checkpoints on the disk at the end of a run of `steps`, at most: the newest, the best and those that are kept for good; None: not known how long.

    Written are those that are due, the last, and one at each evaluation that is the best so far, which every evaluation may be.
    """
    newest = config.checkpoint.keep_last + 1
    if steps is None:
        return newest
    written = _multiples(steps - 1, config.checkpoint.every, config.evaluation.every) + 1
    keep_every = config.checkpoint.keep_every
    for_good = _multiples(steps, lcm(config.checkpoint.every, keep_every), lcm(config.evaluation.every, keep_every)) if keep_every else 0
    return min(newest + for_good, written)


def _multiples(up_to: int, one: int, other: int) -> int:
    """Numbers from 1 on that are multiples of either; a 0 has none."""
    return sum(up_to // every for every in (one, other) if every) - (up_to // lcm(one, other) if one and other else 0)
