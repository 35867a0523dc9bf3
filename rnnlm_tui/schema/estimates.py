"""Estimates from a config alone: parameters, steps, FLOPs, memory and checkpoint sizes.

On a CPU, the memory estimate is within 15 % of the measured peak of the process. On a GPU it counts
only tensors, with the same constants, and was not measured.

Schedule: the learning rate of each step.

Linear warm-up, then constant, cosine decay or decay by epochs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from math import ceil, lcm
from types import MappingProxyType

from rnnlm_tui.errors import Adjustment, ConfigError, Problem
from rnnlm_tui.schema.config import CellType, ModelConfig, RunConfig, TrainingConfig
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.protocol import Fact


@dataclass(frozen=True, slots=True)
class LayerSize:
    """The size of one layer."""

    weights: int
    """Parameters used in matmuls: one multiply-add per token each."""
    other_parameters: int
    """Biases and others whose cost is negligible."""
    other_products: int = 0
    """Multiply-adds per token without parameters: updating and reading a matrix memory."""
    window_products: int = 0
    """Multiply-adds per token and token of the window that it is compared with."""

    @property
    def parameters(self) -> int:
        return self.weights + self.other_parameters


def _elman(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """W with H·E, U with H·H and a bias with H parameters."""
    return LayerSize(hidden * (inputs + hidden), hidden)


def _lstm(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """Four gates (input, forget, candidate, output), each the size of an Elman layer."""
    return LayerSize(4 * hidden * (inputs + hidden), 4 * hidden)


def _gru(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """Three gates (reset, update, candidate) with two biases each, as in torch.

    The candidate's second bias is inside the reset product.
    """
    return LayerSize(3 * hidden * (inputs + hidden), 6 * hidden)


def _mingru(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """A gate and a candidate from the input alone, with one bias each."""
    return LayerSize(2 * hidden * inputs, 2 * hidden)


def _minlstm(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """Two gates and a candidate from the input alone, with one bias each."""
    return LayerSize(3 * hidden * inputs, 3 * hidden)


def _slstm(inputs: int, hidden: int, heads: int) -> LayerSize:
    """Four gates, whose recurrent weights only connect units of the same head."""
    return LayerSize(4 * hidden * (inputs + hidden // heads), 4 * hidden)


def _mlstm(inputs: int, hidden: int, heads: int) -> LayerSize:
    """Query, key, value and output gate with H units each, and two gates per head.

    Each head's memory of (H/heads)² numbers is written and read once per token. In training, a
    window's queries are multiplied with all its keys, and the result with all its values.
    """
    gates = 4 * hidden + 2 * heads
    return LayerSize(gates * inputs, gates, 2 * hidden * (hidden // heads), 2 * hidden)


CELL_SIZES: Mapping[str, Callable[[int, int, int], LayerSize]] = MappingProxyType(
    {
        "elman": _elman,
        "lstm": _lstm,
        "gru": _gru,
        "mingru": _mingru,
        "minlstm": _minlstm,
        "slstm": _slstm,
        "mlstm": _mlstm,
    }
)
"""For each `cell_type`, the layer's size from (E, H, heads)."""


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
    return tuple(
        CELL_SIZES[model.cell_type](inputs, hidden, model.num_heads)
        for inputs, hidden in pairwise(widths)
    )


def parameter_count(model: ModelConfig, vocab_size: int) -> ParameterCount:
    """Parameters of the model, as `engine.model` builds it."""
    layers = tuple(size.parameters for size in layer_sizes(model))
    matrix = 0 if model.tie_weights else model.hidden_size * vocab_size
    return ParameterCount(
        embedding=vocab_size * model.embedding_dim, layers=layers, output=matrix + vocab_size
    )


def flops_per_token(model: ModelConfig, vocab_size: int, length: int = 0) -> int:
    """FLOPs per training token: 6 for each multiply-add in a matmul (2 forward, 4 backward).

    Counted are the matmuls of layers and output. Everything else (gates, softmax, the optimizer)
    takes time, but few FLOPs. The embedding is looked up, not multiplied.

    Args:
        length: tokens of a stream or a sentence in a step. Only mLSTM depends on it: it compares
            each token with all others of its window.
    """
    sizes = layer_sizes(model)
    window = looked_back(length)
    recurrent = sum(
        size.weights + size.other_products + window * size.window_products for size in sizes
    )
    return 6 * (recurrent + model.hidden_size * vocab_size)


