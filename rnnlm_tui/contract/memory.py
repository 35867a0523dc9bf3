"""Estimate a training worker's peak memory from its config.

On a CPU, the estimate is within 15 % of the measured peak of the process. On a GPU it counts only
tensors, with the same constants, and was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from rnnlm_tui.contract.chunks import (
    CHUNK_BYTES,
    EVALUATED_SENTENCES,
    EVALUATED_STREAMS,
    EVALUATED_WINDOW,
    GPU_CHUNK_BYTES,
    LONGEST_WHOLE_WINDOW,
    WINDOW_CHUNK,
    chunk_rows,
)
from rnnlm_tui.contract.config import CellType, ModelConfig, RunConfig
from rnnlm_tui.contract.estimates import FLOAT_BYTES, parameter_count
from rnnlm_tui.contract.probes import Fact

MIB = 2**20
PROCESS_BYTES = 335 * MIB
"""Python, torch and its libraries after their first step (measured, torch 2.13 for CPU on Linux)."""
LIVE_CHUNKS = 2
"""The chunk of logits, and a copy in another memory layout for its matmul."""
LIVE_MATRICES = 3
"""Matrices of the output matrix's size during the loss: a transposed copy, the gradient, and a chunk's part of it."""
SLACK = 1.15
"""Factor for memory fragmentation (measured)."""
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


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Memory in bytes by part: permanent parts, and those of a step, an evaluation or a checkpoint."""

    process: int
    """The process without a model; 0 on a GPU, where only tensors count."""
    weights: int
    moments: int
    """AdamW's two moments."""
    activations: int
    """Activations of embedding, layers and dropout that the backward pass needs."""
    head: int
    """Chunks of logits, copies of the output matrix and its gradient during the loss."""
    gradients: int
    """Gradients of all weights after the backward pass, when `head` is free again."""
    corpus: int
    """Sentence offsets and lengths (sentence mode); on a GPU the token ids. Memory-mapped token files
    don't count, because the system can reclaim their pages."""
    evaluation: int
    """Logits during an evaluation."""
    saving: int
    """Copies during a checkpoint; on a GPU run they are in CPU memory."""

    @property
    def step(self) -> int:
        return self.activations + max(self.head, self.gradients)

    @property
    def total(self) -> int:
        return self.process + self.corpus + self.weights + self.moments + max(self.step, self.evaluation, self.saving)

    @property
    def between_steps(self) -> int:
        """Memory while a checkpoint is written."""
        return self.process + self.corpus + self.weights + self.moments + self.saving


def positions_per_step(config: RunConfig) -> int:
    """Tokens of a full step, including padding."""
    training = config.training
    return training.batch_size * _length(config)


def memory_parts(config: RunConfig, vocab_size: int, *, sentences: int = 0, on_gpu: bool = False, resident_tokens: int = 0) -> MemoryParts:
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
    evaluated = EVALUATED_STREAMS * EVALUATED_WINDOW if training.data_mode == "stream" else EVALUATED_SENTENCES * _length(config)
    rows = chunk_rows(vocab_size, GPU_CHUNK_BYTES if on_gpu else CHUNK_BYTES)
    logits = FLOAT_BYTES * vocab_size * min(positions, rows)
    index = 0 if training.data_mode == "stream" else sentences * (SENTENCE_BYTES + ORDER_BYTES * training.shuffle)
    return MemoryParts(
        process=0 if on_gpu else PROCESS_BYTES,
        weights=weights,
        moments=moments,
        activations=FLOAT_BYTES * round(positions * _numbers_per_position(model, _length(config))),
        head=round(SLACK * (LIVE_CHUNKS * logits + LIVE_MATRICES * matrix)),
        # A tied matrix has two gradients before they are added; word dropout copies the embedding.
        gradients=weights + (matrix if model.tie_weights else 0) + (2 * FLOAT_BYTES * vocab_size * model.embedding_dim if model.embedding_dropout else 0),
        corpus=FLOAT_BYTES * resident_tokens if on_gpu else index,
        evaluation=FLOAT_BYTES * LIVE_CHUNKS * vocab_size * min(evaluated, rows),
        saving=0 if on_gpu else max(weights, moments),
    )


def memory_shape(config: RunConfig, vocab_size: int, sentences: int) -> dict[str, Fact]:
    """The settings that determine memory: configs with the same shape need the same."""
    model, training = config.model.model_dump(mode="json", exclude={"initialization", "init_scale"}), config.training
    length = {"bptt": training.bptt} if training.data_mode == "stream" else {"context_length": training.context_length, "sentences": sentences}
    how = {"precision": training.precision, "matmul": training.matmul, "cuda_graphs": training.cuda_graphs, "deterministic": training.deterministic}
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
    config: RunConfig, vocab_size: int, available: int, *, sentences: int = 0, on_gpu: bool = False, resident_tokens: int = 0
) -> int | None:
    """The largest batch size up to the config's that fits into `available` bytes; None if none does."""

    def fits(batch: int) -> bool:
        training = config.training.model_copy(update={"batch_size": batch})
        return (
            memory_parts(
                config.model_copy(update={"training": training}), vocab_size, sentences=sentences, on_gpu=on_gpu, resident_tokens=resident_tokens
            ).total
            <= available
        )

    if not fits(1):
        return None
    low, high = 1, config.training.batch_size
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _length(config: RunConfig) -> int:
    training = config.training
    return training.bptt if training.data_mode == "stream" else training.context_length - 1


def _numbers_per_position(model: ModelConfig, length: int) -> float:
    """Numbers kept for the backward pass per position; dropout keeps its mask, and temporarily its result."""
    dropped = DROPPED if model.dropout else 0.0
    cell = CELL_MEMORY[model.cell_type]
    numbers = (1 + dropped) * model.embedding_dim
    looked_back = length if length < LONGEST_WHOLE_WINDOW else WINDOW_CHUNK
    numbers += model.num_layers * ((cell.per_unit + dropped) * model.hidden_size + cell.per_pair * looked_back * model.num_heads)
    return numbers + model.hidden_size
