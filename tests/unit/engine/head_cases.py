"""Heads of every kind, with losses and gradients in float64, for all ways to compute the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rnnlm_tui.engine.softmax import IGNORED

MeanLoss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


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


def exact(head: Head, device: str = "cpu") -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients from `F.cross_entropy` in float64, on the CPU."""
    hidden, weight, bias = (part.double().to(device).requires_grad_() for part in head.parts)
    logits = F.linear(hidden, weight, bias)
    loss = F.cross_entropy(logits, head.targets.to(device), ignore_index=IGNORED)
    gradients = torch.autograd.grad(loss, [hidden, weight, bias])
    return loss.detach().cpu(), [gradient.cpu() for gradient in gradients]


def found(head: Head, mean_loss: MeanLoss, device: str = "cpu") -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of a way, on the CPU."""
    hidden, weight, bias = (part.to(device).requires_grad_() for part in head.parts)
    loss = mean_loss(hidden, weight, bias, head.targets.to(device))
    gradients = torch.autograd.grad(loss, [hidden, weight, bias])
    return loss.detach().cpu(), [gradient.cpu() for gradient in gradients]


def relative_errors(gradients: list[Tensor], wanted: list[Tensor]) -> list[float]:
    """Norm of each gradient's error over the norm of the gradient."""
    return [
        float((one.double() - other).norm() / other.norm().clamp(min=1e-12))
        for one, other in zip(gradients, wanted, strict=True)
    ]
