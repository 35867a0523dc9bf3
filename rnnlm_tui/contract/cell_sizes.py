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


CELL_SIZES: Mapping[str, Callable[[int, int, int], LayerSize]] = MappingProxyType({"elman": _elman, "lstm": _lstm, "gru": _gru})
"""`cell_type` to the layer's size by (E, H, heads)."""
