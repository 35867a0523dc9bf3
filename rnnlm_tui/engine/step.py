"""One optimizer update: loss, gradients, clipping, new weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rnnlm_tui.engine.batches import Batch
from rnnlm_tui.engine.distributed import Ranks
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
    ranks: Ranks | None = None
    """The processes that share each batch; None: this one is alone."""
    module: nn.Module | None = None
    """The model as `Ranks.spread` returned it."""

    def do(self, parts: Sequence[Batch], tokens: int, state: State) -> tuple[Tensor, Tensor, State]:
        """Update the weights unless loss or gradient norm isn't finite; returns as `gradients`.

        Call `forget_gradients` afterwards.
        """
        loss, norm, reached = self.gradients(parts, tokens, state)
        update_when_finite(self.optimizer, norm, loss)
        return loss, norm, reached

    def gradients(
        self, parts: Sequence[Batch], tokens: int, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Compute and clip the gradients; no weight changes.

        Args:
            parts: this process's share of a batch, on the device, one after the other.
            tokens: targets of the whole batch that count, of all processes.
            state: of the rows of all parts; empty: zeros.

        Returns:
            Loss of the whole batch and gradient norm before clipping, scalars on the device, and
            the state after this process's parts: empty if it isn't carried.
        """
        if self.ranks is None and len(parts) == 1:
            loss, reached = self._forward(self.model, parts[0], state)
            torch.autograd.backward(loss)
            loss = loss.detach()
        else:
            loss, reached = self._in_parts(parts, tokens, state)
        norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
        return loss, norm, detached(reached) if self.carries else ()

    def forget_gradients(self) -> None:
        """Set all gradients to None: a partial one must not reach the next step."""
        self.optimizer.zero_grad(set_to_none=True)

    def rehearse(self, batch: Batch) -> None:
        """Do the work and use the memory of an update on a batch that is on the device, without
        changing weights or moments, and without other processes.

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
            rows = len(batch.inputs_BT)
            state = (
                tuple(layer.full_state(rows) for layer in self.model.cells) if self.carries else ()
            )
            loss, _ = self._forward(self.model, batch, state)
            torch.autograd.backward(loss)
            clip_gradients(self.model.parameters(), self.max_grad_norm)
        finally:
            self.forget_gradients()
            if fresh:
                self.optimizer.state.clear()

    def _forward(self, module: nn.Module, batch: Batch, state: State) -> tuple[Tensor, State]:
        """The mean loss of a batch, and the state after it."""
        before = state or self.model.initial_state(len(batch.inputs_BT))
        loss, reached = module(
            batch.inputs_BT, before, batch.targets_BT, batch.rows_N, reduced=self.reduced
        )
        return loss, reached

    def _in_parts(self, parts: Sequence[Batch], tokens: int, state: State) -> tuple[Tensor, State]:
        """Loss of the whole batch and the state after the parts; adds up the gradients of all parts
        and processes, each part's weighted with its tokens."""
        ranks, module = self.ranks, self.module or self.model
        losses, states, first = list[Tensor](), list[State](), 0
        for part in parts[:-1]:
            with nullcontext() if ranks is None else ranks.only_own(module):
                rows = slice(first, first := first + len(part.inputs_BT))
                loss, reached = self._forward(module, part, _rows_of(state, rows))
                loss = loss * (part.tokens / tokens)
                torch.autograd.backward(loss)
            losses.append(loss.detach())
            states.append(reached)
        loss, reached = self._forward(module, parts[-1], _rows_of(state, slice(first, None)))
        loss = loss * (parts[-1].tokens / tokens)
        total = torch.stack([*losses, loss.detach()]).sum()
        arrives = None if ranks is None else ranks.begin_total(total)
        torch.autograd.backward(loss)
        if ranks is not None and arrives is not None:
            arrives.wait()
            ranks.tokens += sum(part.tokens for part in parts)
            ranks.add_up(self.model.parameters())
        if not self.carries:  # a transformer's states have a width that differs between parts
            return total, ()
        layers = zip(*states, reached, strict=True)
        return total, tuple(tuple(map(torch.cat, zip(*layer, strict=True))) for layer in layers)


def _rows_of(state: State, rows: slice) -> State:
    return tuple(tuple(tensor[rows] for tensor in layer) for layer in state)
