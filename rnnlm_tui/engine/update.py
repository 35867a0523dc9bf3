"""One optimizer update on a batch: forward, backward, clipping, step; nothing in it waits for a GPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rnnlm_tui.engine.model import RecurrentLanguageModel, State, detached
from rnnlm_tui.engine.optim import clip_gradients, leave_out_update, update_when_finite


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
        update_when_finite(self.optimizer, norm, loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm, detached(reached)

    def rehearse(self, inputs_BT: Tensor, targets_BT: Tensor) -> None:
        """The work and the memory of an update from a zero state, its moments included; no weight and no moment is changed.

        Random generators move on: they are the caller's to put back.
        """
        fresh = not self.optimizer.state
        try:
            if fresh:  # the moments first: from the second step on they stand beside everything else
                for parameter in self.model.parameters():
                    parameter.grad = torch.zeros_like(parameter)
                leave_out_update(self.optimizer)
                self.optimizer.zero_grad(set_to_none=True)
            loss, _ = self.model(inputs_BT, self.model.initial_state(inputs_BT.shape[0]), targets_BT, None, reduced=self.reduced)
            loss.backward()
            clip_gradients(self.model.parameters(), self.max_grad_norm)
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            if fresh:
                self.optimizer.state.clear()
