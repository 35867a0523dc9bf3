"""sLSTM layer: an LSTM with exponential input gate, normaliser and heads (Beck et al. 2024)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from rnnlm_tui.engine.cells.base import (
    LayerState,
    drop,
    head_size,
    outputs_before,
    pack_large,
    project,
    stabilised_input,
)
from rnnlm_tui.engine.packed import PackedWeight

EMPTY = -1e9
"""The stabiliser of an empty memory: so low that the first input gate sets the scale, which keeps
the normaliser at 1 or above from then on.
"""


class SlstmRecurrence(torch.autograd.Function):
    """Equations 8 to 17 of the paper for T steps, with the paper's names: z, o, i', f', c, n, m.

    Shapes inside: N heads of D units, H = N·D. A step is (N, B, D) and its four pre-activations are
    adjacent, (N, B, 4D), so that one batched product over the heads mixes the memory.

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
        ctx.save_for_backward(
            gates,
            log_forget,
            cells,
            normalisers,
            hidden_TBH,
            cell_BH,
            normaliser_BH,
            hidden_BH,
            weight,
        )
        ctx.set_materialize_grads(False)
        return hidden_TBH, _whole(c), _whole(n), _whole(m)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *output_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        (
            gates,
            log_forget,
            cells,
            normalisers,
            hidden_TBH,
            cell_BH,
            normaliser_BH,
            hidden_BH,
            weight,
        ) = saved
        steps, heads, batch, _, width = gates.shape
        weight_NGD = weight.view(heads, 4 * width, width)
        memory = torch.stack([_by_head(cell_BH, heads), _by_head(normaliser_BH, heads)])
        forgets = gates[:, :, :, 3]
        factors = _factors(
            gates, log_forget, cells, normalisers, _by_head(hidden_TBH, heads), memory
        )

        zeros = torch.zeros_like(memory[0])
        # Gradients of h before the first step and after each: those from above, to which the
        # products add in place.
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
        weight_grad = torch.bmm(
            _by_head(projected_grad_TBG[0], heads).transpose(1, 2), _by_head(hidden_BH, heads)
        )
        if steps > 1:
            later, before = (
                _by_head(rows.flatten(0, 1), heads)
                for rows in (projected_grad_TBG[1:], hidden_TBH[:-1])
            )
            weight_grad.baddbmm_(later.transpose(1, 2), before)
        states = (*memory_grad.unbind(0), hidden_grad, stabiliser_grad)
        return (
            projected_grad_TBG,
            *(_whole(grad) for grad in states),
            weight_grad.view_as(weight),
            None,
        )


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


