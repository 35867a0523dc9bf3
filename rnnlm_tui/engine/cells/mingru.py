"""One minGRU layer: a GRU whose gate and candidate see the input alone (Feng et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from rnnlm_tui.engine.cells.minimal import MinimalLayer


class MinGruLayer(MinimalLayer):
    """minGRU of Feng, Tung, Ahmed, Bengio and Hajimirsadeghi, "Were RNNs All We Needed?" (arXiv 2410.01201), section 3.1.

        z_t = sigmoid(Linear(x_t)),  c_t = Linear(x_t),  h_t = (1 - z_t) h_(t-1) + z_t c_t

    This is the paper's vanilla form, whose candidate is linear and of either sign. Its
    log-space form maps the candidate to positive numbers only so that a logarithm exists; the recurrence here is computed
    in linear space, where products of numbers in [0, 1] are safe.

    The rows of `weight_ih` are those of z, then those of c. The state is h, (B, H).
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, projections=2)

    @torch.no_grad()
    def set_start(self) -> None:
        """A short memory, z around 0.73: on the demo after 300 steps the validation perplexity is 110, and 129 with z around 0.5."""
        self.bias_ih[: self.hidden_size] = 1

    def _gate_and_candidate(self, projected: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        gate, candidate = projected
        return torch.sigmoid(gate), candidate
