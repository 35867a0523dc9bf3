"""The memory that a training worker takes at its peak, part by part, by arithmetic alone.

On a CPU it agrees within 15 % with what was measured, the most that the process held. On a GPU it counts tensors alone, by the
same constants, and was not measured.
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
"""The chunk itself, and a matrix product that lays it out anew."""
LIVE_MATRICES = 3
"""Of the size of the output matrix while the loss is made: its transposed copy, its gradient, a chunk's share of that."""
SLACK = 1.15
"""Holes between blocks that come and go (measured)."""
DROPPED = 1.5
"""Numbers that a dropout holds for each unit (measured)."""
SENTENCE_BYTES, ORDER_BYTES = 12, 8
"""Of a sentence's place and length, and of its place in a shuffled pass."""


@dataclass(frozen=True, slots=True)
class CellMemory:
    """Numbers that one layer holds for each position of a step, forward and backward."""

    per_unit: float
    """Times the hidden size."""
    per_pair: float = 0.0
    """Times the heads and the positions that each one looks back on: matrices of T x T."""


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
"""Measured on a CPU at 9,000 positions of 256 units, dropout left out."""


@dataclass(frozen=True, slots=True)
class MemoryParts:
    """Bytes by part. The process, weights and moments are always there; of the rest, what a step, an evaluation or a checkpoint holds."""

    process: int
    """The process before there is a model; 0 on a GPU, whose tensors alone count."""
    weights: int
    moments: int
    """AdamW's two."""
    activations: int
    """What the backward pass needs of embedding, layers and dropout, for a whole step."""
    head: int
    """Chunks of logits, copies of the output matrix and its gradient, while the loss is made."""
    gradients: int
    """Of all weights, after the backward pass, when the head's copies are gone."""
    corpus: int
    """Where each sentence begins and how long it is (sentence mode); on a GPU the token ids. Token files are mapped, and their pages are
    the system's to take back."""
    evaluation: int
    """Logits of held-out text, between two steps."""
    saving: int
    """Copies while a checkpoint is written, between two steps; on a GPU they are in the machine's memory."""

    @property
    def step(self) -> int:
        return self.activations + max(self.head, self.gradients)

    @property
    def total(self) -> int:
        return self.process + self.corpus + self.weights + self.moments + max(self.step, self.evaluation, self.saving)

    @property
    def between_steps(self) -> int:
        """Held while a checkpoint is written."""
        return self.process + self.corpus + self.weights + self.moments + self.saving


def positions_per_step(config: RunConfig) -> int:
    """Tokens of a full step, padding included."""
    training = config.training
    return training.batch_size * _length(config)


def memory_parts(config: RunConfig, vocab_size: int, *, sentences: int = 0, on_gpu: bool = False, resident_tokens: int = 0) -> MemoryParts:
    """The parts of the peak for a vocabulary of `vocab_size`.

    Args:
        sentences: to train on.
        resident_tokens: to train on where their ids lie in the GPU's memory.
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
        # A tied matrix gets two gradients, as embedding and as output, before they are one; dropping words makes a copy of the vectors.
        gradients=weights + (matrix if model.tie_weights else 0) + (2 * FLOAT_BYTES * vocab_size * model.embedding_dim if model.embedding_dropout else 0),
        corpus=FLOAT_BYTES * resident_tokens if on_gpu else index,
        evaluation=FLOAT_BYTES * LIVE_CHUNKS * vocab_size * min(evaluated, rows),
        saving=0 if on_gpu else max(weights, moments),
    )


def memory_shape(config: RunConfig, vocab_size: int, sentences: int) -> dict[str, Fact]:
    """All of a config that decides its memory: two configs of the same shape need the same."""
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
    """The largest batch, no larger than the config's, whose step fits into `available` bytes; None where not even one row does."""

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
    """What backward needs for one position, in numbers of float32; a dropout keeps its mask, and for a while its result."""
    dropped = DROPPED if model.dropout else 0.0
    cell = CELL_MEMORY[model.cell_type]
    numbers = (1 + dropped) * model.embedding_dim
    looked_back = length if length < LONGEST_WHOLE_WINDOW else WINDOW_CHUNK
    numbers += model.num_layers * ((cell.per_unit + dropped) * model.hidden_size + cell.per_pair * looked_back * model.num_heads)
    return numbers + model.hidden_size
