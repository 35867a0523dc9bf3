"""mLSTM layer: a matrix memory with exponential gating, in parallel form (Beck et al. 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.cells.base import (
    Inside,
    LayerState,
    ProjectedLayer,
    head_size,
    stabilised_input,
)
from rnnlm_tui.schema.estimates import LONGEST_WHOLE_WINDOW, WINDOW_CHUNK

LARGEST_STABILISER = math.log(1e6)
"""Keeps the lower bound exp(-m) of the divisor at 1e-6 or above, like the added 1e-6 in the
authors' code. Training stays far below this limit; near it neither the quotient nor its gradient
leaves float32.
"""
SMALLEST_STABILISER = -80.0
"""Keeps exp(-m) within float32; so empty a memory reads as zero either way."""


class MlstmLayer(ProjectedLayer):
    """mLSTM of Beck et al., "xLSTM: Extended Long Short-Term Memory" (arXiv 2405.04517), equations
    19 to 27.

        C_t = f_t C_(t-1) + i_t v_t k_t^T,  n_t = f_t n_(t-1) + i_t k_t
        (19), (20)
        h_t = o_t C_t q_t / max(|n_t^T q_t|, 1)                                                 (21)
        q_t, k_t / sqrt(d), v_t = Linear(x_t)                                                   (22)
        to (24)
        i_t = exp(i~_t),  f_t = sigmoid(f~_t),  o_t = sigmoid(o~_t), each of Linear(x_t)
        (25) to (27)

    for each head of d = H/heads units. This is the paper's cell without its block's convolution,
    normalisation and projections. The factor 1/sqrt(d) is applied to q here, which gives the same
    h. Of the paper's two forget gates this is the sigmoid, as in the authors' code. The
    exponentials are stabilised as in sLSTM, m_t = max(log f_t + m_(t-1), i~_t) (15): the state
    holds C exp(-m) and n exp(-m), and the 1 in (21) becomes exp(-m).

    No gate depends on the state, so `forward` needs no loop: it is the parallel form of the paper's
    appendix (from equation 72 on), with the carried memory as one more term. `step` is the
    recurrent form.

    The rows of `weight_ih` are those of q, k, v and o, H each, then those of i and f, one per head.
    The state is C (B, heads, d, d), n (B, heads, d) and m (B, heads). Zeros are the empty memory:
    with C = n = 0 every m gives the same h.
    """

    def __init__(self, input_size: int, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.num_heads = num_heads
        self.head_size = width = head_size(hidden_size, num_heads)
        self.state_shapes = (num_heads, width, width), (num_heads, width), (num_heads,)
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size + 2 * num_heads, input_size))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size + 2 * num_heads))

    @torch.no_grad()
    def set_start(self) -> None:
        """Start with queries that match every key, so that h is a gated mean of the values, and
        larger values.

        Without it q and k are small with random signs: the memory reads as noise of 0.003. On the
        demo after 300 steps the validation perplexity is 108 with this start and 194 without. The
        memory starts short, with forget gates at -1. With 0 the perplexity is 119; with 3 to 6, as
        in the authors' code, h is a mean over so many steps that it is 481 (without larger values).
        """
        queries_keys = 2 * self.hidden_size
        self.bias_ih[:queries_keys] = 1
        self.weight_ih[queries_keys : queries_keys + self.hidden_size].mul_(2)
        self.bias_ih[-self.num_heads :] = -1

    def forward(self, inputs_TBE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Run over T time steps: hidden_TBH and the state after the last."""
        read_write, output_TBH, gates = self._parts(inputs_TBE, state[0].dtype)
        rows = read_write.permute(
            2, 1, 3, 0, 4
        ).contiguous()  # (3, B, N, T, D): one copy here saves one per product
        query, key, value = rows[0] / math.sqrt(self.head_size), rows[1], rows[2]
        enter, forget = gates.permute(2, 1, 3, 0)  # (B, N, T)
        length = WINDOW_CHUNK if len(inputs_TBE) >= LONGEST_WHOLE_WINDOW else len(inputs_TBE)
        read: list[Tensor] = []
        for q, k, v, i, f in zip(
            *(torch.split(part, length, dim=2) for part in (query, key, value, enter, forget)),
            strict=True,
        ):
            retrieved, state = _parallel(q, k, v, i, f, state)
            read.append(retrieved.permute(2, 0, 1, 3).flatten(2))
        return (torch.cat(read) if len(read) > 1 else read[0]) * output_TBH, state

    def step(self, input_BE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One time step in the recurrent form: hidden_BH and the state after it."""
        memory, normaliser, stabiliser = state
        read_write, output_BH, gates = self._parts(input_BE, memory.dtype)
        query, key, value = read_write.unbind(-3)
        query, (enter, forget) = query / math.sqrt(self.head_size), gates.unbind(-2)
        log_forget = F.logsigmoid(forget)
        reached = torch.maximum(log_forget + stabiliser, enter)
        keep = torch.exp(log_forget + stabiliser - reached).unsqueeze(-1)
        write = torch.exp(enter - reached).unsqueeze(-1)
        memory = torch.addcmul(
            keep.unsqueeze(-1) * memory, (write * value).unsqueeze(-1), key.unsqueeze(-2)
        )
        normaliser = keep * normaliser + write * key
        numerator = (memory @ query.unsqueeze(-1)).squeeze(-1)
        divisor = torch.maximum((normaliser * query).sum(-1).abs(), _lower_bound(reached))
        return (numerator / divisor.unsqueeze(-1)).flatten(1) * output_BH, (
            memory,
            normaliser,
            reached,
        )

    def inside(
        self,
        inputs_TBE: Tensor,
        outputs_TBH: Tensor,  # noqa: ARG002
        state: LayerState,
    ) -> Inside:
        """exp(i~_t - m_t), f_t and o_t; the first two for each head.

        The stabilised input gate is 1 where the token outweighs everything that the memory still
        holds.
        """
        memory, normaliser, stabiliser = state
        _, output, gates = self._parts(inputs_TBE, memory.dtype)
        enter, forget = gates.unbind(-2)
        stabiliser = stabiliser.masked_fill((normaliser == 0).all(-1), -torch.inf)
        return Inside(
            {
                "input": stabilised_input(enter, forget, stabiliser),
                "forget": torch.sigmoid(forget),
                "output": output,
            },
            kept=torch.sigmoid(forget),
            exponential=("input",),
        )

    def _parts(self, inputs: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """q before its factor, k and v (..., 3, N, D), the output gate (..., H), i~ and f~ (..., 2,
        N)."""
        read_write, output, gates = torch.split(
            self.project(inputs, dtype),
            [3 * self.hidden_size, self.hidden_size, 2 * self.num_heads],
            dim=-1,
        )
        return (
            torch.unflatten(read_write, -1, (3, self.num_heads, -1)),
            torch.sigmoid(output),
            torch.unflatten(gates, -1, (2, -1)),
        )


def _lower_bound(stabiliser: Tensor) -> Tensor:
    return torch.exp(-stabiliser.clamp(SMALLEST_STABILISER, LARGEST_STABILISER))


def _parallel(
    query: Tensor, key: Tensor, value: Tensor, enter: Tensor, forget: Tensor, state: LayerState
) -> tuple[Tensor, LayerState]:
    """The parallel form over S steps, from a state.

    With F_t the sum of log f up to t, the value written at step s has the weight exp(F_t - F_s +
    i~_s) at t, and the carried memory exp(F_t + m), both relative to exp(m_t). m_t - F_t is the
    running maximum of m and of i~_s - F_s, so no S×S maximum is needed. h doesn't depend on it, so
    it needs no gradient.

    F_t grows with the window, to thousands if forget gates are far below zero. In float32 the
    exponents would then have only three decimals, so F, the terms that contain it and their
    differences are computed in double precision.

    Args:
        query, key, value: (B, N, S, D).
        enter, forget: pre-activations of the gates, (B, N, S).

    Returns:
        C q / max(|n q|, 1), (B, N, S, D), and the state after the last step.
    """
    memory, normaliser, stabiliser = state
    # Apple GPUs have no float64.
    wide = torch.float32 if forget.device.type == "mps" else torch.float64
    decay = F.logsigmoid(forget).to(wide).cumsum(-1)
    written, before = enter.to(wide) - decay, stabiliser.to(wide)
    with torch.no_grad():
        peak = torch.maximum(written.cummax(-1).values, before.unsqueeze(-1))
    steps = written.shape[-1]
    later = torch.ones(steps, steps, dtype=torch.bool, device=written.device).triu_(1)
    weights = _differences(written, peak, enter.dtype).masked_fill_(later, -torch.inf).exp_()
    scores = (query @ key.transpose(-1, -2)) * weights
    carried = torch.exp(before.unsqueeze(-1) - peak).to(enter.dtype).unsqueeze(-1)
    numerator = scores @ value + carried * (query @ memory.transpose(-1, -2))
    divisor = scores.sum(-1) + (carried * (query @ normaliser.unsqueeze(-1))).squeeze(-1)
    retrieved = numerator / torch.maximum(
        divisor.abs(), _lower_bound(decay + peak).to(enter.dtype)
    ).unsqueeze(-1)

    last_peak = torch.maximum(written.amax(-1), before)
    kept = torch.exp(before - last_peak).to(enter.dtype).unsqueeze(-1)
    weighted = torch.exp(written - last_peak.unsqueeze(-1)).to(enter.dtype).unsqueeze(-1) * key
    memory = kept.unsqueeze(-1) * memory + value.transpose(-1, -2) @ weighted
    return retrieved, (
        memory,
        kept * normaliser + weighted.sum(-2),
        (decay[..., -1] + last_peak).to(stabiliser.dtype),
    )


def _differences(written: Tensor, peak: Tensor, dtype: torch.dtype) -> Tensor:
    """written_s - peak_t for all t and s, (B, N, S, S), exact where it is near zero, without a
    matrix in double precision.

    Each number is split into its rounded value and a remainder. The difference of two close rounded
    values is exact, and the remainders restore what rounding lost. Gradients pass only through
    rounded values.
    """
    rounded, rounded_peak = written.to(dtype), peak.to(dtype)
    with torch.no_grad():
        rests = (written - rounded).to(dtype).unsqueeze(-2) - (peak - rounded_peak).to(
            dtype
        ).unsqueeze(-1)
    return (rounded.unsqueeze(-2) - rounded_peak.unsqueeze(-1)).add_(rests)
