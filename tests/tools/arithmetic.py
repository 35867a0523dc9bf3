"""Work out, without measuring, what a training step costs on a GPU: `python -m
tests.tools.arithmetic`.

A step is a list of kernels, each with its operations and the bytes that it reads and writes, as the
engine does them: padded vocabulary, chunks of logits, passes over them, the optimizer's bytes. A
kernel takes as long as its operations or its bytes, whichever is slower; the steps of a recurrence
and the gaps between kernels are added. The floor is that of any program: each weight, moment and
kept activation moved as seldom as possible, no logits in memory, no gaps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from rnnlm_tui.bench.report import Numbers
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.estimates import (
    FLOAT_BYTES,
    layer_sizes,
    parameter_count,
    positions_per_step,
    step_length,
)
from rnnlm_tui.schema.memory import (
    VOCAB_ALIGNMENT,
    WIDTH_ALIGNMENT,
    adds_ones,
    aligned,
    gpu_chunk_rows,
)
from rnnlm_tui.schema.presets import BOOK, PTB_SMALL, PTB_TRAINING_TOKENS
from rnnlm_tui.schema.reference import SENTENCES
from rnnlm_tui.schema.validation import merge, parse_config

Section = Literal["embedding", "layers", "head", "update"]
SECTIONS: tuple[Section, ...] = ("embedding", "layers", "head", "update")
GATES: Mapping[str, int] = MappingProxyType({"elman": 1, "lstm": 4, "gru": 3})
"""Blocks of H numbers that a layer computes for each position, for the cells that cuDNN runs."""
KEPT_GATES: Mapping[str, int] = MappingProxyType({"elman": 0, "lstm": 5, "gru": 4})
"""Of these, kept for the backward pass, with the LSTM's cell and the GRU's inner product; the
outputs are kept anyway."""

PERSISTENT_WIDTH = 256
"""Up to this width cuDNN runs all steps of an Elman layer in one kernel, forward and backward."""
PERSISTENT_STEP_SECONDS = 3e-6
"""A step of such a kernel: its blocks wait for each other."""
SMALL_KERNEL_SECONDS = 5e-6
"""A small kernel that waits for the one before: start, fill and drain."""
KERNELS_PER_STEP = 2
"""In other recurrences: the product with the state, and the gates."""
CACHE_SPEEDUP = 2.0
"""The second-level cache over memory; it holds the recurrent weights, which each step reads."""
KERNEL_SECONDS = 2e-6
"""Start and drain of a kernel of a CUDA graph, and the gap to the next."""
LAUNCH_SECONDS = 8e-6
"""What torch and Python take on the host for each kernel without a graph."""
OF_BANDWIDTH, OF_MATRIX = 0.85, 0.6
"""Shares of the data sheet's figures that large kernels reach."""


@dataclass(frozen=True, slots=True)
class Card:
    """Peak figures of a GPU."""

    name: str
    bandwidth: float
    """Bytes per second."""
    rates: Mapping[Numbers, float]
    """Operations per second of dense matrix products."""


CARDS = (
    Card("H100 SXM", 3.35e12, {"float32": 66.9e12, "tf32": 494.7e12, "bf16": 989.4e12}),
    Card("A100 80 GB", 2.039e12, {"float32": 19.5e12, "tf32": 156e12, "bf16": 312e12}),
    Card("A100 40 GB", 1.555e12, {"float32": 19.5e12, "tf32": 156e12, "bf16": 312e12}),
)
"""NVIDIA, "H100 Tensor Core GPU" and "A100 Tensor Core GPU" (data sheets), SXM modules; the H100's
figures are printed with sparsity there, which doubles them."""


def card_named(device: str) -> Card | None:
    """The card of a device's name, such as `cuda:0 NVIDIA A100-SXM4-80GB`; None: another one."""
    for card in CARDS:
        kind, *size = card.name.replace(" SXM", "").replace(" GB", "GB").split()
        if kind in device and all(part in device for part in size) and "PCIe" not in device:
            return card
    return None


