"""Parameters and multiply-adds of one recurrent layer, by cell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class LayerSize:
    """The size of one layer."""

    weights: int
    """Parameters used in matmuls: one multiply-add per token each."""
    other_parameters: int
    """Biases and others whose cost is negligible."""
    other_products: int = 0
    """Multiply-adds per token without parameters: updating and reading a matrix memory."""

    @property
    def parameters(self) -> int:
        return self.weights + self.other_parameters


def _elman(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """W with H·E, U with H·H and a bias with H parameters."""
    return LayerSize(hidden * (inputs + hidden), hidden)


def _lstm(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """Four gates (input, forget, candidate, output), each the size of an Elman layer."""
    return LayerSize(4 * hidden * (inputs + hidden), 4 * hidden)


def _gru(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """Three gates (reset, update, candidate) with two biases each, as in torch: the candidate's second bias is
    inside the reset product."""
    return LayerSize(3 * hidden * (inputs + hidden), 6 * hidden)


def _mingru(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """A gate and a candidate from the input alone, with one bias each."""
    return LayerSize(2 * hidden * inputs, 2 * hidden)


def _minlstm(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """Two gates and a candidate from the input alone, with one bias each."""
    return LayerSize(3 * hidden * inputs, 3 * hidden)


def _slstm(inputs: int, hidden: int, heads: int) -> LayerSize:
    """Four gates (candidate, input, forget, output), whose recurrent weights connect units of a head only."""
    return LayerSize(4 * hidden * (inputs + hidden // heads), 4 * hidden)


def _mlstm(inputs: int, hidden: int, heads: int) -> LayerSize:
    """Query, key, value and output gate with H units each, and two gates per head. Each head's memory of
    (H/heads)² numbers is written and read once per token."""
    gates = 4 * hidden + 2 * heads
    return LayerSize(gates * inputs, gates, 2 * hidden * (hidden // heads))


CELL_SIZES: Mapping[str, Callable[[int, int, int], LayerSize]] = MappingProxyType(
    {"elman": _elman, "lstm": _lstm, "gru": _gru, "mingru": _mingru, "minlstm": _minlstm, "slstm": _slstm, "mlstm": _mlstm}
)
"""For each `cell_type`, the layer's size from (E, H, heads)."""
