"""One optimizer update on a batch: forward, backward, clipping, step; nothing in it waits for a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rnnlm_tui.engine.model import RecurrentLanguageModel, State, detached
from rnnlm_tui.engine.optim import clip_gradients, update_when_finite


@dataclass(frozen=True, slots=True)
class Update:
    """Everything that an update needs but the data."""

    model: RecurrentLanguageModel
    optimizer: torch.optim.Optimizer
    max_grad_norm: float
    """Gradients are scaled down to this L2 norm; 0 clips nothing."""
    reduced: bool
    """The head's products take inputs rounded to bf16."""

    def __call__(self, inputs_BT: Tensor, targets_BT: Tensor, rows_N: Tensor | None, state: State) -> tuple[Tensor, Tensor, State]:
        """The loss and the gradient's norm before clipping, scalars on the device, and the state after the batch, without its history."""
        loss, reached = self.model(inputs_BT, state, targets_BT, rows_N, reduced=self.reduced)
        loss.backward()
        norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
        update_when_finite(self.optimizer, norm)
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm, detached(reached)
