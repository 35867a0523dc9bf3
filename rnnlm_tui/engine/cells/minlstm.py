"""One minLSTM layer: an LSTM whose gates and candidate see the input alone (Feng et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.cells.gated_average import gated_average
from rnnlm_tui.engine.cells.layer import LayerState


class MinLstmLayer(nn.Module):
    """minLSTM of Feng, Tung, Ahmed, Bengio and Hajimirsadeghi, "Were RNNs All We Needed?" (arXiv 2410.01201), section 3.2.

        f_t = sigmoid(Linear(x_t)),  i_t = sigmoid(Linear(x_t)),  c_t = Linear(x_t)
        f'_t = f_t / (f_t + i_t),  i'_t = i_t / (f_t + i_t),  h_t = f'_t h_(t-1) + i'_t c_t

    This is the paper's vanilla form with normalised gates, whose candidate is linear and of
    either sign. Since f' = 1 - i', one gate remains: i' = sigmoid(softplus(-f~) - softplus(-i~)) of the two pre-activations,
    the paper's own rewriting (its appendix on log-space), which never divides zero by zero.

    The rows of `weight_ih` are those of i, of c and of f. The state is h, (B, H).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.bias_ih = nn.Parameter(torch.empty(3 * hidden_size))

    @torch.no_grad()
    def set_start(self) -> None:
        """A short memory, forget gates at -1: on the demo after 300 steps the validation perplexity is 114, and 131 as drawn."""
        self.bias_ih[2 * self.hidden_size :] = -1

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
        projected = F.linear(inputs, self.weight_ih, self.bias_ih).to(dtype)
        enter, candidate, forget = projected.chunk(3, dim=-1)
        return torch.sigmoid(F.softplus(-forget) - F.softplus(-enter)), candidate
