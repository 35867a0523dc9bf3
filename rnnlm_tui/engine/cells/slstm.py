"""sLSTM layer: an LSTM with exponential input gate, normaliser and heads (Beck et al. 2024)."""

from __future__ import annotations

import functools
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F

from rnnlm_tui.engine.cells.base import (
    Inside,
    LayerState,
    drop,
    head_size,
    outputs_before,
    pack_large,
    project,
    stabilised_input,
)
from rnnlm_tui.engine.cells.slstm_recurrence import (
    SINGLE_OPERATIONS,
    Passed,
    SlstmKernel,
    by_head,
    walk,
    walk_back,
    whole,
)
from rnnlm_tui.engine.kernel_trial import LARGEST_STEP, cell_kernel
from rnnlm_tui.engine.packed import PackedWeight

WIDEST_HEAD = 64
"""Units of a head up to which the Triton kernels keep a head's weights in a multiprocessor."""
EMPTY = -1e9
"""The stabiliser of an empty memory: so low that the first input gate sets the scale, which keeps
the normaliser at 1 or above from then on.
"""


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
        kernel: SlstmKernel | None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """hidden_TBH and c', n' and m after the last step, (B, H), from (T, B, N·4D) of W x + b and
        R as (N·4D, D)."""
        state = cell_BH, normaliser_BH, hidden_BH, stabiliser_BH
        forward = walk if kernel is None else kernel.forward
        passed, last = forward(projected_TBG, state, weight, heads)
        ctx.save_for_backward(
            passed.gates,
            passed.log_forget,
            passed.cells,
            passed.normalisers,
            passed.hidden_TBH,
            *state,
            weight,
        )
        ctx.kernel = kernel  # type: ignore[attr-defined]
        ctx.set_materialize_grads(False)
        cells, normalisers = passed.cells, passed.normalisers
        return passed.hidden_TBH, whole(cells[-1]), whole(normalisers[-1]), whole(last)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *output_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = cast(tuple[Tensor, ...], ctx.saved_tensors)  # type: ignore[attr-defined]
        passed, (*state, weight) = Passed(*saved[:5]), saved[5:]
        kernel = cast(SlstmKernel | None, ctx.kernel)  # type: ignore[attr-defined]
        from_hidden, *from_state = output_grads
        stabiliser_grad: Tensor | None = None
        if kernel is not None and from_hidden is not None and from_state == [None] * 3:
            projected_grad_TBG, *state_grads = kernel.backward(
                from_hidden, passed, tuple(state), weight
            )
        else:
            projected_grad_TBG, *state_grads, stabiliser_grad = walk_back(
                output_grads, passed, tuple(state), weight
            )
        needed = cast(tuple[bool, ...], ctx.needs_input_grad)  # type: ignore[attr-defined]
        if stabiliser_grad is None and needed[4]:
            stabiliser_grad = state_grads[0] * state[0] + state_grads[1] * state[1]
        heads = passed.gates.shape[1]
        weight_grad = torch.bmm(
            by_head(projected_grad_TBG[0], heads).transpose(1, 2), by_head(state[2], heads)
        )
        if len(projected_grad_TBG) > 1:
            later, before = (
                by_head(rows.flatten(0, 1), heads)
                for rows in (projected_grad_TBG[1:], passed.hidden_TBH[:-1])
            )
            weight_grad.baddbmm_(later.transpose(1, 2), before)
        return (
            projected_grad_TBG,
            *state_grads,
            stabiliser_grad,
            weight_grad.view_as(weight),
            None,
            None,
        )


def kernel_for(cell_BH: Tensor, head_width: int) -> SlstmKernel | None:
    """The Triton kernels, two launches for all time steps, if they work on the device of a state
    for heads of this width; else None."""
    if cell_BH.device.type != "cuda" or cell_BH.numel() >= LARGEST_STEP:
        return None
    return _tried(cell_BH.device, cell_BH.dtype, head_width, torch.get_float32_matmul_precision())


@functools.cache
def _tried(
    device: torch.device, dtype: torch.dtype, head_width: int, _precision: str
) -> SlstmKernel | None:
    if dtype != torch.float32 or head_width > WIDEST_HEAD:
        return None
    return cell_kernel(
        device,
        "sLSTM",
        _load,
        functools.partial(agrees, device=device, head_width=head_width),
    )


def _load() -> SlstmKernel:
    from rnnlm_tui.engine.cells import slstm_kernel

    return SlstmKernel(slstm_kernel.forward, slstm_kernel.backward)


@torch.no_grad()
def agrees(kernel: SlstmKernel, device: torch.device, head_width: int) -> bool:
    """Whether a kernel computes what single operations do, for two heads, more rows than a program
    takes, and more steps than a kernel loads early."""
    generator = torch.Generator().manual_seed(1)
    steps, batch, heads = 5, 17, 2
    width = heads * head_width

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    projected, weight = drawn(steps, batch, 4 * width), drawn(4 * width, head_width) / 8
    cell, hidden, stabiliser = (drawn(batch, width) for _ in range(3))
    state = cell, drawn(batch, width).abs() + 1, hidden, stabiliser
    from_hidden = drawn(steps, batch, width)
    found = []
    for way in (SINGLE_OPERATIONS, kernel):
        passed, last = way.forward(projected, state, weight, heads)
        gradients = way.backward(from_hidden, passed, state, weight)
        found.append((passed.hidden_TBH, passed.cells, passed.normalisers, last, *gradients))
    return all(
        torch.allclose(one, other, rtol=2e-2, atol=2e-2)  # TF32 may round, as in `F.linear`
        for one, other in zip(*found, strict=True)
    )


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

    def inside(self, inputs_TBE: Tensor, outputs_TBH: Tensor, state: LayerState) -> Inside:
        """i'_t, f_t and o_t, and the candidate z_t.

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
        output, candidate, enter, forget = (part.flatten(2) for part in sums_TBNG.chunk(4, dim=-1))
        stabiliser_BH = stabiliser_BH.masked_fill(normaliser_BH == 0, EMPTY)
        return Inside(
            {
                "input": stabilised_input(enter, forget, stabiliser_BH),
                "forget": torch.sigmoid(forget),
                "output": torch.sigmoid(output),
            },
            torch.tanh(candidate),
        )

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
                kernel_for(cell_BH, self.head_size),
            ),  # type: ignore[no-untyped-call]
        )
        cell_BH, normaliser_BH, stabiliser_BH = after
        return hidden_TBH, (cell_BH, normaliser_BH, hidden_TBH[-1], stabiliser_BH)
