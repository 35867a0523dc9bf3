"""The recurrent cells, one file each, and the table that finds them by `cell_type`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rnnlm_tui.engine.cells.elman import ElmanLayer

CELLS: Mapping[str, type[ElmanLayer]] = MappingProxyType({"elman": ElmanLayer})
"""`cell_type` to the class of one layer; a layer has `forward`, `step` and `initial_state`."""
