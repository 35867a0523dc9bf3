"""The gates that the gated cells report, against each cell's equations written out step by step."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine import inspection
from rnnlm_tui.engine.cells import CELLS, GateReportingLayer
from rnnlm_tui.engine.cells.gru import GruLayer
from rnnlm_tui.engine.cells.lstm import LstmLayer
from rnnlm_tui.engine.cells.minimal import MinGruLayer, MinLstmLayer
from rnnlm_tui.engine.cells.mlstm import MlstmLayer
from rnnlm_tui.engine.cells.slstm import SlstmLayer
from rnnlm_tui.engine.inspection import gates, layer_index, trace
from rnnlm_tui.errors import InputError

from .builders import small_model
from .test_cells import drawn, drawn_layer

GATED = sorted(set(CELLS) - {"elman"})
INPUTS, HIDDEN, HEADS, STEPS, BATCH = 5, 4, 2, 9, 2
Gates = dict[str, list[Tensor]]


def lstm(layer: LstmLayer, inputs_TBE: Tensor, h: Tensor, c: Tensor) -> Gates:
    found: Gates = {"input": [], "forget": [], "output": []}
    for x in inputs_TBE:
        sums = x @ layer.weight_ih_l0.t() + layer.bias_ih_l0 + h @ layer.weight_hh_l0.t()
        i, f, g, o = torch.split(sums, HIDDEN, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        for name, gate in zip(found, (i, f, o), strict=True):
            found[name].append(gate.sigmoid())
    return found


def gru(layer: GruLayer, inputs_TBE: Tensor, h: Tensor) -> Gates:
    found: Gates = {"reset": [], "update": []}
    for x in inputs_TBE:
        from_input = torch.split(x @ layer.weight_ih_l0.t() + layer.bias_ih_l0, HIDDEN, 1)
        from_state = torch.split(h @ layer.weight_hh_l0.t() + layer.bias_hh_l0, HIDDEN, 1)
        r, z = ((from_input[k] + from_state[k]).sigmoid() for k in (0, 1))
        h = (1 - z) * (from_input[2] + r * from_state[2]).tanh() + z * h
        found["reset"].append(r)
        found["update"].append(z)
    return found


def mingru(layer: MinGruLayer, inputs_TBE: Tensor, _: Tensor) -> Gates:
    rows = layer.weight_ih[:HIDDEN], layer.bias_ih[:HIDDEN]
    return {"update": [(x @ rows[0].t() + rows[1]).sigmoid() for x in inputs_TBE]}


def minlstm(layer: MinLstmLayer, inputs_TBE: Tensor, _: Tensor) -> Gates:
    found: Gates = {"input": [], "forget": []}
    for x in inputs_TBE:
        i, _c, f = torch.split(x @ layer.weight_ih.t() + layer.bias_ih, HIDDEN, 1)
        total = i.sigmoid() + f.sigmoid()
        found["input"].append(i.sigmoid() / total)
        found["forget"].append(f.sigmoid() / total)
    return found


def slstm(layer: SlstmLayer, inputs_TBE: Tensor, *state: Tensor) -> Gates:
    c, n, h, m = state
    width = HIDDEN // HEADS
    found: Gates = {"input": [], "forget": [], "output": []}
    for x in inputs_TBE:
        sums = (x @ layer.weight_ih.t() + layer.bias_ih).view(BATCH, HEADS, 4, width)
        weights = layer.weight_hh.view(HEADS, 4, width, width)
        mixed = torch.einsum("bnd,ngcd->bngc", h.view(BATCH, HEADS, width), weights)
        o, z, i, f = (part.reshape(BATCH, HIDDEN) for part in (sums + mixed).unbind(2))
        reached = torch.where(n == 0, i, torch.maximum(f.sigmoid().log() + m, i))
        enter = (i - reached).exp()
        keep = torch.where(n == 0, 0, (f.sigmoid().log() + m - reached).exp())
        c, n, m = keep * c + enter * z.tanh(), keep * n + enter, reached
        h = o.sigmoid() * c / n
        for name, gate in zip(found, (enter, f.sigmoid(), o.sigmoid()), strict=True):
            found[name].append(gate)
    return found


def mlstm(layer: MlstmLayer, inputs_TBE: Tensor, *state: Tensor) -> Gates:
    _, normaliser, m = state
    is_empty = (normaliser == 0).all(-1)
    found: Gates = {"input": [], "forget": [], "output": []}
    for x in inputs_TBE:
        sums = x @ layer.weight_ih.t() + layer.bias_ih
        o, i, f = sums[:, 3 * HIDDEN : 4 * HIDDEN], sums[:, -2 * HEADS : -HEADS], sums[:, -HEADS:]
        m = torch.where(is_empty, i, torch.maximum(f.sigmoid().log() + m, i))
        is_empty = torch.zeros_like(is_empty)
        for name, gate in zip(found, ((i - m).exp(), f.sigmoid(), o.sigmoid()), strict=True):
            found[name].append(gate)
    return found


WRITTEN_OUT = {
    "lstm": lstm,
    "gru": gru,
    "mingru": mingru,
    "minlstm": minlstm,
    "slstm": slstm,
    "mlstm": mlstm,
}


@pytest.mark.parametrize("cell_type", GATED)
@pytest.mark.parametrize("carried", [False, True])
@torch.no_grad()
def test_gates_equal_the_equations_step_by_step(cell_type: str, carried: bool) -> None:
    layer = drawn_layer(cell_type, INPUTS, HIDDEN, HEADS)
    assert isinstance(layer, GateReportingLayer)
    inputs_TBE, state = drawn(STEPS, BATCH, INPUTS), layer.initial_state(BATCH)
    if carried:
        _, state = layer(drawn(3, BATCH, INPUTS), state)
    outputs_TBH, _ = layer(inputs_TBE, state)
    wanted = WRITTEN_OUT[cell_type](layer, inputs_TBE, *state)  # type: ignore[operator]
    found = layer.gates(inputs_TBE, outputs_TBH, state)
    assert list(found) == list(wanted)
    for name, gate in found.items():
        torch.testing.assert_close(gate, torch.stack(wanted[name]))
        assert 0 <= float(gate.min()) <= float(gate.max()) <= 1


@pytest.mark.parametrize("cell_type", GATED)
@torch.no_grad()
def test_a_layers_gates_are_averaged_at_each_token_of_a_text(
    cell_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "WINDOW", 3)
    model, ids = small_model(cell_type=cell_type), [3, 1, 4, 1, 5, 9, 2, 6]
    seen = trace(model, ids)
    for index, inputs_TE in enumerate((model.embedding.weight[ids], seen.outputs_LTH[0])):
        layer = cast(GateReportingLayer, model.layers[index])
        own = layer.gates(
            inputs_TE[:, None], seen.outputs_LTH[index][:, None], layer.initial_state(1)
        )
        found = gates(model, seen, index)
        assert list(found) == list(own)
        for name, gate_T in found.items():
            torch.testing.assert_close(gate_T, own[name].mean((1, 2)))


def test_an_elman_layer_has_no_gates_and_an_empty_text_none_either() -> None:
    elman, lstm_model = small_model(), small_model(cell_type="lstm")
    assert gates(elman, trace(elman, [1, 2, 3]), 0) == {}
    assert gates(lstm_model, trace(lstm_model, []), 0) == {}


def test_a_layer_that_the_model_lacks_is_refused() -> None:
    model = small_model()
    assert [layer_index(model, layer) for layer in (0, 1, -1, -2)] == [0, 1, 1, 0]
    for layer in (2, -3):
        with pytest.raises(InputError, match=f"layer {layer} is not in 0 to 1"):
            layer_index(model, layer)
