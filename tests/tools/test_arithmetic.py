"""The figures that are worked out for GPUs are those of the engine's own operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rnnlm_tui.engine.optim import adamw
from rnnlm_tui.engine.padded_loss import padded_mean_loss
from rnnlm_tui.engine.softmax import Softmax
from rnnlm_tui.schema.estimates import (
    FLOAT_BYTES,
    flops_per_token,
    positions_per_step,
)
from tests.tools import arithmetic
from tests.tools.arithmetic import CARDS, SHAPES, Shape, expected, kernels

BOOK = SHAPES["book"]
FREE = ("empty", "new_empty", "_reshape_alias", "_unsafe_view", "detach", "lift_fresh")


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors of all operations, and those of the logits alone."""

    def __init__(self, logits: tuple[int, int] = (0, 0)) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.logits_bytes = 0
        self._logits = {logits, logits[::-1]}

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if func.is_view or name.startswith(FREE):
            return result
        for tensor in _tensors([args, result]):
            if name == "copy_" and tensor is args[0]:
                continue  # also the result
            self.bytes += tensor.numel() * tensor.element_size()
            if tuple(tensor.shape) in self._logits:
                self.logits_bytes += tensor.numel() * tensor.element_size()
        return result


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list | tuple):
        return [tensor for value in values for tensor in _tensors(value)]
    return []


def overwrite(
    logits_RW: Tensor, targets_R: Tensor, count: Tensor, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """In place of the Triton kernel, whose traffic torch doesn't see."""
    return logits_RW, torch.zeros(len(targets_R))


@pytest.mark.parametrize("rows", [640, 200])
def test_the_head_moves_the_bytes_that_are_worked_out(rows: int) -> None:
    vocab_size, width = 2_000, 64
    passes = arithmetic.logits_passes(ones=rows == 640)
    hidden_NH, weight_VH, bias_V = (
        torch.randn(*size).requires_grad_()
        for size in ((rows, width), (vocab_size, width), (vocab_size,))
    )
    targets_N = torch.arange(rows)
    softmax = Softmax(overwrite, lambda logits, *_: logits, lambda values, _: values)
    padded = arithmetic.padded_vocabulary(vocab_size)
    with Traffic((rows, padded)) as found:
        loss = padded_mean_loss(
            hidden_NH, weight_VH, bias_V, targets_N, reduced=False, softmax=softmax
        )
        torch.autograd.grad(loss, [hidden_NH, weight_VH, bias_V])
    logits = FLOAT_BYTES * rows * padded
    assert found.logits_bytes == (sum(passes.values()) - passes["kernel"]) * logits
    shape = Shape(
        "small",
        BOOK.config.model_copy(
            update={
                "model": BOOK.config.model.model_copy(update={"hidden_size": width}),
                "training": BOOK.config.training.model_copy(
                    update={"batch_size": rows, "context_length": 2}
                ),
            }
        ),
        vocab_size,
        1.0,
        1,
    )
    head = [kernel for kernel in kernels(shape, "tf32") if kernel.section == "head"]
    worked_out = sum(kernel.bytes for kernel in head) - passes["kernel"] * logits
    assert worked_out == pytest.approx(found.bytes, rel=0.05)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=lambda shape: shape.name)
def test_products_are_those_that_a_run_s_figures_count(shape: Shape) -> None:
    config, positions = shape.config, positions_per_step(shape.config)
    found = sum(kernel.operations for kernel in kernels(shape, "bf16", used=1.0))
    padded = arithmetic.padded_vocabulary(shape.vocab_size)
    assert found == positions * flops_per_token(config.model, padded)
    least = arithmetic.least_work(shape, "bf16", used=1.0)
    assert sum(least.operations.values()) == positions * flops_per_token(
        config.model, shape.vocab_size
    )


def test_adamw_reads_and_writes_what_is_worked_out() -> None:
    weights = [torch.nn.Parameter(torch.randn(100, 10)), torch.nn.Parameter(torch.randn(24))]
    optimizer = adamw(weights, learning_rate=0.1)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    before = [tensor.clone() for tensor in _tensors(_state(optimizer, weights))]
    with Traffic():
        optimizer.step()
    after = _tensors(_state(optimizer, weights))
    written = sum(
        not torch.equal(new, old)
        for new, old in zip(after, before, strict=True)
        if new.dim()  # not the counts of steps
    )
    read = sum(bool(tensor.dim()) for tensor in after)
    passes = arithmetic._optimizer_passes(BOOK.config)
    assert read + written == passes * len(weights)


def _state(optimizer: torch.optim.Optimizer, weights: list[torch.nn.Parameter]) -> list[Any]:
    return [[weight, weight.grad, dict(optimizer.state[weight])] for weight in weights]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=lambda shape: shape.name)
def test_estimates_are_ordered(shape: Shape) -> None:
    for numbers in arithmetic.NAMES:
        found = [expected(shape, numbers, card) for card in CARDS]
        for one in found:
            assert 0 < one.floor < one.graph <= one.launched
            assert one.epoch == shape.steps_per_epoch * one.graph
        fast, middle, slow = (one.graph for one in found)  # H100, A100 of 80 and 40 GB
        assert fast < middle < slow
    rounded, half = (expected(shape, numbers, CARDS[0]).graph for numbers in ("tf32", "bf16"))
    assert half < rounded


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("cuda:0 NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("cuda:1 NVIDIA A100-SXM4-80GB", "A100 80 GB"),
        ("cuda:0 NVIDIA A100-SXM4-40GB", "A100 40 GB"),
        ("cuda:0 NVIDIA H100 PCIe", None),
        ("cuda:0 NVIDIA GeForce RTX 4090", None),
        ("cpu, 2 threads", None),
    ],
)
def test_cards_are_known_by_their_names(device: str, name: str | None) -> None:
    card = arithmetic.card_named(device)
    assert (card and card.name) == name


def test_parts_of_a_step_add_up_to_what_is_expected() -> None:
    milliseconds = dict.fromkeys(SHAPES, 0.0)
    for name, *_, last in arithmetic.part_rows():
        milliseconds[name] += float(last)
    for name, total in milliseconds.items():
        wanted = 1e3 * expected(SHAPES[name], "bf16", CARDS[0]).graph
        assert total == pytest.approx(wanted, abs=0.04)
