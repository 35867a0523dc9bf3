"""minGRU and minLSTM: gates depend only on the input, the state is a moving average.

A CPU loops over time, a GPU scans all time steps in parallel.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from rnnlm_tui.engine.cells.base import Inside, LayerState, ProjectedLayer


def gated_average(
    gate_TBH: Tensor, candidate_TBH: Tensor, state_BH: Tensor, *, parallel: bool | None = None
) -> Tensor:
    """hidden_TBH with h_t = (1 - z_t) h_(t-1) + z_t c_t.

    Args:
        gate_TBH: z, between 0 and 1.
        parallel: scan instead of loop; None: on other devices than a CPU.
    """
    parallel = gate_TBH.device.type != "cpu" if parallel is None else parallel
    arguments = gate_TBH, candidate_TBH, state_BH, parallel
    return cast(Tensor, _GatedAverage.apply(*arguments))  # type: ignore[no-untyped-call]


class _GatedAverage(torch.autograd.Function):
    """Hand-written gradient: the hidden states' gradient follows the same recurrence backwards."""

    @staticmethod
    def forward(
        ctx: Any,
        gate_TBH: Tensor,
        candidate_TBH: Tensor,
        state_BH: Tensor,
        parallel: bool,
    ) -> Tensor:
        ctx.parallel = parallel
        decay_TBH = 1 - gate_TBH
        hidden_TBH = _recur(decay_TBH, gate_TBH * candidate_TBH, state_BH, parallel)
        ctx.save_for_backward(gate_TBH, candidate_TBH, state_BH, hidden_TBH, decay_TBH)
        return hidden_TBH

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_TBH: Tensor) -> tuple[Tensor | None, ...]:
        gate_TBH, candidate_TBH, state_BH, hidden_TBH, decay_TBH = cast(
            tuple[Tensor, ...], ctx.saved_tensors
        )
        total_TBH = _recur_backwards(decay_TBH, grad_TBH, ctx.parallel)
        gate_grad_TBH = torch.empty_like(total_TBH)
        torch.sub(candidate_TBH[0], state_BH, out=gate_grad_TBH[0])
        torch.sub(candidate_TBH[1:], hidden_TBH[:-1], out=gate_grad_TBH[1:])
        return (
            gate_grad_TBH.mul_(total_TBH),
            gate_TBH * total_TBH,
            decay_TBH[0] * total_TBH[0],
            None,
        )


def _recur(decay_TBH: Tensor, addend_TBH: Tensor, state_BH: Tensor, parallel: bool) -> Tensor:
    """h_t = a_t h_(t-1) + b_t for all t; `addend_TBH` is overwritten."""
    addend_TBH[0].addcmul_(decay_TBH[0], state_BH)
    if parallel:
        return _scan(decay_TBH, addend_TBH)
    steps = addend_TBH.unbind(0)
    for decay_BH, before_BH, step_BH in zip(
        decay_TBH.unbind(0)[1:], steps, steps[1:], strict=False
    ):
        step_BH.addcmul_(decay_BH, before_BH)
    return addend_TBH


def _recur_backwards(decay_TBH: Tensor, grad_TBH: Tensor, parallel: bool) -> Tensor:
    """g_t = grad_t + a_(t+1) g_(t+1) for all t, from the last to the first."""
    if parallel:
        return _scan(decay_TBH, grad_TBH, backwards=True)
    total_TBH = torch.empty_like(decay_TBH)
    decays, grads, totals = decay_TBH.unbind(0), grad_TBH.unbind(0), total_TBH.unbind(0)
    totals[-1].copy_(grads[-1])
    for t in range(len(totals) - 1, 0, -1):
        torch.addcmul(grads[t - 1], decays[t], totals[t], out=totals[t - 1])
    return total_TBH


def _scan(decay_TBH: Tensor, addend_TBH: Tensor, *, backwards: bool = False) -> Tensor:
    """h_t = a_t h_(t-1) + b_t from h_(-1) = 0 in log2(T) rounds; the first decay is not used.

    After the round of width w, an entry is the recurrence over its last 2w steps (Hillis and Steele
    1986). Products of decays are at most 1, so linear space is safe: only forgotten terms
    underflow.

    Args:
        backwards: h_t = b_t + a_(t+1) h_(t+1) from h_T = 0 instead.
    """
    if backwards:
        later_TBH = torch.cat([decay_TBH[1:], torch.zeros_like(decay_TBH[:1])])
        return _scan(later_TBH.flip(0), addend_TBH.flip(0)).flip(0)
    sums_TBH, width = addend_TBH, 1
    while width < len(sums_TBH):
        reached = torch.addcmul(sums_TBH[width:], decay_TBH[width:], sums_TBH[:-width])
        sums_TBH = torch.cat([sums_TBH[:width], reached])
        decay_TBH = torch.cat([decay_TBH[:width], decay_TBH[width:] * decay_TBH[:-width]])
        width *= 2
    return sums_TBH


