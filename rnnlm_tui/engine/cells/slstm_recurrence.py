"""sLSTM's recurrence with a hand-written gradient, in single operations of torch.

A time step takes about twelve of them forward and seven back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from rnnlm_tui.engine.cells.base import LayerState


@dataclass(frozen=True, slots=True)
class Passed:
    """What a forward pass leaves for the backward one, N heads of D units each, H = N·D."""

    gates: Tensor
    """o, z, i' and f', (T, N, B, 4, D)."""
    log_forget: Tensor
    """log f, (T, N, B, D)."""
    cells: Tensor
    """c', (T, N, B, D)."""
    normalisers: Tensor
    """n', (T, N, B, D)."""
    hidden_TBH: Tensor


class SlstmRecurrence(torch.autograd.Function):
    """Equations 8 to 17 of the paper for T steps, with the paper's names: z, o, i', f', c, n, m.

    h doesn't depend on the stabilisers m, so its gradient treats them as constants. The state after
    the last step does, c' = c exp(-m): the gradient with respect to the last m propagates back
    along the maxima.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        projected_TBG: Tensor,
        cell_BH: Tensor,
        normaliser_BH: Tensor,
        hidden_BH: Tensor,
        stabiliser_BH: Tensor,
        weight: Tensor,
        heads: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """hidden_TBH and c', n' and m after the last step, (B, H), from (T, B, N·4D) of W x + b and
        R as (N·4D, D)."""
        state = cell_BH, normaliser_BH, hidden_BH, stabiliser_BH
        passed, last = _walk(projected_TBG, state, weight, heads)
        ctx.save_for_backward(
            passed.gates,
            passed.log_forget,
            passed.cells,
            passed.normalisers,
            passed.hidden_TBH,
            *state,
            weight,
        )
        ctx.set_materialize_grads(False)
        cells, normalisers = passed.cells, passed.normalisers
        return passed.hidden_TBH, _whole(cells[-1]), _whole(normalisers[-1]), _whole(last)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *output_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        passed, (*state, weight) = Passed(*saved[:5]), saved[5:]
        projected_grad_TBG, *state_grads = _walk_back(output_grads, passed, tuple(state), weight)
        heads = passed.gates.shape[1]
        weight_grad = torch.bmm(
            _by_head(projected_grad_TBG[0], heads).transpose(1, 2), _by_head(state[2], heads)
        )
        if len(projected_grad_TBG) > 1:
            later, before = (
                _by_head(rows.flatten(0, 1), heads)
                for rows in (projected_grad_TBG[1:], passed.hidden_TBH[:-1])
            )
            weight_grad.baddbmm_(later.transpose(1, 2), before)
        return projected_grad_TBG, *state_grads, weight_grad.view_as(weight), None


def _walk(
    projected_TBG: Tensor, state: LayerState, weight: Tensor, heads: int
) -> tuple[Passed, Tensor]:
    """Walk through the time steps: what is left for the backward pass, and the last m, (N, B, D).

    A step is (N, B, D) and its four pre-activations are adjacent, (N, B, 4D), so that one batched
    product over the heads mixes the memory.
    """
    cell_BH, normaliser_BH, hidden_BH, stabiliser_BH = state
    steps, batch, width = len(projected_TBG), len(cell_BH), cell_BH.shape[1] // heads
    weight_NDG = weight.view(heads, 4 * width, width).transpose(1, 2)
    gates = cell_BH.new_empty(steps, heads, batch, 4, width)
    # The products add to it in place: otherwise each would copy its own step first.
    gates.view(steps, heads, batch, 4 * width).copy_(_by_head(projected_TBG, heads))
    log_forget, cells, normalisers, stabilisers = (
        cell_BH.new_empty(steps, heads, batch, width) for _ in range(4)
    )
    hidden_TBH = cell_BH.new_empty(steps, *cell_BH.shape)
    c, n, m, h = (
        _by_head(part, heads) for part in (cell_BH, normaliser_BH, stabiliser_BH, hidden_BH)
    )
    buffers = (
        gates,
        log_forget,
        cells,
        normalisers,
        stabilisers,
        _by_head(hidden_TBH, heads),
    )
    for gate, log_f, c_t, n_t, m_t, h_t in zip(
        *(buffer.unbind(0) for buffer in buffers), strict=True
    ):
        gate.view(heads, batch, 4 * width).baddbmm_(h, weight_NDG)
        o, z, i, f = gate.unbind(2)
        z.tanh_()
        o.sigmoid_()
        torch.ops.aten.log_sigmoid.out(f, out=log_f)
        torch.add(log_f, m, out=f)
        torch.maximum(i, f, out=m_t)
        gate[:, :, 2:].sub_(m_t.unsqueeze(2)).exp_()
        torch.mul(f, c, out=c_t).addcmul_(i, z)
        torch.addcmul(i, f, n, out=n_t)
        torch.div(c_t, n_t, out=h_t).mul_(o)
        c, n, m, h = c_t, n_t, m_t, h_t
    return Passed(gates, log_forget, cells, normalisers, hidden_TBH), m


def _walk_back(
    output_grads: Sequence[Tensor | None], passed: Passed, state: LayerState, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of W x + b and of the state before the first step, c', n', h and m, from those of
    the outputs and of the state after the last step."""
    gates, log_forget = passed.gates, passed.log_forget
    cells, normalisers, hidden_TBH = passed.cells, passed.normalisers, passed.hidden_TBH
    cell_BH, normaliser_BH, *_ = state
    steps, heads, batch, _, width = gates.shape
    weight_NGD = weight.view(heads, 4 * width, width)
    memory = torch.stack([_by_head(cell_BH, heads), _by_head(normaliser_BH, heads)])
    forgets = gates[:, :, :, 3]
    factors = _factors(gates, log_forget, cells, normalisers, _by_head(hidden_TBH, heads), memory)

    zeros = torch.zeros_like(memory[0])
    # Gradients of h before the first step and after each: those from above, to which the products
    # add in place.
    hidden_grads = gates.new_empty(steps + 1, heads, batch, width)
    if output_grads[0] is None:
        hidden_grads.zero_()
    else:
        hidden_grads[0].zero_()
        hidden_grads[1:].copy_(_by_head(output_grads[0], heads))
    cell_grad, normaliser_grad, stabiliser_grad = (
        zeros if grad is None else _by_head(grad, heads) for grad in output_grads[1:]
    )
    memory_grad = torch.stack([cell_grad, normaliser_grad])
    along_maxima = None
    if any(grad is not None for grad in output_grads[1:]):
        stabiliser_grad = (
            stabiliser_grad - cell_grad * cells[-1] - normaliser_grad * normalisers[-1]
        )
        along_maxima, stabiliser_grad = _along_maxima(stabiliser_grad, forgets, log_forget)

    gates_grad = torch.empty_like(gates)
    hidden_grad = hidden_grads[-1]
    parts = zip(
        *(part.unbind(0) for part in (gates_grad, forgets, *factors, hidden_grads[:-1])),
        strict=True,
    )
    for t, (
        gate_grad,
        f,
        through_output,
        through_memory,
        through_cell,
        through_normaliser,
        grad,
    ) in reversed(list(enumerate(parts))):
        memory_grad.addcmul_(through_memory, hidden_grad)
        torch.mul(through_output, hidden_grad, out=gate_grad[:, :, 0])
        torch.mul(through_cell, memory_grad[0].unsqueeze(2), out=gate_grad[:, :, 1:])
        gate_grad[:, :, 2:].addcmul_(through_normaliser, memory_grad[1].unsqueeze(2))
        if along_maxima is not None:
            gate_grad[:, :, 2:].add_(along_maxima[t])
        memory_grad.mul_(f)
        hidden_grad = grad.baddbmm_(gate_grad.view(heads, batch, 4 * width), weight_NGD)

    stabiliser_grad = stabiliser_grad + (memory_grad * memory).sum(0)
    projected_grad_TBG = gates_grad.transpose(1, 2).reshape(steps, batch, 4 * heads * width)
    states = (*memory_grad.unbind(0), hidden_grad, stabiliser_grad)
    cell_grad, normaliser_grad, hidden_grad, stabiliser_grad = (_whole(grad) for grad in states)
    return projected_grad_TBG, cell_grad, normaliser_grad, hidden_grad, stabiliser_grad


