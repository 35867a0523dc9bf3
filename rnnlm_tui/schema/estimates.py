"""Estimates from a config alone: parameters, FLOPs, steps, learning rates and checkpoint sizes."""

import math
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from rnnlm_tui.schema.cells import CELLS, LayerSize
from rnnlm_tui.schema.config import ModelConfig, RunConfig, ScheduleConfig
from rnnlm_tui.schema.formatting import counted

WARMUP = "schedule.warmup_steps"

FLOAT_BYTES = 4

WINDOW_CHUNK, LONGEST_WHOLE_WINDOW = 128, 256
"""mLSTM computes a window as one T x T matrix per head.

Windows of 256 steps or more are computed in chunks, because the matrix grows quadratically.
"""


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
    return tuple(
        CELLS[model.cell_type].size(inputs, hidden, model.num_heads)
        for inputs, hidden in pairwise(widths)
    )


def parameter_count(model: ModelConfig, vocab_size: int) -> ParameterCount:
    """Parameters of the model, as `engine.model` builds it."""
    layers = tuple(size.parameters for size in layer_sizes(model))
    matrix = 0 if model.tie_weights else model.hidden_size * vocab_size
    return ParameterCount(
        embedding=vocab_size * model.embedding_dim,
        layers=layers,
        output=matrix + (0 if CELLS[model.cell_type].attends else vocab_size),
    )


def flops_per_token(
    model: ModelConfig, vocab_size: int, length: int = 0, *, carries: bool = False
) -> int:
    """FLOPs per training token: 6 for each multiply-add in a matmul (2 forward, 4 backward).

    Counted are the matmuls of layers and output. Everything else (gates, softmax, the optimizer)
    takes time, but few FLOPs. The embedding is looked up, not multiplied.

    Args:
        length: tokens of a stream or a sentence in a step. Only mLSTM and a transformer depend on
            it: they compare each token with all others of its window.
        carries: a step starts from the state after the one before.
    """
    sizes = layer_sizes(model)
    window = looked_back(model, length, carries=carries)
    recurrent = sum(
        size.weights + size.other_products + window * size.window_products for size in sizes
    )
    return 6 * (recurrent + model.hidden_size * vocab_size)


def config_flops_per_token(config: RunConfig, vocab_size: int) -> int:
    """FLOPs per token of a training step of this config."""
    carries = config.training.data_mode == "stream"
    return flops_per_token(config.model, vocab_size, step_length(config), carries=carries)


def looked_back(model: ModelConfig, length: int, *, carries: bool) -> int:
    """Tokens that mLSTM or a transformer compares each token of a step with: those of the window,
    and those that a transformer's state holds."""
    if CELLS[model.cell_type].attends:
        return min(length, model.attention_window) + carries * (model.attention_window - 1)
    return length if length < LONGEST_WHOLE_WINDOW else WINDOW_CHUNK


def step_length(config: RunConfig) -> int:
    """Tokens of a stream or a sentence in a step."""
    training = config.training
    return training.bptt if training.data_mode == "stream" else training.context_length - 1


def positions_per_step(config: RunConfig) -> int:
    """Tokens of a full step, including padding."""
    training = config.training
    return training.batch_size * step_length(config)


def rows_at_once(config: RunConfig, processes: int) -> int:
    """The most streams or sentences that a process computes at once: its share of a batch, in
    `training.accumulate` parts."""
    training = config.training
    return ceil(training.batch_size / (processes * training.accumulate))


def gradient_bytes(config: RunConfig, vocab_size: int) -> int:
    """Size of the gradients of all weights, which several processes add up in each step."""
    return FLOAT_BYTES * parameter_count(config.model, vocab_size).total


def sent_bytes(gradients: int, processes: int) -> int:
    """What each process sends in a step: the gradients go round a ring of all processes, in as many
    pieces, once to add them up and once to pass on the sums."""
    return round(2 * (processes - 1) / processes * gradients)


