"""AdamW and SGD with fused kernels, and gradient clipping that returns the norm before it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rnnlm_tui.schema.config import OptimizerConfig

FUSED_DEVICES = frozenset({"cpu", "cuda", "mps"})
"""Device types with fused kernels for both optimizers."""

SKIPPING_DEVICES = frozenset({"cpu", "cuda"})
"""Device types whose fused kernels skip an update that `found_inf` marks. Those of Apple GPUs
ignored it before torch 2.13: there the host looks first."""


def build_optimizer(
    parameters: Iterable[nn.Parameter], settings: OptimizerConfig, learning_rate: float
) -> torch.optim.Optimizer:
    """AdamW, or SGD without momentum and so without state, with weight decay on all parameters.

    One kernel a step where the device has one.
    """
    kept, decay = list(parameters), settings.weight_decay
    fused = all(parameter.device.type in FUSED_DEVICES for parameter in kept)
    if settings.algorithm == "sgd":
        return torch.optim.SGD(kept, lr=learning_rate, weight_decay=decay, fused=fused)
    return torch.optim.AdamW(
        kept,
        lr=learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=decay,
        fused=fused,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next update."""
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale the gradients down to an L2 norm of `max_norm` (0: off); returns the norm before,
    without waiting for a GPU."""
    kept = list(parameters)
    gradients = [parameter.grad for parameter in kept if parameter.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if max_norm > 0:
        nn.utils.clip_grads_with_norm_(kept, max_norm, norm)
    return norm


def update_when_finite(optimizer: torch.optim.Optimizer, norm: Tensor, loss: Tensor) -> None:
    """Update the weights, unless norm or loss is NaN or inf: then the update and its count are
    skipped, on a CUDA GPU without waiting for it.

    The norm alone isn't enough: a target of probability zero has an infinite loss and a finite
    gradient.
    """
    # Zero times their sum is 0, or NaN, which becomes 1, in three kernels on a GPU.
    is_bad = torch.add(norm, loss).mul_(0).nan_to_num_(nan=1.0)
    if skips_bad_updates(optimizer):
        # The fused kernels' switch for gradient scaling: nothing has to be read back from a GPU.
        optimizer.found_inf = is_bad.to(torch.float32)  # type: ignore[attr-defined]
        optimizer.step()
    elif not is_bad.item():
        optimizer.step()


def allocate_update(optimizer: torch.optim.Optimizer) -> None:
    """Allocate everything that an update allocates, without changing a weight whose gradient is
    zero."""
    rates = [group["lr"] for group in optimizer.param_groups]
    set_learning_rate(optimizer, 0.0)
    try:
        optimizer.step()
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def skips_bad_updates(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer's kernel obeys `found_inf`; otherwise the host has to look before it
    calls `step`."""
    group = optimizer.param_groups[0]
    if not group["fused"]:
        return False
    device = group["params"][0].device
    return device.type in SKIPPING_DEVICES