def _by_head(rows: Tensor, heads: int) -> Tensor:
    """(..., B, N·X) as (..., N, B, X), without a copy."""
    return torch.unflatten(rows, -1, (heads, -1)).transpose(-3, -2)


def _whole(parts: Tensor) -> Tensor:
    """(N, B, D) as (B, H)."""
    return parts.transpose(0, 1).flatten(1)


def _factors(
    gates: Tensor,
    log_forget: Tensor,
    cells: Tensor,
    normalisers: Tensor,
    hidden: Tensor,
    start: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The derivatives of one step, m held constant, for all steps at once.

    Returns:
        Factors that turn the gradient of h into that of o~ (T, N, B, D) and those of c and n (T, 2,
        N, B, D); that of c into those of z~, i~ and f~ (T, N, B, 3, D); and that of n into those of
        i~ and f~ (T, N, B, 2, D).
    """
    o, z, i, f = gates.unbind(3)
    through_output = hidden - hidden * o
    through_memory = gates.new_empty(len(gates), 2, *normalisers.shape[1:])
    torch.div(o, normalisers, out=through_memory[:, 0])
    torch.div(hidden, normalisers, out=through_memory[:, 1]).neg_()
    forget_slope = torch.expm1(log_forget).mul_(f).neg_()
    through_cell = torch.empty_like(gates[:, :, :, 1:])
    through_normaliser = torch.empty_like(gates[:, :, :, 2:])
    torch.addcmul(i, i * z, z, value=-1, out=through_cell[:, :, :, 0])
    torch.mul(i, z, out=through_cell[:, :, :, 1])
    through_normaliser[:, :, :, 0] = i
    for factor, before, first in (
        (through_cell[:, :, :, 2], cells, start[0]),
        (through_normaliser[:, :, :, 1], normalisers, start[1]),
    ):
        torch.mul(forget_slope[0], first, out=factor[0])
        torch.mul(forget_slope[1:], before[:-1], out=factor[1:])
    return through_output, through_memory, through_cell, through_normaliser


def _along_maxima(last: Tensor, forgets: Tensor, log_forget: Tensor) -> tuple[Tensor, Tensor]:
    """Contribution of the last stabiliser's gradient to those of i~ and f~ (T, N, B, 2, D) and the
    first stabiliser.

    Where the forget gate won the maximum, f' is exactly 1 and the gradient passes to the stabiliser
    before; otherwise it ends in i~.
    """
    kept = (forgets == 1).to(last.dtype)
    # Products of steps t to the last.
    through = torch.cat([kept.flip(0).cumprod(0).flip(0), torch.ones_like(kept[:1])])
    reached = through[1:] * last
    forget = -torch.expm1(log_forget)
    return torch.stack([reached * (1 - kept), reached * kept * forget], dim=3), through[0] * last
