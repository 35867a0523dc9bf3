"""The memory that each process of a run needs, by part, from its config alone.

On a CPU, it is within 15 % of the measured peak of the process. On a GPU it counts only tensors,
with the same constants, and was not measured.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil

from rnnlm_tui.schema.cells import CELLS
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import (
    FLOAT_BYTES,
    carried_bytes,
    gradient_bytes,
    layer_sizes,
    looked_back,
    rows_at_once,
    step_length,
)
from rnnlm_tui.schema.protocol import Fact

CHUNK_BYTES = 24_000_000
"""The size of a chunk of logits on a CPU; half of it costs a tenth of the speed (measured)."""

GPU_CHUNK_BYTES = 256_000_000
"""The chunk size on a GPU, whose matmuls need more rows (calculated, not measured)."""

VOCAB_ALIGNMENT, WIDTH_ALIGNMENT = 64, 8
"""On a GPU, vocabulary and hidden size are padded to multiples of these during the loss. 8 numbers
of bf16 are the 16 bytes that a GPU loads at a time."""

SMALLEST_CHUNK = 64
"""Fewest rows in a chunk, for any vocabulary."""

EVALUATED_STREAMS, EVALUATED_WINDOW, EVALUATED_SENTENCES = 16, 128, 128
"""Shape of evaluation batches: streams and their time steps, or sentences."""


def chunk_rows(vocab_size: int, chunk_bytes: int = CHUNK_BYTES, number_bytes: int = 4) -> int:
    """Rows of a chunk for logits with `number_bytes` per number."""
    return max(SMALLEST_CHUNK, chunk_bytes // (vocab_size * number_bytes))


def gpu_chunk_rows(rows: int, vocab_size: int, number_bytes: int) -> int:
    """Rows of each chunk on a GPU, where all but the last are equal."""
    most = chunk_rows(aligned(vocab_size, VOCAB_ALIGNMENT), GPU_CHUNK_BYTES, number_bytes)
    return aligned(ceil(rows / max(1, ceil(rows / most))), WIDTH_ALIGNMENT)


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
"""What a worker holds beside the model on a CPU: control socket, recorder, tokenizer
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
    buckets: int
    """Gradients that stay during a step: of the parts before, or where processes add them up."""
    activations: int
    """Activations of embedding, layers and dropout that the backward pass needs, and the copies of
    an LSTM layer's weights."""
    head: int
    """Chunks of logits, copies of the output matrix and its gradient during the loss."""
    gradients: int
    """Gradients of all weights after the backward pass, when `head` is free again; those in
    `buckets` don't count again."""
    corpus: int
    """Sentence offsets and lengths (sentence mode), in main memory.

    Memory-mapped token files don't count, because the system can reclaim their pages.
    """
    evaluation: int
    """Logits during an evaluation."""
    saving: int
    """The copy of weights and moments from which checkpoints are written beside training."""

    @property
    def step(self) -> int:
        return self.activations + max(self.head, self.gradients)

    @property
    def training(self) -> int:
        """What a run can't do without. If there is no memory for `saving`, training waits while a
        checkpoint is written."""
        permanent = self.process + self.corpus + self.weights + self.moments + self.buckets
        return permanent + max(self.step, self.evaluation)

    @property
    def total(self) -> int:
        """The peak."""
        return self.training + self.saving


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
    processes: int = 1,
) -> MemoryParts:
    """Estimate the peak memory of a process by part.

    Args:
        sentences: number of training sentences.
        processes: those that share each batch.
    """
    training = config.training
    model = config.model
    weights = gradients = gradient_bytes(config, vocab_size)
    buckets = gradients if processes * training.accumulate > 1 else 0
    moments = 2 * weights if config.optimizer.algorithm == "adamw" else 0
    matrix = FLOAT_BYTES * vocab_size * model.hidden_size
    positions = rows_at_once(config, processes) * step_length(config)
    kept = positions * _numbers_per_position(config)
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
    return MemoryParts(
        process=0
        if on_gpu
        else process_bytes() + WORKER_BYTES + COMPILED_BYTES * keeps_compiled_matmuls(config),
        weights=weights,
        moments=moments,
        buckets=buckets,
        activations=FLOAT_BYTES * round(kept),
        head=head,
        # A tied matrix has two gradients before they are added; word dropout copies the embedding.
        # Exact mode adds up a copy of them.
        gradients=gradients * (1 + (training.deterministic and processes > 1))
        - buckets
        + (matrix if model.tie_weights else 0)
        + (2 * FLOAT_BYTES * vocab_size * model.embedding_dim if model.embedding_dropout else 0),
        corpus=0 if on_gpu else index,
        evaluation=evaluation,
        # The last checkpoint is written without a copy, and a GPU's copy is in main memory.
        saving=weights + moments + carried_bytes(config)
        if not on_gpu and (config.checkpoint.every or config.evaluation.every)
        else 0,
    )


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
    on_sentences = config.training.data_mode == "sentences"
    known = {"data_mode", "batch_size", "accumulate", "precision", "matmul", "deterministic"}
    return {
        "vocab_size": vocab_size,
        **config.model.model_dump(mode="json", exclude={"initialization", "init_scale"}),
        "algorithm": config.optimizer.algorithm,
        **config.training.model_dump(
            mode="json", include=known | {"context_length" if on_sentences else "bptt"}
        ),
        **({"sentences": sentences} if on_sentences else {}),
    }


def largest_fitting_batch(
    config: RunConfig,
    vocab_size: int,
    available: int,
    *,
    sentences: int = 0,
    on_gpu: bool = False,
    processes: int = 1,
) -> int | None:
    """The largest batch size, up to the config's, that fits into `available` bytes, or None: of
    each process's GPU, or of the main memory that processes on CPUs share."""

    def needed(batch: int) -> int:
        training = config.training.model_copy(update={"batch_size": batch})
        smaller = config.model_copy(update={"training": training})
        parts = memory_parts(
            smaller, vocab_size, sentences=sentences, on_gpu=on_gpu, processes=processes
        )
        return parts.training * (1 if on_gpu else processes)

    least = processes * config.training.accumulate
    sizes = range(least, config.training.batch_size + 1)
    fitting = bisect_right(sizes, available, key=needed)
    return sizes[fitting - 1] if fitting else None


def _numbers_per_position(config: RunConfig) -> float:
    """Numbers kept for the backward pass per position.

    Dropout keeps its mask, and temporarily its result.
    """
    model, length = config.model, step_length(config)
    carries = config.training.data_mode == "stream"
    held = carries * (model.attention_window - 1)
    dropped = DROPPED if model.dropout else 0.0
    cell = CELLS[model.cell_type]
    numbers = (1 + dropped) * model.embedding_dim
    numbers += model.num_layers * (
        (
            cell.kept_per_unit
            + cell.kept_per_key * held / length
            + dropped * (1 + cell.attends)  # of both branches
        )
        * model.hidden_size
        + cell.kept_per_pair * looked_back(model, length, carries=carries) * model.num_heads
    )
    return numbers + model.hidden_size
