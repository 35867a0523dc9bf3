"""Snapshot: weights and training state as of one step; training continues beside a copy of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rnnlm_tui.engine.checkpoint import model_config, plain_weights
from rnnlm_tui.engine.device import is_out_of_memory, release_cache
from rnnlm_tui.engine.memory import spare_bytes
from rnnlm_tui.engine.tensor_file import HostBytes
from rnnlm_tui.engine.trainer import Trainer, TrainingState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a checkpoint's files hold. Valid until the next step, or longer if copied."""

    config: Mapping[str, object]
    """The model's `config.json`."""
    weights: Mapping[str, Tensor]
    state: TrainingState
    ready: torch.cuda.Event | None = None
    """On a GPU, the moment from which the tensors may be read."""

    def bytes_in_memory(self) -> HostBytes:
        """Reads the tensors."""
        return HostBytes(self.ready)

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        tensors = [*self.weights.values(), *self.state.tensors.values()]
        return sum(one.numel() * one.element_size() for one in tensors)


def snapshot_of(trainer: Trainer) -> Snapshot:
    """The trainer's own tensors: the next step changes them."""
    state, weights = trainer.state_dict(), plain_weights(trainer.model)
    tensors = {name: one.detach().contiguous() for name, one in state.tensors.items()}
    return Snapshot(
        model_config(trainer.model),
        weights,
        TrainingState(tensors, state.values),
        _now(trainer.device),
    )


def weights_are_finite(snapshot: Snapshot) -> bool:
    """Whether no weight is NaN or inf.

    In NumPy: torch would use as many threads again as training does.
    """
    host = snapshot.bytes_in_memory()
    for weight in snapshot.weights.values():
        for piece in host.pieces(weight):
            values = np.frombuffer(piece, np.float32)
            # The sum is finite if all are, unless it overflows; it takes a third of the time.
            with np.errstate(over="ignore", invalid="ignore"):
                total = values.sum()
            if not np.isfinite(total) and not np.isfinite(values).all():
                return False
    return True


class SnapshotCopies:
    """Copies snapshots, one at a time, on the device that trains; those of an Apple GPU in main
    memory.

    The memory is taken with the first copy and kept for the next: taking it again would cost more
    than the copy, and could fail later.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Tensor] = {}

    def copy(self, snapshot: Snapshot, device: torch.device) -> Snapshot | None:
        """A copy, which replaces the one before; None if there isn't enough memory for it beside
        training at its peak."""
        device = _home(device)
        tensors = {("weights", name): one for name, one in snapshot.weights.items()}
        tensors |= {("state", name): one for name, one in snapshot.state.tensors.items()}
        if not self._make_room(tensors, device):
            self._kept = {}
            return None
        for key, one in tensors.items():
            self._kept[key].copy_(one)
        weights = {name: self._kept["weights", name] for name in snapshot.weights}
        state = {name: self._kept["state", name] for name in snapshot.state.tensors}
        values = TrainingState(state, snapshot.state.values)
        return Snapshot(snapshot.config, weights, values, _now(device))

    def free(self) -> bool:
        """Give the memory back once the newest copy isn't used; returns whether there was any."""
        had, self._kept = bool(self._kept), {}
        return had

    def _make_room(self, tensors: Mapping[tuple[str, str], Tensor], device: torch.device) -> bool:
        """Keep what has the shapes of these tensors, and take memory for the others."""
        self._kept = {
            key: kept
            for key, kept in self._kept.items()
            if key in tensors and _layout(kept) == _layout(tensors[key])
        }
        missing = {key: one for key, one in tensors.items() if key not in self._kept}
        size = sum(one.numel() * one.element_size() for one in missing.values())
        if missing and size > spare_bytes(device):
            return False
        if missing:
            release_cache(device)  # or the copy would split blocks that a step needs whole
        try:
            for key, one in missing.items():
                self._kept[key] = torch.empty_like(
                    one, device=_home(one.device), requires_grad=False
                )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True


def _layout(tensor: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return tensor.shape, tensor.dtype, _home(tensor.device)


def _home(device: torch.device) -> torch.device:
    """Where the copy of a tensor is kept. The writer's thread must not use an Apple GPU beside
    training: Metal may crash (pytorch/pytorch#197805)."""
    return torch.device("cpu") if device.type == "mps" else device


def _now(device: torch.device) -> torch.cuda.Event | None:
    """The moment at which a GPU will have done all that was asked of it so far."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(device))
    return event