@dataclass(frozen=True, slots=True)
class Shape:
    """A model and its batches, for which figures are worked out and measured."""

    name: str
    config: RunConfig
    vocab_size: int
    used: float
    """Share of the positions that hold a target that counts."""
    steps_per_epoch: int


def _shapes() -> dict[str, Shape]:
    lstm = parse_config(
        merge(
            PTB_SMALL,
            {
                "model.embedding_dim": 1_024,
                "model.hidden_size": 1_024,
                "model.initialization": "default",
                "training.batch_size": 64,
                "training.bptt": 70,
                "optimizer.algorithm": "adamw",
                "optimizer.learning_rate": 1e-3,
                "optimizer.max_grad_norm": 0.25,
                "schedule.kind": "constant",
            },
        )
    )
    sentences = math.ceil(SENTENCES / BOOK.training.batch_size)
    windows = math.ceil((PTB_TRAINING_TOKENS - 1) // 64 / 70)
    shapes = (
        Shape("book", BOOK, BOOK.tokenizer.vocab_size, 0.76, sentences),
        Shape("lstm 2x1024", lstm, lstm.tokenizer.vocab_size, 1.0, windows),
    )
    return {shape.name: shape for shape in shapes}


SHAPES: Mapping[str, Shape] = MappingProxyType(_shapes())
"""The book's model on its news sentences, and a large LSTM on the words of the Penn Treebank."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel, or several alike."""

    section: Section
    name: str
    bytes: float
    """Read and written."""
    operations: float = 0.0
    """Of matrix products."""
    numbers: Numbers = "float32"
    """Their number format."""

    def seconds(self, card: Card) -> float:
        """On a card, at the shares of its peaks that large kernels reach."""
        return max(
            self.bytes / (OF_BANDWIDTH * card.bandwidth),
            self.operations / (OF_MATRIX * card.rates[self.numbers]),
        )


@dataclass(frozen=True, slots=True)
class Work:
    """What a step has to do at least, in any program."""

    bytes: float
    operations: Mapping[Numbers, float]

    def seconds(self, card: Card) -> float:
        """The floor: bytes at the full bandwidth, or operations at the full rate."""
        products = sum(count / card.rates[numbers] for numbers, count in self.operations.items())
        return max(self.bytes / card.bandwidth, products)


@dataclass(frozen=True, slots=True)
class _Sizes:
    positions: int
    rows: int
    """Positions whose targets count."""
    padded: int
    """Vocabulary as the head multiplies it."""
    parameters: int
    chunks: int
    """Of logits."""


def _sizes(shape: Shape, numbers: Numbers, used: float | None = None) -> _Sizes:
    positions = positions_per_step(shape.config)
    rows = round(positions * (shape.used if used is None else used))
    padded = padded_vocabulary(shape.vocab_size)
    in_chunk = gpu_chunk_rows(rows, shape.vocab_size, number_bytes(numbers))
    return _Sizes(
        positions,
        rows,
        padded,
        parameter_count(shape.config.model, shape.vocab_size).total,
        math.ceil(rows / in_chunk),
    )


def padded_vocabulary(vocab_size: int) -> int:
    """The vocabulary as the head multiplies it on a GPU."""
    return aligned(vocab_size, VOCAB_ALIGNMENT)


def number_bytes(numbers: Numbers) -> int:
    """Bytes of one logit."""
    return 2 if numbers == "bf16" else FLOAT_BYTES


def kernels(shape: Shape, numbers: Numbers, used: float | None = None) -> list[Kernel]:
    """The kernels of a step, the head's products in this number format.

    Args:
        used: share of the positions that count; None: the shape's.
    """
    sizes = _sizes(shape, numbers, used)
    return [
        *_embedding(shape, sizes),
        *_layers(shape, sizes, "float32" if numbers == "float32" else "tf32"),
        *_head(shape, sizes, numbers),
        *_update(shape, sizes),
    ]


def _embedding(shape: Shape, sizes: _Sizes) -> Iterable[Kernel]:
    vectors = FLOAT_BYTES * sizes.positions * shape.config.model.embedding_dim
    matrix = FLOAT_BYTES * shape.vocab_size * shape.config.model.embedding_dim
    yield Kernel("embedding", "look up", 2 * vectors)
    yield Kernel("embedding", "zeros for the gradient", matrix)
    yield Kernel("embedding", "add to the gradient", 3 * vectors)


def _layers(shape: Shape, sizes: _Sizes, numbers: Numbers) -> Iterable[Kernel]:
    model = shape.config.model
    positions = sizes.positions
    gates, kept = GATES[model.cell_type], KEPT_GATES[model.cell_type]
    widths = [model.embedding_dim] + [model.hidden_size] * model.num_layers
    for inputs, hidden in pairwise(widths):
        read, states = FLOAT_BYTES * positions * inputs, FLOAT_BYTES * positions * hidden
        gate_bytes, kept_bytes = gates * states, kept * states
        of_input, of_state = gates * hidden * inputs, gates * hidden * hidden
        yield Kernel(
            "layers",
            "product with the inputs",
            read + FLOAT_BYTES * of_input + gate_bytes,
            2 * positions * of_input,
            numbers,
        )
        yield Kernel(
            "layers",
            "recurrence",
            gate_bytes + FLOAT_BYTES * of_state + states + kept_bytes,
            2 * positions * of_state,
            numbers,
        )
        yield Kernel(
            "layers",
            "recurrence, backward",
            2 * states + kept_bytes + FLOAT_BYTES * of_state + gate_bytes,
            2 * positions * of_state,
            numbers,
        )
        yield Kernel(
            "layers",
            "gradient of the inputs",
            gate_bytes + FLOAT_BYTES * of_input + read,
            2 * positions * of_input,
            numbers,
        )
        yield Kernel(
            "layers",
            "gradient of the weights",
            2 * gate_bytes + read + states + FLOAT_BYTES * (of_input + of_state),
            2 * positions * (of_input + of_state),
            numbers,
        )


def _head(shape: Shape, sizes: _Sizes, numbers: Numbers) -> Iterable[Kernel]:
    """As `engine.padded_loss` computes it with its Triton kernel."""
    rows, hidden = sizes.rows, shape.config.model.hidden_size
    size = number_bytes(numbers)
    ones = adds_ones(rows, hidden, size)
    logits = size * rows * sizes.padded
    matrix = size * sizes.padded * hidden
    weights = FLOAT_BYTES * shape.vocab_size * hidden
    gradient = FLOAT_BYTES * sizes.padded * (hidden + ones * WIDTH_ALIGNMENT)
    features, inputs = FLOAT_BYTES * rows * hidden, size * rows * hidden
    operations = 2.0 * rows * sizes.padded * hidden
    if rows < sizes.positions:
        all_features = FLOAT_BYTES * sizes.positions * hidden
        yield Kernel("head", "rows that count, and back", 5 * features + all_features)
    wider = inputs + ones * size * rows * WIDTH_ALIGNMENT
    # float32 inputs without ones are used as they are
    copied = features + wider if numbers == "bf16" or ones else 0
    yield Kernel("head", "padded weights and inputs", weights + matrix + copied)
    read = inputs + sizes.chunks * matrix
    yield Kernel("head", "logits", read + logits, operations, numbers)
    passes = logits_passes(ones=ones)
    yield Kernel("head", "softmax, loss and gradient", passes["kernel"] * logits)
    yield Kernel(
        "head",
        "gradient of the features",
        logits + sizes.chunks * matrix + 3 * features,
        operations,
        numbers,
    )
    yield Kernel(
        "head",
        "gradient of the weights",
        logits + wider + (3 * sizes.chunks - 2) * gradient,
        operations,
        numbers,
    )
    yield Kernel("head", "gradient of the bias", 2 * weights if ones else passes["bias"] * logits)


def logits_passes(*, ones: bool) -> Mapping[str, int]:
    """How often a step passes over all logits in memory, by what does it: the product that writes
    them, the kernel, whose second read comes from the cache, the two products with their gradient,
    and without a column of ones in the last, the sum for the bias."""
    return {"product": 1, "kernel": 2, "products": 2, "bias": 0 if ones else 1}


def _update(shape: Shape, sizes: _Sizes) -> Iterable[Kernel]:
    weights = FLOAT_BYTES * sizes.parameters
    yield Kernel("update", "norm of the gradient", weights)
    if shape.config.optimizer.max_grad_norm:
        yield Kernel("update", "clipping", 2 * weights)
    yield Kernel("update", "new weights", _optimizer_passes(shape.config) * weights)


def _optimizer_passes(config: RunConfig) -> int:
    """AdamW reads weights, gradients and two moments and writes all but the gradients."""
    return 7 if config.optimizer.algorithm == "adamw" else 3


def least_work(shape: Shape, numbers: Numbers, used: float | None = None) -> Work:
    """What any program has to do: products of the positions that count, each weight read twice and
    its gradient written once, the update, and what the layers keep written and read once."""
    sizes = _sizes(shape, numbers, used)
    model = shape.config.model
    states = FLOAT_BYTES * sizes.positions * model.hidden_size * model.num_layers
    kept = states * (1 + KEPT_GATES[model.cell_type])
    weights = FLOAT_BYTES * sizes.parameters
    of_layers = sum(size.weights for size in layer_sizes(model))
    in_layers: Numbers = "float32" if numbers == "float32" else "tf32"
    operations: dict[Numbers, float] = {in_layers: 6.0 * sizes.positions * of_layers}
    of_head = 6.0 * sizes.rows * shape.vocab_size * model.hidden_size
    operations[numbers] = operations.get(numbers, 0.0) + of_head
    return Work((3 + _optimizer_passes(shape.config)) * weights + 2 * kept, operations)


def sequential_steps(config: RunConfig) -> int:
    """Steps of the recurrences that wait for each other, forward and backward."""
    return 2 * config.model.num_layers * step_length(config)


def recurrence_seconds(config: RunConfig, card: Card) -> float:
    """Time of these steps beyond their operations and bytes."""
    model = config.model
    if model.cell_type == "elman" and model.hidden_size <= PERSISTENT_WIDTH:
        return sequential_steps(config) * PERSISTENT_STEP_SECONDS
    weights = FLOAT_BYTES * GATES[model.cell_type] * model.hidden_size**2
    each = KERNELS_PER_STEP * SMALL_KERNEL_SECONDS + weights / (CACHE_SPEEDUP * card.bandwidth)
    return sequential_steps(config) * each


def recurrence_launches(config: RunConfig) -> int:
    """Kernels that are counted by the steps of the recurrences, not by their number."""
    model = config.model
    if model.cell_type == "elman" and model.hidden_size <= PERSISTENT_WIDTH:
        return 0
    return KERNELS_PER_STEP * sequential_steps(config)


def launch_count(shape: Shape, numbers: Numbers) -> int:
    """Kernels of a step, from its operations on torch's meta device."""
    return _launch_count(shape.name, numbers)


@functools.cache
def _launch_count(name: str, numbers: Numbers) -> int:
    shape = SHAPES[name]
    from tests.tools import launches  # here: it imports torch

    model, training = shape.config.model, shape.config.training
    sizes = _sizes(shape, numbers)
    found = launches.launches(
        model.cell_type,
        launches.Shape(
            shape.vocab_size,
            model.embedding_dim,
            model.hidden_size,
            model.num_layers,
            batch_size=training.batch_size,
            steps=step_length(shape.config),
            rows=sizes.rows if sizes.rows < sizes.positions else None,
        ),
        algorithm=shape.config.optimizer.algorithm,
        max_grad_norm=shape.config.optimizer.max_grad_norm,
        tie_weights=model.tie_weights,
        reduced=numbers == "bf16",
    )
    return found["total"]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a step should take on a card, in seconds."""

    floor: float
    """No program takes less."""
    graph: float
    """As a CUDA graph."""
    launched: float
    """With each kernel launched by the host."""
    epoch: float
    """All steps of an epoch, as graphs."""
    launches: int
    """Kernels of a step."""


def expected(shape: Shape, numbers: Numbers, card: Card) -> Expected:
    """Work out a step on a card."""
    count = launch_count(shape, numbers)
    busy = sum(kernel.seconds(card) for kernel in kernels(shape, numbers))
    busy += recurrence_seconds(shape.config, card)
    graph = busy + (count - recurrence_launches(shape.config)) * KERNEL_SECONDS
    return Expected(
        floor=least_work(shape, numbers).seconds(card),
        graph=graph,
        launched=max(graph, count * LAUNCH_SECONDS),
        epoch=shape.steps_per_epoch * graph,
        launches=count,
    )


NAMES: Mapping[Numbers, str] = MappingProxyType({"tf32": "TF32", "bf16": "bf16"})
HEAD = (
    *("model", "head in", "GB", "TFLOP", "kernels", "steps in turn", "card", "floor"),
    *("expected", "without graph", "epoch"),
)
PART_HEAD = ("model", "part", "GB", "TFLOP", "ms")


def rows() -> list[tuple[str, ...]]:
    """A row for each model, number format and card."""
    found: list[tuple[str, ...]] = []
    for shape in SHAPES.values():
        for numbers, name in NAMES.items():
            steps = kernels(shape, numbers)
            for card in CARDS:
                figures = expected(shape, numbers, card)
                found.append(
                    (
                        shape.name,
                        name,
                        f"{sum(kernel.bytes for kernel in steps) / 1e9:.2f}",
                        f"{sum(kernel.operations for kernel in steps) / 1e12:.3f}",
                        f"{figures.launches:,}",
                        f"{sequential_steps(shape.config):,}",
                        card.name,
                        f"{1e3 * figures.floor:.2f} ms",
                        f"{1e3 * figures.graph:.2f} ms",
                        f"{1e3 * figures.launched:.2f} ms",
                        _duration(figures.epoch),
                    )
                )
    return found


def part_rows() -> list[tuple[str, ...]]:
    """Where a step's time goes on the first card, with a bf16 head."""
    card = CARDS[0]
    numbers: Numbers = "bf16"
    found: list[tuple[str, ...]] = []
    for shape in SHAPES.values():
        steps = kernels(shape, numbers)
        for section in SECTIONS:
            own = [kernel for kernel in steps if kernel.section == section]
            found.append(
                (
                    shape.name,
                    section,
                    f"{sum(kernel.bytes for kernel in own) / 1e9:.3f}",
                    f"{sum(kernel.operations for kernel in own) / 1e12:.3f}",
                    f"{1e3 * sum(kernel.seconds(card) for kernel in own):.2f}",
                )
            )
        starts = launch_count(shape, numbers) - recurrence_launches(shape.config)
        for name, seconds in (
            ("steps of the recurrence", recurrence_seconds(shape.config, card)),
            ("starts of kernels", starts * KERNEL_SECONDS),
        ):
            found.append((shape.name, name, "", "", f"{1e3 * seconds:.2f}"))
    return found


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.1f} s"


def main() -> None:
    """Print both tables."""
    for head, lines in ((HEAD, rows()), (PART_HEAD, part_rows())):
        widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
        for line in (head, *lines):
            print(  # noqa: T201
                "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            )
        print()  # noqa: T201
    print("worked out, not measured")  # noqa: T201


if __name__ == "__main__":
    main()
