"""The size of one recurrent layer by cell: its parameters and its work a token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class LayerSize:
    """One layer, from its width of input E, its hidden size H and its number of heads."""

    weights: int
    """Parameters in matrix products; each costs one multiply-add a token."""
    other_parameters: int
    """Biases and the like, whose work is too small to count."""
    other_products: int = 0
    """Multiply-adds a token that no parameter takes part in: a matrix memory's update and reading."""

    @property
    def parameters(self) -> int:
        return self.weights + self.other_parameters


def _elman(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """W of H·E, U of H·H and one bias of H."""
    return LayerSize(hidden * (inputs + hidden), hidden)


def _lstm(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """Four gates (input, forget, candidate, output), each an Elman layer's size."""
    return LayerSize(4 * hidden * (inputs + hidden), 4 * hidden)


def _gru(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """Three gates (reset, update, candidate) with two biases each: the candidate's second stands inside the reset."""
    return LayerSize(3 * hidden * (inputs + hidden), 6 * hidden)


def _mingru(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """A gate and a candidate, which see the input alone, with one bias each."""
    return LayerSize(2 * hidden * inputs, 2 * hidden)


def _minlstm(inputs: int, hidden: int, _heads: int) -> LayerSize:
    """Two gates and a candidate, which see the input alone, with one bias each."""
    return LayerSize(3 * hidden * inputs, 3 * hidden)


def _slstm(inputs: int, hidden: int, heads: int) -> LayerSize:
    """Four gates (candidate, input, forget, output); their state-to-state weights stay within a head, H/heads wide."""
    return LayerSize(4 * hidden * (inputs + hidden // heads), 4 * hidden)


def _mlstm(inputs: int, hidden: int, heads: int) -> LayerSize:
    """Query, key, value and output gate of H each, two gates a head; each head's memory, (H/heads)², is written to and read once."""
    gates = 4 * hidden + 2 * heads
    return LayerSize(gates * inputs, gates, 2 * hidden * (hidden // heads))


CELL_SIZES: Mapping[str, Callable[[int, int, int], LayerSize]] = MappingProxyType(
    {"elman": _elman, "lstm": _lstm, "gru": _gru, "mingru": _mingru, "minlstm": _minlstm, "slstm": _slstm, "mlstm": _mlstm}
)
"""`cell_type` to the layer's size by (E, H, heads)."""
