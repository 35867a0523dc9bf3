"""One optimizer update, launched operation by operation or replayed as a CUDA graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rnnlm_tui.engine.batches import Batch
from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.engine.model import RecurrentLanguageModel, State, detached
from rnnlm_tui.engine.optim import allocate_update, clip_gradients, update_when_finite

WARM_UPS = 3
"""Steps before the recording, so that all libraries have chosen kernels and workspaces."""
TRIALS = 20
"""Steps that are timed each way."""
CLEARLY_FASTER = 1.05
"""Speedup from which a graph is worth its memory."""
SAME = 1e-2
"""Largest relative difference of the timed steps' mean losses; more means that the recording is
wrong. Dropout draws other masks for a padded batch, so single steps may differ.
"""


@dataclass(frozen=True, slots=True)
class Update:
    """Everything that an update needs except the data."""

    model: RecurrentLanguageModel
    optimizer: torch.optim.Optimizer
    max_grad_norm: float
    """Gradients are scaled down to this L2 norm; 0 clips nothing."""
    reduced: bool
    """Round the inputs of the head's products to bf16."""

    def __call__(
        self, inputs_BT: Tensor, targets_BT: Tensor, rows_N: Tensor | None, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Returns loss and gradient norm before clipping, scalars on the device, and the state
        after the batch."""
        loss, reached = self.model(inputs_BT, state, targets_BT, rows_N, reduced=self.reduced)
        loss.backward()
        norm = clip_gradients(self.model.parameters(), self.max_grad_norm)
        update_when_finite(self.optimizer, norm, loss.detach())
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach(), norm, detached(reached)

    def rehearse(self, inputs_BT: Tensor, targets_BT: Tensor) -> None:
        """Do the work and use the memory of an update from a zero state without changing weights or
        moments.

        It advances the random generators; the caller restores them.
        """
        fresh = not self.optimizer.state
        try:
            # The moments first: from the second step on they are in memory with everything else.
            if fresh:
                for parameter in self.model.parameters():
                    parameter.grad = torch.zeros_like(parameter)
                allocate_update(self.optimizer)
                self.optimizer.zero_grad(set_to_none=True)
            loss, _ = self.model(
                inputs_BT,
                self.model.initial_state(inputs_BT.shape[0]),
                targets_BT,
                None,
                reduced=self.reduced,
            )
            loss.backward()
            clip_gradients(self.model.parameters(), self.max_grad_norm)
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            if fresh:
                self.optimizer.state.clear()


class GraphedUpdate:
    """An update of one shape, (B, T), with the recurrent state in its own memory.

    Shorter sentences and smaller batches are padded with targets that don't count, so every
    position goes through the head. A window of a stream must have exactly this shape: padding would
    change its state.
    """

    def __init__(self, update: Update, batch_size: int, length: int, *, pads: bool) -> None:
        """Record an update. This takes a few steps on the current weights; the caller restores
        them.

        Args:
            pads: smaller batches may be padded.

        Raises:
            RuntimeError: CUDA can't record one of the operations.
        """
        device = update.model.output.weight.device
        self._inputs_BT = torch.zeros(batch_size, length, dtype=torch.int64, device=device)
        self._targets_BT = torch.zeros(batch_size, length, dtype=torch.int64, device=device)
        self._pads, self._start = pads, update.model.initial_state(batch_size)
        self.state: State = tuple(tuple(part.clone() for part in layer) for layer in self._start)
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(side):  # our own, so that a failed recording leaves it, too
            for _ in range(WARM_UPS):
                self._run(update)
            with torch.cuda.graph(self._graph, stream=side):
                self._loss, self._norm = self._run(update)
        torch.cuda.current_stream(device).wait_stream(side)

    def takes(self, batch: Batch) -> bool:
        """Whether the batch fits."""
        rows, length = batch.inputs_BT.shape
        most_rows, longest = self._inputs_BT.shape
        return (rows, length) == (most_rows, longest) or (
            self._pads and rows <= most_rows and length <= longest
        )

    def __call__(self, batch: Batch, state: State | None) -> tuple[Tensor, Tensor]:
        """Loss and norm of an update; the state after it is in `state`.

        Args:
            state: the state to start from; None: the initial one.
        """
        rows, length = batch.inputs_BT.shape
        if self._inputs_BT.shape != batch.inputs_BT.shape:
            self._inputs_BT.zero_()
            self._targets_BT.fill_(IGNORED)
        self._inputs_BT[:rows, :length].copy_(batch.inputs_BT, non_blocking=True)
        self._targets_BT[:rows, :length].copy_(batch.targets_BT, non_blocking=True)
        for own, given in zip(self.state, self._start if state is None else state, strict=True):
            for tensor, value in zip(own, given, strict=True):
                if value is not tensor:
                    tensor.copy_(value)
        self._graph.replay()
        return self._loss.clone(), self._norm.clone()  # the next replay overwrites them

    def _run(self, update: Update) -> tuple[Tensor, Tensor]:
        loss, norm, reached = update(self._inputs_BT, self._targets_BT, None, self.state)
        for own, after in zip(self.state, reached, strict=True):
            for tensor, value in zip(own, after, strict=True):
                tensor.copy_(value)
        return loss, norm


def faster_graph(
    update: Update, batches: Sequence[Batch], *, length: int, pads: bool
) -> tuple[GraphedUpdate | None, str]:
    """Measure whether a graph is faster than launching the operations; returns it, or None, and a
    note.

    Restores weights, optimizer and random generators. Costs about 40 steps.

    Args:
        batches: a few, on the device, all of B rows.
        length: the longest T that a batch may have.
        pads: shorter batches may be padded.
    """
    device = update.model.output.weight.device
    saved = _SavedState(update, device)
    try:
        plain, losses = _timed(
            lambda batch: update(
                batch.inputs_BT, batch.targets_BT, batch.rows_N, _zeros(update, batch)
            )[0],
            batches,
            device,
        )
        saved.restore(update)
        graph = GraphedUpdate(update, batches[0].inputs_BT.shape[0], length, pads=pads)
        saved.restore(update)
        replayed, same = _timed(lambda batch: graph(batch, None)[0], batches, device)
    except RuntimeError as error:
        _leave_recording(device)
        return None, f"no CUDA graph: {str(error).splitlines()[0]}"
    finally:
        saved.restore(update)
    if not torch.allclose(losses.mean(), same.mean(), rtol=SAME, atol=0):
        return None, "no CUDA graph: its losses differ from those without"
    found = f"CUDA graph: a step was measured {plain / replayed:.2f} times as fast"
    return (graph if plain / replayed > CLEARLY_FASTER else None), found


def _leave_recording(device: torch.device) -> None:
    """Reset the generator after a failed recording: it still counts as recorded and would refuse to
    draw."""
    generator = torch.cuda.default_generators[device.index or 0]
    generator.graphsafe_set_state(generator.clone_state())


def _zeros(update: Update, batch: Batch) -> State:
    return update.model.initial_state(batch.inputs_BT.shape[0])


def _timed(
    step: Callable[[Batch], Tensor], batches: Sequence[Batch], device: torch.device
) -> tuple[float, Tensor]:
    """Seconds that `TRIALS` steps took, and their losses."""
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    losses = [step(batches[index % len(batches)]) for index in range(TRIALS)]
    torch.cuda.synchronize(device)
    return time.perf_counter() - began, torch.stack(losses)


class _SavedState:
    """Weights, optimizer state and generators, restored in place: a recorded graph uses their
    addresses."""

    def __init__(self, update: Update, device: torch.device) -> None:
        self._weights = [parameter.detach().clone() for parameter in update.model.parameters()]
        state = update.optimizer.state
        self._optimizer = {
            parameter: {
                key: value.clone() for key, value in own.items() if isinstance(value, Tensor)
            }
            for parameter, own in state.items()
        }
        self._device = device
        self._random = torch.get_rng_state()
        self._cuda_random = torch.cuda.get_rng_state(device)

    @torch.no_grad()
    def restore(self, update: Update) -> None:
        for parameter, value in zip(update.model.parameters(), self._weights, strict=True):
            parameter.copy_(value)
        for owner, own in update.optimizer.state.items():
            before = self._optimizer.get(owner, {})
            for key, value in own.items():
                if isinstance(value, Tensor):  # the moments and counts of a new optimizer are zeros
                    value.copy_(before[key]) if key in before else value.zero_()
        torch.set_rng_state(self._random)
        torch.cuda.set_rng_state(self._cuda_random, self._device)
