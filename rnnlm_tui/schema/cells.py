"""The cells: one entry each with its name, its size and what it needs.

`engine.cells` has their layers, `engine.modeling_rnnlm` their formulas for exports.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

CellType = Literal["elman", "lstm", "gru", "mingru", "minlstm", "slstm", "mlstm", "transformer"]


class LayerSize(NamedTuple):
    """The size of one layer."""

    weights: int
    """Parameters used in matmuls: one multiply-add per token each."""
    other_parameters: int
    """Biases and others whose cost is negligible."""
    other_products: int = 0
    """Multiply-adds per token without parameters: updating and reading a matrix memory."""
    window_products: int = 0
    """Multiply-adds per token and token of the window that it is compared with."""

    @property
    def parameters(self) -> int:
        return self.weights + self.other_parameters


class Cell(NamedTuple):
    """What the project knows of a cell without its layer."""

    name: str
    summary: str
    """One line, for choosing a cell."""
    size: Callable[[int, int, int], LayerSize]
    """A layer's size from input width E, hidden size H and heads."""
    kept_per_unit: float
    """Numbers that a layer keeps for the backward pass, for each position of a step and hidden unit
    (measured on a CPU with 9,000 positions and 256 units, without dropout)."""
    kept_per_pair: float = 0.0
    """Further ones per head and earlier position, for matrices of T x T."""
    kept_per_key: float = 0.0
    """Further ones per hidden unit and token that a carried state holds (measured with 35 to 255 of
    them beside 3,360 positions)."""
    has_heads: bool = False
    has_recurrent_weights: bool = True
    """It has state-to-state weights, which weight dropout can drop."""
    attends: bool = False
    """A transformer's block: it attends to the tokens of a window, its output is as wide as its
    input, and the model's output layer has no bias."""


def _mlstm_size(inputs: int, hidden: int, heads: int) -> LayerSize:
    """Query, key, value and output gate with H units each, and two gates per head.

    Each head's memory of (H/heads)² numbers is written and read once per token. In training, a
    window's queries are multiplied with all its keys, and the result with all its values.
    """
    gates = 4 * hidden + 2 * heads
    return LayerSize(gates * inputs, gates, 2 * hidden * (hidden // heads), 2 * hidden)


CELLS: Mapping[str, Cell] = MappingProxyType(
    {
        "elman": Cell(
            "Elman",
            "the textbook RNN: h_t = tanh(x_t W + h_(t-1) U + b)",
            lambda e, h, _: LayerSize(h * (e + h), h),
            kept_per_unit=2,
        ),
        "lstm": Cell(
            "LSTM",
            "long short-term memory",
            # Four gates (input, forget, candidate, output), each the size of an Elman layer.
            lambda e, h, _: LayerSize(4 * h * (e + h), 4 * h),
            kept_per_unit=17.5,
        ),
        "gru": Cell(
            "GRU",
            "gated recurrent unit",
            # Three gates (reset, update, candidate) with two biases each, as in torch: the
            # candidate's second bias is inside the reset product.
            lambda e, h, _: LayerSize(3 * h * (e + h), 6 * h),
            kept_per_unit=6.5,
        ),
        "mingru": Cell(
            "minGRU",
            "a GRU whose gates don't see the state (Feng et al. 2024)",
            # A gate and a candidate from the input alone, with one bias each.
            lambda e, h, _: LayerSize(2 * h * e, 2 * h),
            kept_per_unit=7,
            has_recurrent_weights=False,
        ),
        "minlstm": Cell(
            "minLSTM",
            "an LSTM whose gates don't see the state (Feng et al. 2024)",
            # Two gates and a candidate from the input alone, with one bias each.
            lambda e, h, _: LayerSize(3 * h * e, 3 * h),
            kept_per_unit=10.5,
            has_recurrent_weights=False,
        ),
        "slstm": Cell(
            "sLSTM",
            "xLSTM's scalar memory, no convolution, norm or projection",
            # Four gates, whose recurrent weights only connect units of the same head.
            lambda e, h, heads: LayerSize(4 * h * (e + h // heads), 4 * h),
            kept_per_unit=19.5,
            has_heads=True,
        ),
        "mlstm": Cell(
            "mLSTM",
            "xLSTM's matrix memory, no convolution, norm or projection",
            _mlstm_size,
            kept_per_unit=21,
            kept_per_pair=2.3,
            has_heads=True,
            has_recurrent_weights=False,
        ),
        "transformer": Cell(
            "Transformer",
            "no RNN: decoder blocks with attention in a window",
            # Query, key, value and output; an MLP of 4 H with biases; two norms. Each query is
            # multiplied with the keys of its window, and the result with their values.
            lambda _, h, __: LayerSize(12 * h * h, 7 * h, window_products=2 * h),
            kept_per_unit=20,
            kept_per_key=7,
            has_heads=True,
            has_recurrent_weights=False,
            attends=True,
        ),
    }
)

CELL_NAMES: Mapping[str, str] = {key: cell.name for key, cell in CELLS.items()}
"""Display names."""
HEADED_CELLS = tuple(key for key, cell in CELLS.items() if cell.has_heads)
ATTENDING_CELLS = tuple(key for key, cell in CELLS.items() if cell.attends)
RECURRENT_WEIGHT_CELLS = tuple(key for key, cell in CELLS.items() if cell.has_recurrent_weights)