class SlstmLayer(nn.Module):
    """sLSTM of Beck et al., "xLSTM: Extended Long Short-Term Memory" (arXiv 2405.04517), equations
    8 to 17.

        z_t = tanh(z~_t),  i_t = exp(i~_t),  f_t = sigmoid(f~_t),  o_t = sigmoid(o~_t)          (11)
        to (14)
        c_t = f_t c_(t-1) + i_t z_t,  n_t = f_t n_(t-1) + i_t,  h_t = o_t c_t / n_t              (8)
        to (10)

    where each pre-activation is W x_t + R h_(t-1) + b. Of the two forget gates in equation 13 this
    is the sigmoid, as in the authors' code: it keeps the normaliser below the sum of the input
    gates. The exponentials are stabilised: with m_t = max(log f_t + m_(t-1), i~_t) (15) the state
    holds c exp(-m) and n exp(-m), and the gates become i' = exp(i~_t - m_t) (16) and f' = exp(log
    f_t + m_(t-1) - m_t) (17). h doesn't depend on m.

    This is the paper's cell without its block's convolution, normalisation and projections. R mixes
    the memory within each head: it is block-diagonal, H/heads wide.

    The rows of `weight_ih` and `weight_hh` are, head by head, those of o, z, i and f. The state is
    (c, n, h, m), each (B, H). Where n is zero the memory is empty and m is ignored, so zeros are
    the state before the first token.
    """

    weight_dropout = 0.0
    _packed: PackedWeight | None = None

    def __init__(self, input_size: int, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.num_heads = num_heads
        self.head_size = head_size(hidden_size, num_heads)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, self.head_size))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size))

    @torch.no_grad()
    def set_start(self) -> None:
        """Start with gates that react to inputs and a short memory: doubled weights, forget gates
        at -2.

        On the demo after 300 steps the validation perplexity is 123 with this start and 158
        without. Longer memories learn more slowly, since the normaliser makes h their mean: with
        forget gates at 1 the perplexity is 194, from 3 to 6 as in the authors' code, 363.
        """
        self.weight_ih.mul_(2)
        self.bias_ih.view(self.num_heads, 4, -1)[:, 3] = -2

    def initial_state(self, batch_size: int) -> LayerState:
        """Four zero tensors of shape (B, H), on the layer's device."""
        return tuple(self.weight_ih.new_zeros(batch_size, self.hidden_size) for _ in range(4))

    def forward(self, inputs_TBE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Run over T time steps: hidden_TBH and the state after the last."""
        weight = (
            drop(self.weight_hh, self.weight_dropout)
            if self.training and self.weight_dropout
            else self.weight_hh
        )
        return self._run(F.linear(inputs_TBE, self.weight_ih, self.bias_ih), state, weight)

    def step(self, input_BE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One time step: hidden_BH and the state after it."""
        projected_BG = project(input_BE, self.weight_ih, self.bias_ih, self._packed)
        hidden_1BH, after = self._run(projected_BG.unsqueeze(0), state, self.weight_hh)
        return hidden_1BH[0], after

    def pack(self) -> None:
        """Copy the weights for faster steps of several rows."""
        self._packed = pack_large(self.weight_ih)

    def gates(
        self, inputs_TBE: Tensor, outputs_TBH: Tensor, state: LayerState
    ) -> dict[str, Tensor]:
        """i'_t, f_t and o_t.

        The stabilised input gate is 1 where the token outweighs everything that the memory still
        holds.
        """
        cell_BH, normaliser_BH, hidden_BH, stabiliser_BH = state
        projected_TBG = F.linear(inputs_TBE, self.weight_ih, self.bias_ih).to(cell_BH.dtype)
        before_TBND = torch.unflatten(
            outputs_before(outputs_TBH, hidden_BH), -1, (self.num_heads, -1)
        )
        weight_NGD = torch.unflatten(self.weight_hh, 0, (self.num_heads, -1))
        sums_TBNG = torch.unflatten(projected_TBG, -1, (self.num_heads, -1)) + torch.einsum(
            "tbnd,ngd->tbng", before_TBND, weight_NGD
        )
        output, _, enter, forget = (part.flatten(2) for part in sums_TBNG.chunk(4, dim=-1))
        stabiliser_BH = stabiliser_BH.masked_fill(normaliser_BH == 0, EMPTY)
        return {
            "input": stabilised_input(enter, forget, stabiliser_BH),
            "forget": torch.sigmoid(forget),
            "output": torch.sigmoid(output),
        }

    def _run(
        self, projected_TBG: Tensor, state: LayerState, weight: Tensor
    ) -> tuple[Tensor, LayerState]:
        cell_BH, normaliser_BH, hidden_BH, stabiliser_BH = state
        projected_TBG = projected_TBG.to(cell_BH.dtype)
        stabiliser_BH = stabiliser_BH.masked_fill(normaliser_BH == 0, EMPTY)
        hidden_TBH, *after = cast(
            tuple[Tensor, ...],
            SlstmRecurrence.apply(
                projected_TBG,
                cell_BH,
                normaliser_BH,
                hidden_BH,
                stabiliser_BH,
                weight,
                self.num_heads,
            ),  # type: ignore[no-untyped-call]
        )
        cell_BH, normaliser_BH, stabiliser_BH = after
        return hidden_TBH, (cell_BH, normaliser_BH, hidden_TBH[-1], stabiliser_BH)
