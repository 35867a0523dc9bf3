"""AdamW and SGD on fused kernels, and gradient clipping that reports the norm before it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

FUSED_DEVICES = frozenset({"cpu", "cuda", "mps"})
"""Device types with fused kernels for both optimizers."""


def adamw(
    parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float = 0.01, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8
) -> torch.optim.AdamW:
    """AdamW over all parameters, every one of them decayed; one kernel a step where the device has it."""
    kept = list(parameters)
    on_gpu = all(parameter.is_cuda for parameter in kept)
    optimizer = torch.optim.AdamW(
        kept, lr=_rate(learning_rate, kept), betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=_fused(kept), capturable=on_gpu
    )
    optimizer._warned_capturable_if_run_uncaptured = True  # a step outside of a graph is meant, too
    return optimizer


def sgd(parameters: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float = 0.0) -> torch.optim.SGD:
    """Plain stochastic gradient descent, w - rate x (gradient + decay x w), without momentum and so without any state."""
    kept = list(parameters)
    return torch.optim.SGD(kept, lr=_rate(learning_rate, kept), weight_decay=weight_decay, fused=_fused(kept))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next update."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale the gradients down to an L2 norm of `max_norm` (0: leave them); returns the norm before, a scalar tensor, without waiting for a GPU."""
    kept = list(parameters)
    gradients = [parameter.grad for parameter in kept if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if max_norm > 0:
        nn.utils.clip_grads_with_norm_(kept, max_norm, norm)
    return norm


def update_when_finite(optimizer: torch.optim.Optimizer, norm: Tensor, loss: Tensor) -> None:
    """One update, left out on the device itself when the norm or the loss is NaN or inf; the optimizer's own count then stays too.

    The norm alone doesn't tell: a target of probability zero has an infinite loss and a finite gradient.
    """
    # The fused kernel's switch, the one that gradient scaling uses: no answer has to travel back from a GPU.
    optimizer.found_inf = (~torch.isfinite(norm + loss)).to(torch.float32)  # type: ignore[attr-defined]
    optimizer.step()


def leave_out_update(optimizer: torch.optim.Optimizer) -> None:
    """Everything that an update allocates, without a change to any weight."""
    device = optimizer.param_groups[0]["params"][0].device
    optimizer.found_inf = torch.ones((), device=device)  # type: ignore[attr-defined]
    optimizer.step()


def _rate(learning_rate: float, parameters: list[nn.Parameter]) -> float | Tensor:
    """On a GPU a tensor, whose value a recorded step reads anew."""
    return torch.tensor(learning_rate, device=parameters[0].device) if parameters and parameters[0].is_cuda else learning_rate


def _fused(parameters: Iterable[nn.Parameter]) -> bool:
    return all(parameter.device.type in FUSED_DEVICES for parameter in parameters)
