"""The memory that a training worker takes at its peak, part by part, by arithmetic alone.

Agrees within 15 % with what was measured: the most that the process held on a CPU, the most that tensors held on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from rnnlm_tui.contract.config import CellType, ModelConfig, RunConfig
from rnnlm_tui.contract.estimates import FLOAT_BYTES, parameter_count
from rnnlm_tui.contract.probes import Fact

MIB = 2**20
PROCESS_BYTES = 335 * MIB
"""Python, torch and its libraries after their first step (measured, torch 2.13 for CPU on Linux)."""
CHUNK_LOGITS = 8_000_000
"""Logits that the vocabulary head holds at once: a chunk of rows this large keeps the matrix products busy (measured)."""
SMALLEST_CHUNK_ROWS = 64


@dataclass(frozen=True, slots=True)
class CellMemory:
    """Numbers that one layer holds for each position of a step, as multiples of its input width E and its hidden size H."""

    per_input: float
    per_hidden: float
    per_pair: float = 0.0
    """Times the window's length and the number of heads: matrices of T x T."""


CELL_MEMORY: Mapping[CellType, CellMemory] = MappingProxyType(
    {
        "elman": CellMemory(0, 2),
        "lstm": CellMemory(0, 12),
        "gru": CellMemory(0, 10),
        "mingru": CellMemory(0, 8),
        "minlstm": CellMemory(0, 10),
        "slstm": CellMemory(0, 16),
        "mlstm": CellMemory(0, 12, 3),
    }
)
"""Measured at two batch sizes each, forward and backward, dropout left out."""


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Bytes by part. A step holds gradients, activations and logits; a checkpoint is written between steps, when they are gone."""

    process: int
    """The process before there is a model; 0 on a GPU, whose tensors alone count."""
    weights: int
    moments: int
    """AdamW's two."""
    gradients: int
    activations: int
    """What backward needs of embedding, layers and dropout."""
    logits: int
    """A chunk of the vocabulary head's, its copies, and the head's own gradient."""
    saving: int
    """Copies while a checkpoint is written; on a GPU they are the machine's."""

    @property
    def total(self) -> int:
        return max(self.process + self.weights + self.moments + self.gradients + self.activations + self.logits, self.between_steps)

    @property
    def between_steps(self) -> int:
        """Held while a checkpoint is written."""
        return self.process + self.weights + self.moments + self.saving


def rows_per_chunk(vocab_size: int) -> int:
    """Rows of logits that are held at once for this vocabulary."""
    return max(SMALLEST_CHUNK_ROWS, CHUNK_LOGITS // vocab_size)


def positions_per_step(config: RunConfig) -> int:
    """Tokens of a full step, padding included."""
    training = config.training
    return training.batch_size * _length(config)


def memory_parts(config: RunConfig, vocab_size: int, *, on_gpu: bool = False) -> MemoryParts:
    """The parts of the peak for a vocabulary of `vocab_size`."""
    model = config.model
    count = parameter_count(model, vocab_size)
    weights = FLOAT_BYTES * count.total
    moments = 2 * weights if config.optimizer.algorithm == "adamw" else 0
    positions = positions_per_step(config)
    rows = min(positions, rows_per_chunk(vocab_size))
    return MemoryParts(
        process=0 if on_gpu else PROCESS_BYTES,
        weights=weights,
        moments=moments,
        gradients=weights,
        activations=FLOAT_BYTES * round(positions * _numbers_per_position(model, _length(config))),
        logits=FLOAT_BYTES * (2 * rows * vocab_size + model.hidden_size * vocab_size),
        saving=0 if on_gpu else max(weights, moments),
    )


def memory_shape(config: RunConfig, vocab_size: int) -> dict[str, Fact]:
    """All of a config that decides its memory: two configs of the same shape need the same."""
    model, training = config.model.model_dump(mode="json", exclude={"initialization", "init_scale"}), config.training
    length = {"bptt": training.bptt} if training.data_mode == "stream" else {"context_length": training.context_length}
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


def fitting_batch(config: RunConfig, vocab_size: int, available: int, *, on_gpu: bool = False) -> int | None:
    """The largest batch, no larger than the config's, whose step fits into `available` bytes; None where not even one row does."""

    def fits(batch: int) -> bool:
        training = config.training.model_copy(update={"batch_size": batch})
        return memory_parts(config.model_copy(update={"training": training}), vocab_size, on_gpu=on_gpu).total <= available

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
    """What backward needs for one position, in numbers of float32; a dropout keeps its mask and its result."""
    dropped = 2 if model.dropout else 0
    cell = CELL_MEMORY[model.cell_type]
    numbers = float((1 + dropped) * model.embedding_dim)
    for inputs, hidden in pairwise([model.embedding_dim] + [model.hidden_size] * model.num_layers):
        numbers += cell.per_input * inputs + (cell.per_hidden + dropped) * hidden + cell.per_pair * length * model.num_heads
    return numbers + model.hidden_size
