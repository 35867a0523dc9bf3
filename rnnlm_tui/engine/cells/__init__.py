"""The recurrent cells, and the table that builds a layer by `cell_type`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from rnnlm_tui.engine.cells.base import LayerState, RecurrentLayer
from rnnlm_tui.engine.cells.elman import ElmanLayer
from rnnlm_tui.engine.cells.gru import GruLayer
from rnnlm_tui.engine.cells.lstm import LstmLayer
from rnnlm_tui.engine.cells.minimal import MinGruLayer, MinLstmLayer
from rnnlm_tui.engine.cells.mlstm import MlstmLayer
from rnnlm_tui.engine.cells.slstm import SlstmLayer
from rnnlm_tui.engine.cells.transformer import TransformerLayer

__all__ = ["CELLS", "LayerState", "RecurrentLayer"]

CELLS: Mapping[str, Callable[[int, int, int], RecurrentLayer]] = MappingProxyType(
    {
        "elman": lambda inputs, hidden, _: ElmanLayer(inputs, hidden),
        "lstm": lambda inputs, hidden, _: LstmLayer(inputs, hidden),
        "gru": lambda inputs, hidden, _: GruLayer(inputs, hidden),
        "mingru": lambda inputs, hidden, _: MinGruLayer(inputs, hidden),
        "minlstm": lambda inputs, hidden, _: MinLstmLayer(inputs, hidden),
        "slstm": SlstmLayer,
        "mlstm": MlstmLayer,
        "transformer": lambda _, hidden, heads: TransformerLayer(hidden, heads),
    }
)
"""`cell_type` to a function that builds a layer from input width, hidden size and number of
heads."""
