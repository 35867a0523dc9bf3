"""One optimizer update: loss, gradients, clipping, new weights."""

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
    carries: bool = True
    """The next batch may continue from the state after this one."""

    def do(
        self, inputs_BT: Tensor, targets_BT: Tensor, rows_N: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Update the weights unless loss or gradient norm isn't finite; returns as `gradients`.

        Call `forget_gradients` afterwards.
        """
        loss, norm, reached = self.gradients(inputs_BT, targets_BT, rows_N, state)
        update_when_finite(self.optimizer, norm, loss)
        return loss, norm, reached

    def gradients(
        self, inputs_BT: Tensor, targets_BT: Tensor, rows_N: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Compute and clip the gradients; no weight changes.

        Returns:
            Loss and gradient norm before clipping, scalars on the device, and the state after the
            batch: empty if it isn't carried.
        """
        loss, reached = self.model(inputs_BT, state, targets_BT, rows_N, reduced=self.reduced)
        loss.backward()
        norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
        return loss.detach(), norm, detached(reached) if self.carries else ()

    def forget_gradients(self) -> None:
        """Set all gradients to None: a partial one must not reach the next step."""
        self.optimizer.zero_grad(set_to_none=True)

    def rehearse(self, inputs_BT: Tensor, targets_BT: Tensor) -> None:
        """Do the work and use the memory of an update without changing weights or moments.

        It starts from a state of zeros as large as states become.

        It advances the random generators; the caller restores them.
        """
        fresh = not self.optimizer.state
        try:
            # The moments first: from the second step on they are in memory with everything else.
            if fresh:
                for parameter in self.model.parameters():
                    parameter.grad = torch.zeros_like(parameter)
                allocate_update(self.optimizer)
                self.forget_gradients()
            rows = len(inputs_BT)
            state = (
                tuple(layer.full_state(rows) for layer in self.model.cells)
                if self.carries
                else self.model.initial_state(rows)
            )
            self.gradients(inputs_BT, targets_BT, None, state)
        finally:
            self.forget_gradients()
            if fresh:
                self.optimizer.state.clear()
