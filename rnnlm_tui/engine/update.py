"""One optimizer update: forward, backward, clipping, step, without waiting for a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rnnlm_tui.engine.model import RecurrentLanguageModel, State, detached
from rnnlm_tui.engine.optim import allocate_update, clip_gradients, update_when_finite


@dataclass(frozen=True, slots=True)
class Update:
    """Everything that an update needs except the data."""

    model: RecurrentLanguageModel
    optimizer: torch.optim.Optimizer
    max_grad_norm: float
    """Gradients are scaled down to this L2 norm; 0 clips nothing."""
    reduced: bool
    """Round the inputs of the head's products to bf16."""

    def __call__(self, inputs_BT: Tensor, targets_BT: Tensor, rows_N: Tensor | None, state: State) -> tuple[Tensor, Tensor, State]:
        """Returns loss and gradient norm before clipping, scalars on the device, and the state after the batch."""
        loss, reached = self.model(inputs_BT, state, targets_BT, rows_N, reduced=self.reduced)
        loss.backward()
        norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
        update_when_finite(self.optimizer, norm, loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm, detached(reached)

    def rehearse(self, inputs_BT: Tensor, targets_BT: Tensor) -> None:
        """Do the work and use the memory of an update from a zero state without changing weights or moments.

        It advances the random generators; the caller restores them.
        """
        fresh = not self.optimizer.state
        try:
            if fresh:  # the moments first: from the second step on they are in memory with everything else
                for parameter in self.model.parameters():
                    parameter.grad = torch.zeros_like(parameter)
                allocate_update(self.optimizer)
                self.optimizer.zero_grad(set_to_none=True)
            loss, _ = self.model(inputs_BT, self.model.initial_state(inputs_BT.shape[0]), targets_BT, None, reduced=self.reduced)
            loss.backward()
            clip_gradients(self.model.parameters(), self.max_grad_norm)
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            if fresh:
                self.optimizer.state.clear()
