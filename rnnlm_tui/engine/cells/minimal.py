"""Base of minGRU and minLSTM: gate and candidate depend only on the input; the state is a moving average."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rnnlm_tui.engine.cells.gated_average import gated_average
from rnnlm_tui.engine.cells.layer import LayerState


class MinimalLayer(nn.Module):
    """h_t = (1 - z_t) h_(t-1) + z_t c_t, with z and c from the cell. The state is h, (B, H)."""

    def __init__(self, input_size: int, hidden_size: int, projections: int) -> None:
        """
        Args:
            projections: linear maps of the input, each (H, E), from which the cell computes z and c.
        """
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(projections * hidden_size, input_size))
        self.bias_ih = nn.Parameter(torch.empty(projections * hidden_size))

    def initial_state(self, batch_size: int) -> LayerState:
        """Zeros of shape (B, H), on the layer's device."""
        return (self.weight_ih.new_zeros(batch_size, self.hidden_size),)

    def forward(self, inputs_TBE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Run over T time steps: hidden_TBH and the state after the last, (B, H)."""
        (state_BH,) = state
        gate_TBH, candidate_TBH = self._gate_and_candidate(self._project(inputs_TBE, state_BH.dtype))
        hidden_TBH = gated_average(gate_TBH, candidate_TBH, state_BH)
        return hidden_TBH, (hidden_TBH[-1],)

    def step(self, input_BE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One time step: hidden_BH, which is the state too."""
        (state_BH,) = state
        gate_BH, candidate_BH = self._gate_and_candidate(self._project(input_BE, state_BH.dtype))
        hidden_BH = torch.lerp(state_BH, candidate_BH, gate_BH)
        return hidden_BH, (hidden_BH,)

    @abstractmethod
    def _gate_and_candidate(self, projected: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """z, between 0 and 1, and c from the projections, each (..., H)."""

    def _project(self, inputs: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        return torch.split(F.linear(inputs, self.weight_ih, self.bias_ih).to(dtype), self.hidden_size, dim=-1)