def steps_per_epoch(config: RunConfig, train_tokens: int, train_sentences: int) -> int:
    """Optimizer steps per epoch, as `engine.batches` makes them; the last step may be smaller."""
    training = config.training
    if training.data_mode == "stream":
        return max(1, ceil(max(1, (train_tokens - 1) // training.batch_size) / training.bptt))
    return max(1, ceil(train_sentences / training.batch_size))


def total_steps(config: RunConfig, per_epoch: int) -> int:
    """Steps of the whole run: `max_steps` if given, else the steps of all epochs."""
    return config.training.max_steps or config.training.epochs * per_epoch


def planned_warmup(config: RunConfig, steps: int) -> int:
    """Warm-up steps in a run of `steps`: a tenth of it, if as many as configured are too many."""
    warmup = config.schedule.warmup_steps
    return warmup if warmup < max(steps, 1) else steps // 10


def warmup_note(config: RunConfig, steps: int | None) -> str:
    """A note if the warm-up was shortened; empty if it wasn't, or if `steps` is unknown."""
    configured = config.schedule.warmup_steps
    if steps is None or (planned := planned_warmup(config, steps)) == configured:
        return ""
    if not planned:
        return f"no warm-up: the run has {counted(steps, 'step')}, {WARMUP} is {configured:,}"
    return (
        f"warm-up shortened to {counted(planned, 'step')}, a tenth of the run: {WARMUP} is"
        f" {configured:,}, the run has {counted(steps, 'step')}"
    )


def checkpoint_bytes(config: RunConfig, vocab_size: int) -> int:
    """Size of a checkpoint: weights, with AdamW two moments, and what a transformer carries from
    step to step, all float32."""
    copies = 3 if config.optimizer.algorithm == "adamw" else 1
    weights = FLOAT_BYTES * parameter_count(config.model, vocab_size).total
    return copies * weights + carried_bytes(config)


def carried_bytes(config: RunConfig) -> int:
    """Size of a transformer's keys and values between two steps; other states are negligible."""
    model, training = config.model, config.training
    if not CELLS[model.cell_type].attends or training.data_mode != "stream":
        return 0
    held = training.batch_size * (model.attention_window - 1)
    return 2 * FLOAT_BYTES * model.num_layers * model.hidden_size * held


CONSTANT = ScheduleConfig(kind="constant")


class Schedule(NamedTuple):
    """The learning rate over a run."""

    peak: float
    warmup_steps: int = 0
    """As planned, which may be fewer than configured."""
    config: ScheduleConfig = CONSTANT

    def rate(self, step: int, *, total_steps: int, steps_per_epoch: int = 1) -> float:
        """The rate of update `step` (1-based)."""
        config, kind = self.config, self.config.kind
        # 1. Warm-up: linear, so the last warm-up step has the peak.
        if step <= self.warmup_steps:
            return self.peak * step / self.warmup_steps
        # 2. Constant.
        if kind == "constant":
            return self.peak
        # 3. Decay: epoch e (1-based) has peak x decay_factor ** max(0, e - decay_after), as in
        # Zaremba, Sutskever and Vinyals, "Recurrent Neural Network Regularization" (2014), 4.1.
        if kind == "decay":
            epoch = (step - 1) // steps_per_epoch + 1
            return float(self.peak * config.decay_factor ** max(0, epoch - config.decay_after))
        # 4. Cosine: from the peak (at the last warm-up step, or at step 1) down to
        # peak x final_fraction, reached exactly at the last step and kept afterwards.
        if step >= total_steps:
            return self.peak * config.final_fraction if total_steps > 1 else self.peak
        start = max(self.warmup_steps, 1)
        progress = (step - start) / (total_steps - start)
        share = (1 + math.cos(math.pi * progress)) / 2
        return self.peak * (config.final_fraction + (1 - config.final_fraction) * share)
