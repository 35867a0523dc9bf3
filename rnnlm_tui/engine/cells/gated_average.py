"""h_t = (1 - z_t) h_(t-1) + z_t c_t: a loop over time for CPUs, a parallel scan for GPUs."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def gated_average(gate_TBH: Tensor, candidate_TBH: Tensor, state_BH: Tensor, *, parallel: bool | None = None) -> Tensor:
    """hidden_TBH with h_t = (1 - z_t) h_(t-1) + z_t c_t.

    Args:
        gate_TBH: z, between 0 and 1.
        parallel: scan instead of loop; None: by device.
    """
    if parallel is None:
        parallel = gate_TBH.device.type != "cpu"
    return cast(Tensor, _GatedAverage.apply(gate_TBH, candidate_TBH, state_BH, parallel))  # type: ignore[no-untyped-call]


class _GatedAverage(torch.autograd.Function):
    """Hand-written gradient: the hidden states' gradient follows the same recurrence backwards."""

    @staticmethod
    def forward(ctx: FunctionCtx, gate_TBH: Tensor, candidate_TBH: Tensor, state_BH: Tensor, parallel: bool) -> Tensor:
        decay_TBH = 1 - gate_TBH
        hidden_TBH = _recur(decay_TBH, gate_TBH * candidate_TBH, state_BH, parallel)
        ctx.save_for_backward(gate_TBH, candidate_TBH, state_BH, decay_TBH, hidden_TBH)
        ctx.parallel = parallel  # type: ignore[attr-defined]
        return hidden_TBH

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad_TBH: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        gate_TBH, candidate_TBH, state_BH, decay_TBH, hidden_TBH = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        total_TBH = _recur_backwards(decay_TBH, grad_TBH, ctx.parallel)  # type: ignore[attr-defined]
        gate_grad_TBH = torch.empty_like(total_TBH)
        torch.sub(candidate_TBH[0], state_BH, out=gate_grad_TBH[0])
        torch.sub(candidate_TBH[1:], hidden_TBH[:-1], out=gate_grad_TBH[1:])
        return gate_grad_TBH.mul_(total_TBH), gate_TBH * total_TBH, decay_TBH[0] * total_TBH[0], None


def _recur(decay_TBH: Tensor, addend_TBH: Tensor, state_BH: Tensor, parallel: bool) -> Tensor:
    """h_t = a_t h_(t-1) + b_t for all t; `addend_TBH` is overwritten."""
    addend_TBH[0].addcmul_(decay_TBH[0], state_BH)
    if parallel:
        return _scan(decay_TBH, addend_TBH)
    steps = addend_TBH.unbind(0)
    for decay_BH, before_BH, step_BH in zip(decay_TBH.unbind(0)[1:], steps, steps[1:], strict=False):
        step_BH.addcmul_(decay_BH, before_BH)
    return addend_TBH


def _recur_backwards(decay_TBH: Tensor, grad_TBH: Tensor, parallel: bool) -> Tensor:
    """g_t = grad_t + a_(t+1) g_(t+1) for all t, from the last to the first."""
    if parallel:
        return _scan(torch.cat([decay_TBH[:1], decay_TBH[1:].flip(0)]), grad_TBH.flip(0)).flip(0)
    total_TBH = torch.empty_like(decay_TBH)
    decays, grads, totals = decay_TBH.unbind(0), grad_TBH.unbind(0), total_TBH.unbind(0)
    totals[-1].copy_(grads[-1])
    for t in range(len(totals) - 1, 0, -1):
        torch.addcmul(grads[t - 1], decays[t], totals[t], out=totals[t - 1])
    return total_TBH


def _scan(decay_TBH: Tensor, addend_TBH: Tensor) -> Tensor:
    """h_t = a_t h_(t-1) + b_t from h_(-1) = 0 in log2(T) rounds; the first decay is not used.

    After the round of width w, an entry is the recurrence over its last 2w steps (Hillis and Steele
    1986). Products of decays are at most 1, so linear space is safe: only forgotten terms underflow.
    """
    width = 1
    while width < len(addend_TBH):
        addend_TBH = torch.cat([addend_TBH[:width], torch.addcmul(addend_TBH[width:], decay_TBH[width:], addend_TBH[:-width])])
        if 2 * width < len(addend_TBH):
            decay_TBH = torch.cat([decay_TBH[:width], decay_TBH[width:] * decay_TBH[:-width]])
        width *= 2
    return addend_TBH
