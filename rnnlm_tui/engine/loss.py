"""Cross-entropy of a vocabulary head that ignores padding and never holds all logits at once."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

IGNORED = -100
"""The target of a position that doesn't count."""

CHUNK_LOGITS = 8_000_000
"""Logits that are held at once: a chunk of rows this large keeps the matrix products busy (measured)."""


def mean_loss(hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, targets_N: Tensor) -> Tensor:
    """Mean cross-entropy in nats over the targets that are not `IGNORED`; differentiable, a scalar tensor.

    The gradient is made together with the loss, chunk of rows by chunk of rows, so that memory holds `CHUNK_LOGITS`
    numbers instead of N x V, twice. NaN where no target counts.
    """
    return cast(Tensor, _LinearCrossEntropy.apply(hidden_NH, weight_VH, bias_V, targets_N))  # type: ignore[no-untyped-call]


@torch.no_grad()
def token_losses(hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, targets_N: Tensor) -> Tensor:
    """Cross-entropy of each target in nats, shape (N,), zero where it is `IGNORED`; without gradient."""
    counted_N1, safe_N1 = (targets_N != IGNORED).unsqueeze(1), targets_N.clamp(min=0).unsqueeze(1)
    losses_N1 = hidden_NH.new_empty(hidden_NH.shape[0], 1)
    rows = rows_per_chunk(weight_VH.shape[0])
    for start in range(0, hidden_NH.shape[0], rows):
        chunk = slice(start, start + rows)
        losses_N1[chunk] = _probabilities(torch.addmm(bias_V, hidden_NH[chunk], weight_VH.t()), safe_N1[chunk])[1]
    return torch.where(counted_N1, losses_N1, 0.0).squeeze(1)


def rows_per_chunk(vocab_size: int) -> int:
    """Rows of logits that are held at once for this vocabulary."""
    return max(64, CHUNK_LOGITS // vocab_size)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, targets_N: Tensor) -> Tensor:
        counted_N1 = (targets_N != IGNORED).unsqueeze(1)
        share_N1 = counted_N1.to(hidden_NH.dtype) / counted_N1.sum()
        safe_N1 = targets_N.clamp(min=0).unsqueeze(1)
        hidden_grad_NH, weight_grad_VH, bias_grad_V1 = torch.empty_like(hidden_NH), torch.empty_like(weight_VH), bias_V.new_empty(bias_V.shape[0], 1)
        loss = hidden_NH.new_zeros(())
        rows = rows_per_chunk(weight_VH.shape[0])
        for start in range(0, hidden_NH.shape[0], rows):
            chunk = slice(start, start + rows)
            share_R1, target_R1 = share_N1[chunk], safe_N1[chunk]
            p_RV, losses_R1 = _probabilities(torch.addmm(bias_V, hidden_NH[chunk], weight_VH.t()), target_R1)
            loss += torch.dot(losses_R1.squeeze(1), share_R1.squeeze(1))
            # The gradient p - onehot, in the memory of p.
            p_RV.scatter_add_(1, target_R1, p_RV.new_full((1, 1), -1.0).expand_as(target_R1))
            torch.mul(p_RV @ weight_VH, share_R1, out=hidden_grad_NH[chunk])
            # beta 0: the first chunk overwrites, whatever the memory held.
            beta = 0 if start == 0 else 1
            weight_grad_VH.addmm_(p_RV.t(), hidden_NH[chunk] * share_R1, beta=beta)
            bias_grad_V1.addmm_(p_RV.t(), share_R1, beta=beta)
        ctx.save_for_backward(hidden_grad_NH, weight_grad_VH, bias_grad_V1.squeeze(1))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        hidden_grad_NH, weight_grad_VH, bias_grad_V = cast(tuple[Tensor, Tensor, Tensor], ctx.saved_tensors)  # type: ignore[attr-defined]
        return hidden_grad_NH * grad, weight_grad_VH * grad, bias_grad_V * grad, None


def _probabilities(logits_RV: Tensor, target_R1: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax, in the memory of the logits on a CPU, and the loss of each target.

    One exponential pass instead of log-softmax's two: the log of the normaliser is the largest logit minus the log of
    the largest probability, and that is at least 1/V, so nothing underflows.
    """
    largest_R1, of_target_R1 = logits_RV.amax(1, keepdim=True), logits_RV.gather(1, target_R1)
    p_RV = torch.softmax(logits_RV, 1, out=logits_RV) if logits_RV.device.type == "cpu" else torch.softmax(logits_RV, 1)
    return p_RV, largest_R1 - p_RV.amax(1, keepdim=True).log() - of_target_R1
