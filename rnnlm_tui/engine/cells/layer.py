"""The interface of recurrent layers: a sequence for training, a step for generation, explicit state."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from rnnlm_tui.errors import InputError

LayerState = tuple[Tensor, ...]
"""The state of one layer: tensors whose first dimension is B."""


class RecurrentLayer(Protocol):
    """One layer of a model, also an `nn.Module`. `engine.initialization` initializes its weights."""

    def initial_state(self, batch_size: int) -> LayerState:
        """The state before the first token, for B streams or sentences, on the layer's device."""
        ...

    def __call__(self, inputs_TBE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Run over T time steps: hidden_TBH and the state after the last."""
        ...

    def step(self, input_BE: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """One time step: hidden_BH and the state after it, equal to a sequence of length one."""
        ...


@runtime_checkable
class WeightDroppingLayer(RecurrentLayer, Protocol):
    """A layer with state-to-state weights that can be dropped (Merity et al. 2017, "weight-dropped LSTM")."""

    weight_dropout: float
    """Share of the state-to-state weights that a forward pass in training drops, the same ones at every
    time step. Zero until `engine.model` sets it; `step` never drops."""


@runtime_checkable
class StartSettingLayer(RecurrentLayer, Protocol):
    """A layer that adjusts its freshly initialized weights."""

    def set_start(self) -> None:
        """Scale or fill some weights in place; called once, only after the `default` initialization."""
        ...


def head_size(hidden_size: int, num_heads: int) -> int:
    """Units of one head.

    Raises:
        InputError: the heads do not divide the hidden size.
    """
    if hidden_size % num_heads:
        raise InputError(f"num_heads = {num_heads:,} must divide the hidden size of {hidden_size:,}")
    return hidden_size // num_heads
