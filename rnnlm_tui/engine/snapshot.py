"""Snapshot: weights and training state as of one step; training continues beside a copy of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rnnlm_tui.engine.checkpoint import model_config, plain_weights
from rnnlm_tui.engine.memory import spare_bytes
from rnnlm_tui.engine.tensor_file import pieces
from rnnlm_tui.engine.trainer import Trainer, TrainingState


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a checkpoint's files hold. Valid until the next step, or longer if copied."""

    config: Mapping[str, object]
    """The model's `config.json`."""
    weights: Mapping[str, Tensor]
    state: TrainingState

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {**self.weights, **self.state.tensors}

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(one.nbytes for one in self.tensors.values())


def snapshot_of(trainer: Trainer) -> Snapshot:
    """The trainer's own tensors: the next step changes them."""
    state = trainer.state_dict()
    tensors = {name: one.detach().contiguous() for name, one in state.tensors.items()}
    return Snapshot(
        model_config(trainer.model),
        plain_weights(trainer.model),
        TrainingState(tensors, state.values),
    )


def weights_are_finite(snapshot: Snapshot) -> bool:
    """Whether no weight is NaN or inf.

    In NumPy: torch would use as many threads again as training does.
    """
    for weight in snapshot.weights.values():
        for piece in pieces(weight):
            values = np.frombuffer(piece, np.float32)
            # The sum is finite if all are, unless it overflows; it takes a third of the time.
            with np.errstate(over="ignore", invalid="ignore"):
                total = values.sum()
            if not np.isfinite(total) and not np.isfinite(values).all():
                return False
    return True


class SnapshotCopies:
    """Copies snapshots to main memory, one at a time.

    The memory is taken with the first copy and kept for the next: taking it again would cost more
    than the copy, and could fail later.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def copy(self, snapshot: Snapshot) -> Snapshot | None:
        """A copy, which replaces the one before; None if there isn't enough memory for it beside
        training at its peak."""
        tensors = snapshot.tensors
        kept = {
            name: one
            for name, one in self._kept.items()
            if name in tensors and one.shape == tensors[name].shape
        }
        missing = tensors.keys() - kept.keys()
        self._kept = {}  # the memory of other shapes
        if missing and sum(tensors[name].nbytes for name in missing) > spare_bytes():
            return None
        for name, one in tensors.items():
            if name in missing:
                kept[name] = torch.empty_like(one, device="cpu", requires_grad=False)
            kept[name].copy_(one)
        self._kept = kept
        return Snapshot(
            snapshot.config,
            {name: kept[name] for name in snapshot.weights},
            TrainingState(
                {name: kept[name] for name in snapshot.state.tensors}, snapshot.state.values
            ),
        )