class MinimalLayer(ProjectedLayer):
    """h_t = (1 - z_t) h_(t-1) + z_t c_t, with z and c from the cell. The state is h, (B, H)."""

    projections: int
    """Linear maps of the input, each (H, E), from which the cell computes z and c."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.state_shapes = ((hidden_size,),)
        self.weight_ih = nn.Parameter(torch.empty(self.projections * hidden_size, input_size))
        self.bias_ih = nn.Parameter(torch.empty(self.projections * hidden_size))

    def forward(self, inputs_TBE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Run over T time steps: hidden_TBH and the state after the last, (B, H)."""
        (state_BH,) = state
        gate_TBH, candidate_TBH = self._gate_and_candidate(inputs_TBE, state_BH.dtype)
        hidden_TBH = gated_average(gate_TBH, candidate_TBH, state_BH)
        return hidden_TBH, (hidden_TBH[-1],)

    def step(self, input_BE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One time step: hidden_BH, which is the state too."""
        (state_BH,) = state
        gate_BH, candidate_BH = self._gate_and_candidate(input_BE, state_BH.dtype)
        hidden_BH = torch.lerp(state_BH, candidate_BH, gate_BH)
        return hidden_BH, (hidden_BH,)

    def _gate_and_candidate(self, inputs: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return self._gated(*self.project(inputs, dtype).chunk(self.projections, dim=-1))

    @abstractmethod
    def _gated(self, *projected: Tensor) -> tuple[Tensor, Tensor]:
        """z, between 0 and 1, and c from the projections, each (..., H)."""


class MinGruLayer(MinimalLayer):
    """minGRU of Feng, Tung, Ahmed, Bengio and Hajimirsadeghi, "Were RNNs All We Needed?" (arXiv
    2410.01201), section 3.1.

        z_t = sigmoid(Linear(x_t)),  c_t = Linear(x_t),  h_t = (1 - z_t) h_(t-1) + z_t c_t

    This is the paper's vanilla form, whose candidate is linear and may be negative. The paper's
    log-space form needs a positive candidate; the recurrence here is computed in linear space,
    where products of numbers in [0, 1] are safe.

    The rows of `weight_ih` are those of z, then c. The state is h, (B, H).
    """

    projections = 2

    @torch.no_grad()
    def set_start(self) -> None:
        """Start with a short memory, z around 0.73: validation perplexity 110 instead of 129 after
        300 steps of the demo."""
        self.bias_ih[: self.hidden_size] = 1

    def _gated(self, *projected: Tensor) -> tuple[Tensor, Tensor]:
        gate, candidate = projected
        return torch.sigmoid(gate), candidate

    def inside(
        self,
        inputs_TBE: Tensor,
        outputs_TBH: Tensor,  # noqa: ARG002
        state: LayerState,
    ) -> Inside:
        """z_t, the share of the candidate."""
        update, _ = self._gate_and_candidate(inputs_TBE, state[0].dtype)
        return Inside({"update": update}, kept=1 - update)


class MinLstmLayer(MinimalLayer):
    """minLSTM of Feng, Tung, Ahmed, Bengio and Hajimirsadeghi, "Were RNNs All We Needed?" (arXiv
    2410.01201), section 3.2.

        f_t = sigmoid(Linear(x_t)),  i_t = sigmoid(Linear(x_t)),  c_t = Linear(x_t)
        f'_t = f_t / (f_t + i_t),  i'_t = i_t / (f_t + i_t),  h_t = f'_t h_(t-1) + i'_t c_t

    This is the paper's vanilla form with normalised gates, whose candidate is linear and may be
    negative. Since f' = 1 - i', one gate remains: i' = sigmoid(softplus(-f~) - softplus(-i~)) of
    the two pre-activations, as in the paper's appendix on log-space, which never divides zero by
    zero.

    The rows of `weight_ih` are those of i, c and f. The state is h, (B, H).
    """

    projections = 3

    @torch.no_grad()
    def set_start(self) -> None:
        """Start with a short memory, forget gates at -1: validation perplexity 114 instead of 131
        after 300 steps of the demo."""
        self.bias_ih[2 * self.hidden_size :] = -1

    def _gated(self, *projected: Tensor) -> tuple[Tensor, Tensor]:
        enter, candidate, forget = projected
        return torch.sigmoid(F.softplus(-forget) - F.softplus(-enter)), candidate

    def inside(
        self,
        inputs_TBE: Tensor,
        outputs_TBH: Tensor,  # noqa: ARG002
        state: LayerState,
    ) -> Inside:
        """i'_t and f'_t, which add up to 1."""
        enter, _ = self._gate_and_candidate(inputs_TBE, state[0].dtype)
        return Inside({"input": enter, "forget": 1 - enter}, kept=1 - enter)
