"""Heads of every kind, with losses and gradients in float64, and all ways to compute the loss."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rnnlm_tui.engine.loss import mean_loss, token_losses
from rnnlm_tui.engine.matmul import set_gpu_precision
from rnnlm_tui.engine.padded_loss import (
    kernel_note,
    padded_mean_loss,
    padded_token_losses,
    softmax_for,
)
from rnnlm_tui.engine.softmax import IGNORED, PLAIN, Softmax
from tests.gpu import DEVICE, NEEDS_GPU, ON_DEVICE

SWITCH = "TRITON_INTERPRET"
INTERPRETED = os.environ.get(SWITCH) == "1"
"""Triton decides it for a kernel when the kernel is defined."""
CPU = torch.device("cpu")
PADDED_WAYS = [
    "padded",
    pytest.param("device", marks=ON_DEVICE),
    pytest.param(
        "triton",
        marks=[
            *([] if INTERPRETED else [*ON_DEVICE, NEEDS_GPU]),
            pytest.mark.skipif(find_spec("triton") is None, reason="Triton isn't installed"),
        ],
    ),
]
"""The padded loss by torch's operations on the CPU and on a GPU, and by the kernel, on a GPU or
interpreted."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to compute the loss of float32 heads."""

    name: str
    device: torch.device
    mean_loss: Callable[..., Tensor]
    token_losses: Callable[..., Tensor]
    softmax: Softmax = PLAIN

    def found(self, head: Head, *, reduced: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradients, on the CPU."""
        parts = [part.to(self.device).requires_grad_() for part in head.parts]
        loss = self.mean_loss(*parts, head.targets.to(self.device), reduced=reduced)
        gradients = torch.autograd.grad(loss, parts)
        return loss.detach().cpu(), [gradient.cpu() for gradient in gradients]


def way_named(name: str) -> Way:
    """`cpu`, or one of `PADDED_WAYS`; skips the test where the kernel doesn't work."""
    if name == "cpu":
        return Way(name, CPU, mean_loss, token_losses)
    device = CPU if name == "padded" or INTERPRETED else DEVICE
    set_gpu_precision(device, rounded=False)
    softmax = PLAIN
    if name == "triton":
        if device.type == "cuda" and softmax_for(device) is PLAIN:
            pytest.skip(kernel_note(device))
        from rnnlm_tui.engine.loss_kernel import KERNEL

        softmax = KERNEL
    means, each = (partial(way, softmax=softmax) for way in (padded_mean_loss, padded_token_losses))
    return Way(name, device, means, each, softmax)


@dataclass(frozen=True, slots=True)
class Head:
    """Inputs of a head, float32."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    targets: Tensor

    @property
    def parts(self) -> list[Tensor]:
        return [self.hidden, self.weight, self.bias]

    def kept(self) -> Head:
        """Only the rows that count."""
        kept = self.targets != IGNORED
        return Head(self.hidden[kept], self.weight, self.bias, self.targets[kept])


def a_head(
    rows: int,
    vocab_size: int,
    width: int = 16,
    *,
    spread: float = 1.0,
    ignored: int = 3,
    seed: int = 0,
) -> Head:
    """A head whose logits have about this standard deviation.

    Args:
        ignored: every so many rows one that doesn't count; 0: none. The last row's target is the
            last real token, if the row counts.
    """
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, generator=generator).tanh()
    weight = torch.randn(vocab_size, width, generator=generator) * spread / (0.4 * width) ** 0.5
    bias = torch.randn(vocab_size, generator=generator) * spread / 4
    targets = torch.randint(vocab_size, (rows,), generator=generator)
    targets[-1:] = vocab_size - 1
    if ignored:
        targets[::ignored] = IGNORED
    return Head(hidden, weight, bias, targets)


def exact(head: Head, device: torch.device = CPU) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients from `F.cross_entropy` in float64, on the CPU."""
    parts = [part.double().to(device).requires_grad_() for part in head.parts]
    loss = F.cross_entropy(F.linear(*parts), head.targets.to(device), ignore_index=IGNORED)
    gradients = torch.autograd.grad(loss, parts)
    return loss.detach().cpu(), [gradient.cpu() for gradient in gradients]


def relative_errors(gradients: list[Tensor], wanted: list[Tensor]) -> list[float]:
    """Norm of each gradient's error over the norm of the gradient."""
    return [
        float((one.double() - other).norm() / other.norm().clamp(min=1e-12))
        for one, other in zip(gradients, wanted, strict=True)
    ]