def config_flops_per_token(config: RunConfig, vocab_size: int) -> int:
    """FLOPs per token of a training step of this config."""
    return flops_per_token(config.model, vocab_size, step_length(config))


def looked_back(length: int) -> int:
    """Tokens of a window that mLSTM compares each of its tokens with."""
    return length if length < LONGEST_WHOLE_WINDOW else WINDOW_CHUNK


def steps_per_epoch(config: RunConfig, train_tokens: int, train_sentences: int) -> int:
    """Optimizer steps per epoch, as `engine.batches` makes them; the last step may be smaller."""
    training = config.training
    if training.data_mode == "stream":
        return max(1, ceil(max(1, (train_tokens - 1) // training.batch_size) / training.bptt))
    return max(1, ceil(train_sentences / training.batch_size))


def smallest_training_split(training: TrainingConfig) -> int:
    """The smallest training split that fills a batch, in tokens or sentences."""
    return training.batch_size * (2 if training.data_mode == "stream" else 1)


def total_steps(config: RunConfig, per_epoch: int) -> int:
    """Steps of the whole run: `max_steps` if given, else the steps of all epochs."""
    return config.training.max_steps or config.training.epochs * per_epoch


def planned_warmup(config: RunConfig, steps: int) -> int:
    """Warm-up steps in a run of `steps`.

    As configured, or a tenth of the run if the preset's default is too long.
    """
    return _warmup(config.schedule.warmup_steps, config.preset, steps)


def warmup_note(config: RunConfig, steps: int | None) -> str:
    """A note if the warm-up was shortened; empty if it wasn't, or if `steps` is unknown."""
    preset = config.schedule.warmup_steps
    if steps is None or (planned := planned_warmup(config, steps)) == preset:
        return ""
    if not planned:
        return f"no warm-up: the run has {counted(steps, 'step')}, the preset's warm-up {preset:,}"
    return (
        f"warm-up shortened to {counted(planned, 'step')}, a tenth of the run: the preset's warm-up"
        f" has {counted(preset, 'step')}, the run {steps:,}"
    )


def check_warmup(config: RunConfig, steps: int | None) -> None:
    """Check that a warm-up set by the user is shorter than the run.

    Args:
        steps: length of the run; None if unknown.

    Raises:
        ConfigError: the warm-up is not below the run's steps.
    """
    problem = (
        None
        if steps is None
        else warmup_problem(config.schedule.warmup_steps, config.preset, steps)
    )
    if problem is not None:
        raise ConfigError([problem])


def warmup_problem(warmup: int, preset: str, steps: int) -> Problem | None:
    """The problem with a warm-up in a run of `steps`; None if it fits or is the preset's."""
    if _warmup(warmup, preset, steps) < max(steps, 1):
        return None
    return Problem(
        WARMUP,
        f"is {warmup:,}, must be below the run's {counted(steps, 'step')}",
        f"a tenth would be {steps // 10:,}",
        adjustments=(Adjustment.of({WARMUP: steps // 10}),),
    )


def _warmup(warmup: int, preset: str, steps: int) -> int:
    default = PRESETS[preset].schedule.warmup_steps if preset in PRESETS else None
    return steps // 10 if warmup >= steps and warmup == default else warmup


def checkpoint_bytes(model: ModelConfig, vocab_size: int, algorithm: str = "adamw") -> int:
    """Size of a checkpoint: weights and, with AdamW, two moments, all float32."""
    return (
        (3 if algorithm == "adamw" else 1) * FLOAT_BYTES * parameter_count(model, vocab_size).total
    )


def kept_checkpoints(config: RunConfig, steps: int | None) -> int:
    """The most checkpoints on disk at the end of a run: the newest, the best and those always kept.

    Checkpoints are saved when due, at the end, and at each new best evaluation, which may be every
    one.

    Args:
        steps: length of the run; None if unknown.
    """
    newest = config.checkpoint.keep_last + 1
    if steps is None:
        return newest
    written = _multiples(steps - 1, config.checkpoint.every, config.evaluation.every) + 1
    keep_every = config.checkpoint.keep_every
    always = (
        _multiples(
            steps,
            lcm(config.checkpoint.every, keep_every),
            lcm(config.evaluation.every, keep_every),
        )
        if keep_every
        else 0
    )
    return min(newest + always, written)


def _multiples(up_to: int, one: int, other: int) -> int:
    """How many numbers from 1 to `up_to` are multiples of either; 0 has no multiples."""
    return sum(up_to // every for every in (one, other) if every) - (
        up_to // lcm(one, other) if one and other else 0
    )


CHUNK_BYTES = 24_000_000
"""The size of a chunk of logits on a CPU; half of it costs a tenth of the speed (measured)."""

GPU_CHUNK_BYTES = 256_000_000
"""The chunk size on a GPU, whose matmuls need more rows (calculated, not measured)."""

VOCAB_ALIGNMENT, WIDTH_ALIGNMENT = 64, 8
"""On a GPU, vocabulary and hidden size are padded to multiples of these during the loss. 8 numbers
of bf16 are the 16 bytes that a GPU loads at a time."""

SMALLEST_CHUNK = 64
"""Fewest rows in a chunk, for any vocabulary."""

WINDOW_CHUNK, LONGEST_WHOLE_WINDOW = 128, 256
"""mLSTM computes a window as one T x T matrix per head.

Windows of 256 steps or more are computed in chunks, because the matrix grows quadratically.
"""

EVALUATED_STREAMS, EVALUATED_WINDOW, EVALUATED_SENTENCES = 16, 128, 128
"""Shape of evaluation batches: streams and their time steps, or sentences."""

RESIDENT_SHARE = 0.25
"""Largest fraction of a GPU's free memory for the training text."""
NARROW_VOCABULARY = 65_536
"""Up to this many types, a token id takes two bytes, in a corpus and in a GPU's memory; else four.
"""
RESIDENT_SENTENCE_BYTES = 8
"""Bytes per sentence on a GPU: start and length in the order of the pass."""


def resident_bytes(tokens: int, sentences: int, *, narrow: bool) -> int:
    """Bytes of a training text in a GPU's memory.

    Args:
        sentences: 0 in stream mode.
        narrow: token ids take two bytes.
    """
    return tokens * (2 if narrow else 4) + sentences * RESIDENT_SENTENCE_BYTES * (
        1 if tokens < 2**31 else 2
    )


def tokens_on_gpu(
    config: RunConfig, vocab_size: int, free: int, *, tokens: int, sentences: int
) -> int:
    """How many training tokens a run keeps in GPU memory: all, or 0 if they would take too much of
    the `free` bytes."""
    needed = _resident_bytes(config, vocab_size, tokens, sentences)
    return tokens if needed <= RESIDENT_SHARE * free else 0


def _resident_bytes(config: RunConfig, vocab_size: int, tokens: int, sentences: int) -> int:
    return resident_bytes(
        tokens,
        sentences if config.training.data_mode == "sentences" else 0,
        narrow=vocab_size <= NARROW_VOCABULARY,
    )


def chunk_rows(vocab_size: int, chunk_bytes: int = CHUNK_BYTES, number_bytes: int = 4) -> int:
    """Rows of a chunk for logits with `number_bytes` per number."""
    return max(SMALLEST_CHUNK, chunk_bytes // (vocab_size * number_bytes))


def gpu_chunk_rows(rows: int, vocab_size: int, number_bytes: int) -> int:
    """Rows of each chunk on a GPU, where all but the last are equal."""
    most = chunk_rows(aligned(vocab_size, VOCAB_ALIGNMENT), GPU_CHUNK_BYTES, number_bytes)
    return aligned(ceil(rows / max(1, ceil(rows / most))), WIDTH_ALIGNMENT)


def adds_ones(rows: int, width: int, number_bytes: int) -> bool:
    """Whether a GPU's loss sums the gradients of the logits (the bias's gradient) by a column of
    ones in the inputs of the last product.

    It saves reading the logits, but then the weight's gradient has to be copied out of the wider
    product: V x H numbers read and written. Ones are added if they save twice as many bytes as they
    cost. (Worked out, not measured.)
    """
    return rows * number_bytes > 2 * 2 * FLOAT_BYTES * width


def aligned(number: int, to: int) -> int:
    """The next multiple of `to`."""
    return ceil(number / to) * to


MIB = 2**20
PROCESS_BYTES = 335 * MIB
"""Python, torch and its libraries after their first step (measured, torch 2.13 for CPU on Linux).
"""
TRITON_BYTES = 75 * MIB
"""Triton, which torch imports wherever it is installed (measured, Triton 3.9)."""
WORKER_BYTES = 28 * MIB
"""What a worker holds beside the model on a CPU: database, control socket, recorder, tokenizer
(measured: a run's peak above that of a probe)."""
COMPILED_BYTES = 177 * MIB
"""Compiled matmuls of all sentence lengths on a CPU, where they are kept (measured)."""
SMALL_HEAD = 2_000_000
"""Up to this many numbers in the output matrix, a model on sentences keeps its compiled matmuls."""
LIVE_CHUNKS = 2
"""The chunk of logits, and a copy in another memory layout for its matmul."""
LIVE_MATRICES = 3
"""Copies of the output matrix's size during the loss.

A transposed copy, the gradient, and a chunk's part of it.
"""
SLACK = 1.15
"""Factor for memory fragmentation (measured)."""
LSTM_COPIES = 2
"""Copies of a layer's size in oneDNN's LSTM on a CPU: its weights and their gradient in its own
layout (measured with 1,500 units)."""
DROPPED = 1.5
"""Numbers per unit that dropout keeps (measured)."""
SENTENCE_BYTES, ORDER_BYTES = 12, 8
"""Bytes per sentence for its offset and length, and for its position in a shuffled epoch."""


@dataclass(frozen=True, slots=True)
class CellMemory:
    """Numbers that a layer keeps for each position of a step, for forward and backward."""

    per_unit: float
    """Numbers per hidden unit."""
    per_pair: float = 0.0
    """Numbers per head and earlier position, for matrices of T x T."""


CELL_MEMORY: Mapping[CellType, CellMemory] = MappingProxyType(
    {
        "elman": CellMemory(2),
        "lstm": CellMemory(17.5),
        "gru": CellMemory(6.5),
        "mingru": CellMemory(7),
        "minlstm": CellMemory(10.5),
        "slstm": CellMemory(19.5),
        "mlstm": CellMemory(21, 2.3),
    }
)
"""Measured on a CPU with 9,000 positions and 256 units, without dropout."""


@functools.cache
def process_bytes() -> int:
    """Memory of a process that computes on a CPU, without a model."""
    return PROCESS_BYTES + TRITON_BYTES * (find_spec("triton") is not None)


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Memory in bytes by part: permanent, during a step or an evaluation, and for checkpoints."""

    process: int
    """The process without a model; 0 on a GPU, where only tensors count."""
    weights: int
    moments: int
    """AdamW's two moments."""
    activations: int
    """Activations of embedding, layers and dropout that the backward pass needs, and the copies of
    an LSTM layer's weights."""
    head: int
    """Chunks of logits, copies of the output matrix and its gradient during the loss."""
    gradients: int
    """Gradients of all weights after the backward pass, when `head` is free again."""
    corpus: int
    """Sentence offsets and lengths (sentence mode), or on a GPU token ids and the order of a pass.

    Memory-mapped token files don't count, because the system can reclaim their pages.
    """
    evaluation: int
    """Logits during an evaluation."""
    saving: int
    """The copy of weights and moments from which checkpoints are written beside training."""
    graphs: int = 0
    """What CUDA graphs keep, about as much as a step. It isn't part of the total: if memory runs
    out, they are freed."""

    @property
    def step(self) -> int:
        return self.activations + max(self.head, self.gradients)

    @property
    def training(self) -> int:
        """What a run can't do without. If there is no memory for `saving`, training waits while a
        checkpoint is written."""
        permanent = self.process + self.corpus + self.weights + self.moments
        return permanent + max(self.step, self.evaluation)

    @property
    def total(self) -> int:
        """The peak."""
        return self.training + self.saving


def positions_per_step(config: RunConfig) -> int:
    """Tokens of a full step, including padding."""
    training = config.training
    return training.batch_size * step_length(config)


def keeps_compiled_matmuls(config: RunConfig) -> bool:
    """Whether a run's worker keeps what was compiled for each length of a batch of sentences."""
    return (
        config.training.data_mode == "sentences"
        and config.tokenizer.vocab_size * config.model.hidden_size <= SMALL_HEAD
    )


def memory_parts(
    config: RunConfig,
    vocab_size: int,
    *,
    sentences: int = 0,
    on_gpu: bool = False,
    resident_tokens: int = 0,
) -> MemoryParts:
    """Estimate the peak memory by part.

    Args:
        sentences: number of training sentences.
        resident_tokens: number of training tokens stored in GPU memory.
    """
    training = config.training
    model = config.model
    weights = FLOAT_BYTES * parameter_count(model, vocab_size).total
    moments = 2 * weights if config.optimizer.algorithm == "adamw" else 0
    matrix = FLOAT_BYTES * vocab_size * model.hidden_size
    positions = positions_per_step(config)
    kept = positions * _numbers_per_position(model, step_length(config))
    if model.cell_type == "lstm" and not on_gpu:
        kept += LSTM_COPIES * max(size.weights for size in layer_sizes(model))
    evaluated = (
        EVALUATED_STREAMS * EVALUATED_WINDOW
        if training.data_mode == "stream"
        else EVALUATED_SENTENCES * step_length(config)
    )
    rows = chunk_rows(vocab_size)
    logits = FLOAT_BYTES * vocab_size * min(positions, rows)
    head = round(SLACK * (LIVE_CHUNKS * logits + LIVE_MATRICES * matrix))
    evaluation = FLOAT_BYTES * LIVE_CHUNKS * vocab_size * min(evaluated, rows)
    if on_gpu:
        head = _gpu_head(config, vocab_size, positions)
        evaluation = _gpu_logits(evaluated, vocab_size, FLOAT_BYTES) + matrix
    index = (
        0
        if training.data_mode == "stream"
        else sentences * (SENTENCE_BYTES + ORDER_BYTES * training.shuffle)
    )
    resident = (
        _resident_bytes(config, vocab_size, resident_tokens, sentences) if resident_tokens else 0
    )
    parts = MemoryParts(
        process=0
        if on_gpu
        else process_bytes() + WORKER_BYTES + COMPILED_BYTES * keeps_compiled_matmuls(config),
        weights=weights,
        moments=moments,
        activations=FLOAT_BYTES * round(kept),
        head=head,
        # A tied matrix has two gradients before they are added; word dropout copies the embedding.
        gradients=weights
        + (matrix if model.tie_weights else 0)
        + (2 * FLOAT_BYTES * vocab_size * model.embedding_dim if model.embedding_dropout else 0),
        corpus=resident if on_gpu else index,
        evaluation=evaluation,
        # The last checkpoint is written without a copy.
        saving=weights + moments if config.checkpoint.every or config.evaluation.every else 0,
    )
    graphed = on_gpu and training.cuda_graphs != "off" and not training.deterministic
    return replace(parts, graphs=parts.step if graphed else 0)


def _gpu_head(config: RunConfig, vocab_size: int, positions: int) -> int:
    """Bytes during the loss on a GPU, with the kernel that overwrites the logits; without it, there
    is a second chunk of them.

    `training.matmul = auto` measures float32, too, so only `training.precision` promises bf16.
    """
    number_bytes = 2 if config.training.precision == "bf16" else FLOAT_BYTES
    width = aligned(config.model.hidden_size, WIDTH_ALIGNMENT)
    matrix = aligned(vocab_size, VOCAB_ALIGNMENT) * width
    # The padded copy, the gradient, and of several chunks each one's part of it.
    parts = 1 + (gpu_chunk_rows(positions, vocab_size, number_bytes) < positions)
    matrices = number_bytes * matrix + FLOAT_BYTES * matrix * parts
    # The head's inputs in bf16 or float32, and their gradient before and after it is scaled.
    rows = positions * width * (number_bytes + 2 * FLOAT_BYTES)
    logits = _gpu_logits(positions, vocab_size, number_bytes)
    return round(SLACK * (logits + matrices + rows))


def _gpu_logits(rows: int, vocab_size: int, number_bytes: int) -> int:
    """Bytes of a chunk of logits on a GPU."""
    chunk = min(rows, gpu_chunk_rows(rows, vocab_size, number_bytes))
    return number_bytes * aligned(vocab_size, VOCAB_ALIGNMENT) * chunk


def memory_shape(config: RunConfig, vocab_size: int, sentences: int) -> dict[str, Fact]:
    """The settings that determine memory: configs with the same shape need the same."""
    model, training = (
        config.model.model_dump(mode="json", exclude={"initialization", "init_scale"}),
        config.training,
    )
    length = (
        {"bptt": training.bptt}
        if training.data_mode == "stream"
        else {"context_length": training.context_length, "sentences": sentences}
    )
    how = {
        "precision": training.precision,
        "matmul": training.matmul,
        "cuda_graphs": training.cuda_graphs,
        "deterministic": training.deterministic,
    }
    return {
        "vocab_size": vocab_size,
        **model,
        "algorithm": config.optimizer.algorithm,
        "data_mode": training.data_mode,
        "batch_size": training.batch_size,
        **length,
        **how,
    }


def largest_fitting_batch(
    config: RunConfig,
    vocab_size: int,
    available: int,
    *,
    sentences: int = 0,
    on_gpu: bool = False,
    resident_tokens: int = 0,
) -> int | None:
    """The largest batch size, up to the config's, that fits into `available` bytes, or None."""

    def fits(batch: int) -> bool:
        training = config.training.model_copy(update={"batch_size": batch})
        return (
            memory_parts(
                config.model_copy(update={"training": training}),
                vocab_size,
                sentences=sentences,
                on_gpu=on_gpu,
                resident_tokens=resident_tokens,
            ).training
            <= available
        )

    if not fits(1):
        return None
    low, high = 1, config.training.batch_size
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def step_length(config: RunConfig) -> int:
    """Tokens of a stream or a sentence in a step."""
    training = config.training
    return training.bptt if training.data_mode == "stream" else training.context_length - 1


def _numbers_per_position(model: ModelConfig, length: int) -> float:
    """Numbers kept for the backward pass per position.

    Dropout keeps its mask, and temporarily its result.
    """
    dropped = DROPPED if model.dropout else 0.0
    cell = CELL_MEMORY[model.cell_type]
    numbers = (1 + dropped) * model.embedding_dim
    numbers += model.num_layers * (
        (cell.per_unit + dropped) * model.hidden_size
        + cell.per_pair * looked_back(length) * model.num_heads
    )
    return numbers + model.hidden_size


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate over a run."""

    peak: float
    kind: str = "constant"
    """`constant`, `cosine` or `decay`."""
    warmup_steps: int = 0
    final_fraction: float = 0.0
    """`cosine`: the final rate as a share of the peak."""
    decay_after: int = 0
    """`decay`: epochs at the peak."""
    decay_factor: float = 1.0
    """`decay`: factor at the start of each later epoch."""

    def rate(self, step: int, *, total_steps: int, steps_per_epoch: int = 1) -> float:
        """The rate of update `step` (1-based)."""
        # 1. Warm-up: linear, so the last warm-up step has the peak.
        if step <= self.warmup_steps:
            return self.peak * step / self.warmup_steps
        # 2. Constant.
        if self.kind == "constant":
            return self.peak
        # 3. Decay: epoch e (1-based) has peak x decay_factor ** max(0, e - decay_after), as in
        # Zaremba, Sutskever and Vinyals, "Recurrent Neural Network Regularization" (2014), 4.1.
        if self.kind == "decay":
            epoch = (step - 1) // steps_per_epoch + 1
            return float(self.peak * self.decay_factor ** max(0, epoch - self.decay_after))
        # 4. Cosine: from the peak (at the last warm-up step, or at step 1) down to
        # peak x final_fraction, reached exactly at the last step and kept afterwards.
        if step >= total_steps:
            return self.peak * self.final_fraction if total_steps > 1 else self.peak
        start = max(self.warmup_steps, 1)
        progress = (step - start) / (total_steps - start)
        share = (1 + math.cos(math.pi * progress)) / 2
        return self.peak * (self.final_fraction + (1 - self.final_fraction) * share)


def schedule_of(config: RunConfig, *, warmup_steps: int, peak: float | None = None) -> Schedule:
    """The schedule of a config; `peak` None: the config's learning rate."""
    return Schedule(
        peak=config.optimizer.learning_rate if peak is None else peak,
        kind=config.schedule.kind,
        warmup_steps=warmup_steps,
        final_fraction=config.schedule.final_fraction,
        decay_after=config.schedule.decay_after,
        decay_factor=config.schedule.decay_factor,
    )
