"""One minGRU layer: a GRU whose gate and candidate see the input alone (Feng et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.cells.gated_average import gated_average
from rnnlm_tui.engine.cells.layer import LayerState


class MinGruLayer(nn.Module):
    """minGRU of Feng, Tung, Ahmed, Bengio and Hajimirsadeghi, "Were RNNs All We Needed?" (arXiv 2410.01201), section 3.1.

        z_t = sigmoid(Linear(x_t)),  c_t = Linear(x_t),  h_t = (1 - z_t) h_(t-1) + z_t c_t

    This is the paper's vanilla form, whose candidate is linear and of either sign. Its
    log-space form maps the candidate to positive numbers only so that a logarithm exists; the recurrence here is computed
    in linear space, where products of numbers in [0, 1] are safe.

    The rows of `weight_ih` are those of z, then those of c. The state is h, (B, H).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(2 * hidden_size, input_size))
        self.bias_ih = nn.Parameter(torch.empty(2 * hidden_size))

    @torch.no_grad()
    def set_start(self) -> None:
        """A short memory, z around 0.73: on the demo after 300 steps the validation perplexity is 110, and 129 with z around 0.5."""
        self.bias_ih[: self.hidden_size] = 1

    def initial_state(self, batch_size: int) -> LayerState:
        """Zeros of shape (B, H), on the layer's device."""
        return (self.weight_ih.new_zeros(batch_size, self.hidden_size),)

    def forward(self, inputs_TBE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Run over T time steps: hidden_TBH and the state after the last, (B, H)."""
        (state_BH,) = state
        gate_TBH, candidate_TBH = self._project(inputs_TBE, state_BH.dtype)
        hidden_TBH = gated_average(gate_TBH, candidate_TBH, state_BH)
        return hidden_TBH, (hidden_TBH[-1],)

    def step(self, input_BE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One time step: hidden_BH, which is the state too."""
        (state_BH,) = state
        gate_BH, candidate_BH = self._project(input_BE, state_BH.dtype)
        hidden_BH = torch.lerp(state_BH, candidate_BH, gate_BH)
        return hidden_BH, (hidden_BH,)

    def _project(self, inputs: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        gate, candidate = F.linear(inputs, self.weight_ih, self.bias_ih).to(dtype).chunk(2, dim=-1)
        return torch.sigmoid(gate), candidate
