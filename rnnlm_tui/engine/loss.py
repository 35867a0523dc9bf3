"""Cross-entropy of the vocabulary head, in chunks so that not all logits are in memory at once.

The way of CPUs is here, that of GPUs in `padded_loss`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from rnnlm_tui.engine.padded_loss import padded_mean_loss, padded_token_losses, softmax_for
from rnnlm_tui.engine.softmax import IGNORED as IGNORED
from rnnlm_tui.schema.memory import CHUNK_BYTES, chunk_rows

LIKELY = 1e-30
"""Above this, a float32 probability is exact enough for its logarithm."""


def mean_loss(
    hidden_NH: Tensor,
    weight_VH: Tensor,
    bias_V: Tensor,
    targets_N: Tensor,
    *,
    reduced: bool = False,
) -> Tensor:
    """Mean cross-entropy in nats over non-ignored targets: a differentiable scalar, NaN if all are
    ignored.

    The gradient is computed together with the loss, in chunks of rows, so that memory holds
    `CHUNK_BYTES` of logits instead of twice N x V numbers.

    Args:
        reduced: round the inputs of matrix products, and the logits, to bf16. Sums, the targets'
            part of the gradient and all results stay float32. The error grows with the logits: over
            256 targets up to 6e-4 nats at a standard deviation of 0.6, 2e-3 at 6 and 2e-2 at 50
            (measured on a CPU against float64).
    """
    if hidden_NH.device.type != "cpu":
        softmax = softmax_for(hidden_NH.device)
        return padded_mean_loss(
            hidden_NH, weight_VH, bias_V, targets_N, reduced=reduced, softmax=softmax
        )
    # torch's own, `F.linear_cross_entropy`, takes 1.4 times as long (measured).
    arguments = hidden_NH, weight_VH, bias_V, targets_N, reduced
    return cast(Tensor, _LinearCrossEntropy.apply(*arguments))  # type: ignore[no-untyped-call]


@torch.no_grad()
def token_losses(hidden_NH: Tensor, weight_VH: Tensor, bias_V: Tensor, targets_N: Tensor) -> Tensor:
    """Cross-entropy of each target in nats, shape (N,), zero where ignored; without gradient."""
    if hidden_NH.device.type != "cpu":
        softmax = softmax_for(hidden_NH.device)
        return padded_token_losses(hidden_NH, weight_VH, bias_V, targets_N, softmax)
    safe_N1 = targets_N.clamp(min=0).unsqueeze(1)
    losses_N = hidden_NH.new_empty(hidden_NH.shape[0])
    rows = rows_per_chunk(weight_VH.shape[0])
    for start in range(0, hidden_NH.shape[0], rows):
        chunk = slice(start, start + rows)
        losses_N[chunk] = _probabilities(hidden_NH[chunk], weight_VH, bias_V, safe_N1[chunk])[1]
    return torch.where(targets_N != IGNORED, losses_N, 0.0)


def rows_per_chunk(vocab_size: int, *, reduced: bool = False) -> int:
    """Rows of logits in memory at once on a CPU, in float32 or, if `reduced`, bf16."""
    return chunk_rows(vocab_size, CHUNK_BYTES, 2 if reduced else 4)


class _LinearCrossEntropy(torch.autograd.Function):
    """With p = softmax(logits): d loss / d logits = (p - onehot(target)) times the row's share of
    the mean.

    The p part goes through matrix products in chunks; the target part is exact and costs only N x
    H.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        hidden_NH: Tensor,
        weight_VH: Tensor,
        bias_V: Tensor,
        targets_N: Tensor,
        reduced: bool,
    ) -> Tensor:
        counted_N = targets_N != IGNORED
        share_N1 = (counted_N / counted_N.sum()).to(bias_V.dtype).unsqueeze(1)
        safe_N = targets_N.clamp(min=0)
        dtype = torch.bfloat16 if reduced else weight_VH.dtype
        inputs_NH = hidden_NH.to(dtype)
        rounded_VH = weight_VH.to(dtype)
        rounded_V = bias_V.to(dtype)
        # bf16 gains nothing from the copy (measured)
        transposed_HV = rounded_VH.t() if reduced else rounded_VH.t().contiguous()
        # The bias is the weight of an extra hidden unit that is always 1, so one product gives both
        # gradients.
        shared_NI = torch.cat([hidden_NH * share_N1, share_N1], 1).to(dtype)
        hidden_grad_NH = torch.empty_like(hidden_NH)
        losses_N = torch.empty_like(share_N1).squeeze(1)
        grad_VI = weight_VH.new_empty(0)
        rows = rows_per_chunk(weight_VH.shape[0], reduced=reduced)
        for start in range(0, hidden_NH.shape[0], rows):
            chunk = slice(start, start + rows)
            p_RV, losses_N[chunk] = _probabilities(
                inputs_NH[chunk], rounded_VH, rounded_V, safe_N[chunk].unsqueeze(1)
            )
            hidden_grad_NH[chunk] = product(p_RV, transposed_HV)
            part_VI = product_over_rows(p_RV, shared_NI[chunk])
            grad_VI = part_VI.to(weight_VH.dtype) if start == 0 else grad_VI.add_(part_VI)
            del p_RV, part_VI  # or they would overlap with the next chunk's in memory
        hidden_grad_NH.sub_(weight_VH.index_select(0, safe_N)).mul_(share_N1)
        weight_grad_VH, bias_grad_V = grad_VI[:, :-1].contiguous(), grad_VI[:, -1].clone()
        weight_grad_VH.index_add_(0, safe_N, hidden_NH * share_N1, alpha=-1)
        bias_grad_V.index_add_(0, safe_N, share_N1.squeeze(1), alpha=-1)
        ctx.save_for_backward(hidden_grad_NH, weight_grad_VH, bias_grad_V)
        return torch.dot(torch.where(counted_N, losses_N, 0.0), share_N1.squeeze(1))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        hidden_grad_NH, weight_grad_VH, bias_grad_V = cast(
            tuple[Tensor, Tensor, Tensor],
            ctx.saved_tensors,  # type: ignore[attr-defined]
        )
        # Nearly always true; saves a pass over V x H numbers.
        if grad.item() == 1:
            return hidden_grad_NH, weight_grad_VH, bias_grad_V, None, None
        return hidden_grad_NH * grad, weight_grad_VH * grad, bias_grad_V * grad, None, None


