"""Losses and gradients of rows of logits, in single operations of torch that wait for no device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100
"""Target of a position that the loss ignores."""


@dataclass(frozen=True, slots=True)
class Softmax:
    """One way to turn logits into losses and gradients."""

    gradient: Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
    """From logits_RW, targets_R, the count of the targets that count in all chunks (a scalar on
    the device) and V: the gradient of the mean loss, which may overwrite the logits, zero in
    ignored rows and padded columns; and losses_R, at least float32, zero where ignored."""
    losses: Callable[[Tensor, Tensor, int], Tensor]
    """The losses_R alone."""


def plain_gradient(
    logits_RW: Tensor, targets_R: Tensor, count: Tensor, _vocab_size: int
) -> tuple[Tensor, Tensor]:
    """`Softmax.gradient` in single operations of torch; needs -inf in the padded columns."""
    ignored_R = targets_R == IGNORED
    target_R1 = targets_R.clamp(min=0).unsqueeze(1)
    p_RW, losses_R = without_waiting(logits_RW, target_R1)
    p_RW.scatter_(1, target_R1, torch.expm1(-losses_R).to(p_RW.dtype).unsqueeze(1))  # p - 1
    share_R = (1 / count.to(losses_R.dtype)).expand_as(losses_R).masked_fill(ignored_R, 0.0)
    # `where` with a number copies it to the device, which waits.
    return p_RW.mul_(share_R.unsqueeze(1)), losses_R.masked_fill(ignored_R, 0.0)


def plain_losses(logits_RW: Tensor, targets_R: Tensor, _vocab_size: int) -> Tensor:
    """`Softmax.losses` in single operations of torch; needs -inf in the padded columns."""
    target_R1 = targets_R.clamp(min=0).unsqueeze(1)
    losses_R = logits_RW.logsumexp(1) - logits_RW.gather(1, target_R1).squeeze(1)
    return losses_R.masked_fill(targets_R == IGNORED, 0.0)


def without_waiting(logits_RV: Tensor, target_R1: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of rows and the loss of each target, at least in float32.

    The normaliser's log is the largest logit minus the log of the largest probability, which is at
    least 1/V, so nothing underflows.
    """
    wide = torch.promote_types(logits_RV.dtype, torch.float32)
    largest_R = logits_RV.amax(1).to(wide)
    of_target_R = logits_RV.gather(1, target_R1).squeeze(1).to(wide)
    p_RV = torch.softmax(logits_RV, 1)
    return p_RV, largest_R - p_RV.amax(1).to(wide).log() - of_target_R


PLAIN = Softmax(plain_gradient, plain_losses)
"""Single operations of torch, for any device."""