def _probabilities(
    hidden_RH: Tensor, weight_VH: Tensor, bias_V: Tensor, target_R1: Tensor
) -> tuple[Tensor, Tensor]:
    """Softmax of the rows' logits, p_RV, and the loss of each target, (R,), at least in float32."""
    logits_RV = product(hidden_RH, weight_VH, bias_V)
    wide = torch.promote_types(logits_RV.dtype, torch.float32)
    p_RV = torch.softmax(logits_RV, 1, out=logits_RV)
    of_target_R = p_RV.gather(1, target_R1).squeeze(1).to(wide)
    if bool((of_target_R > LIKELY).all()):  # the loss then costs only R logarithms
        return p_RV, of_target_R.log().neg_()
    logits_RV = product(hidden_RH, weight_VH, bias_V)
    return p_RV, F.cross_entropy(logits_RV.to(wide), target_R1.squeeze(1), reduction="none")


def product(inputs_NK: Tensor, weight_MK: Tensor, bias_M: Tensor | None = None) -> Tensor:
    """inputs weight^T + bias, shape (N, M), all of one dtype; not differentiable.

    On a CPU with oneDNN, if available: for the head's shapes its float32 products took two thirds
    of the time of the BLAS behind `F.linear` on an AMD CPU, and with bf16 it adds the bias before
    rounding (both measured).
    """
    if inputs_NK.device.type == "cpu" and has_onednn(inputs_NK.dtype):
        return cast(
            Tensor, torch.ops.mkldnn._linear_pointwise(inputs_NK, weight_MK, bias_M, "none", [], "")
        )
    return F.linear(inputs_NK, weight_MK, bias_M)


def product_over_rows(left_NM: Tensor, right_NI: Tensor) -> Tensor:
    """left^T right, shape (M, I), for few rows N and a large M, of one dtype; not differentiable.

    In float32 the transposed product is computed: oneDNN needs three quarters of the time
    (measured).
    """
    if left_NM.device.type == "cpu" and left_NM.dtype == torch.float32 and has_onednn():
        return product(right_NI.t().contiguous(), left_NM.t()).t()
    return left_NM.t() @ right_NI


def has_onednn(dtype: torch.dtype = torch.float32) -> bool:
    """Whether this build of torch has oneDNN, it is turned on, and it multiplies this type on this
    CPU: bf16 needs AVX-512."""
    built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return (
        built
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and (
            dtype == torch.float32
            or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
        )
    )
