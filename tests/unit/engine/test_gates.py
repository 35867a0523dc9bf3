"""The gates and the tanh that cells report, against their equations written out step by step."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine import inspection
from rnnlm_tui.engine.cells import CELLS, RecurrentLayer
from rnnlm_tui.engine.cells.elman import ElmanLayer
from rnnlm_tui.engine.cells.gru import GruLayer
from rnnlm_tui.engine.cells.lstm import LstmLayer
from rnnlm_tui.engine.cells.minimal import MinGruLayer, MinLstmLayer
from rnnlm_tui.engine.cells.mlstm import MlstmLayer
from rnnlm_tui.engine.cells.slstm import SlstmLayer
from rnnlm_tui.engine.inspection import gates_and_saturation, layer_index, trace
from rnnlm_tui.errors import InputError

from .builders import small_model
from .test_cells import drawn, drawn_layer

INPUTS, HIDDEN, HEADS, STEPS, BATCH = 5, 4, 2, 9, 2
Gates = dict[str, list[Tensor]]
"""By name; the tanh of the candidate, or of an Elman layer's state, as `tanh`."""


def elman(layer: ElmanLayer, inputs_TBE: Tensor, h: Tensor) -> Gates:
    found: Gates = {"tanh": []}
    for x in inputs_TBE:
        h = (x @ layer.weight_ih_l0.t() + layer.bias_ih_l0 + h @ layer.weight_hh_l0.t()).tanh()
        found["tanh"].append(h)
    return found


def lstm(layer: LstmLayer, inputs_TBE: Tensor, h: Tensor, c: Tensor) -> Gates:
    found: Gates = {"input": [], "forget": [], "output": [], "tanh": []}
    for x in inputs_TBE:
        sums = x @ layer.weight_ih_l0.t() + layer.bias_ih_l0 + h @ layer.weight_hh_l0.t()
        i, f, g, o = torch.split(sums, HIDDEN, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        passed = (i.sigmoid(), f.sigmoid(), o.sigmoid(), g.tanh())
        for name, values in zip(found, passed, strict=True):
            found[name].append(values)
    return found


def gru(layer: GruLayer, inputs_TBE: Tensor, h: Tensor) -> Gates:
    found: Gates = {"reset": [], "update": [], "tanh": []}
    for x in inputs_TBE:
        from_input = torch.split(x @ layer.weight_ih_l0.t() + layer.bias_ih_l0, HIDDEN, 1)
        from_state = torch.split(h @ layer.weight_hh_l0.t() + layer.bias_hh_l0, HIDDEN, 1)
        r, z = ((from_input[k] + from_state[k]).sigmoid() for k in (0, 1))
        n = (from_input[2] + r * from_state[2]).tanh()
        h = (1 - z) * n + z * h
        for name, values in zip(found, (r, z, n), strict=True):
            found[name].append(values)
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
    found: Gates = {"input": [], "forget": [], "output": [], "tanh": []}
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
        passed = (enter, f.sigmoid(), o.sigmoid(), z.tanh())
        for name, values in zip(found, passed, strict=True):
            found[name].append(values)
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
    "elman": elman,
    "lstm": lstm,
    "gru": gru,
    "mingru": mingru,
    "minlstm": minlstm,
    "slstm": slstm,
    "mlstm": mlstm,
}


@pytest.mark.parametrize("cell_type", sorted(CELLS))
@pytest.mark.parametrize("carried", [False, True])
@torch.no_grad()
def test_gates_and_tanh_equal_the_equations_step_by_step(cell_type: str, carried: bool) -> None:
    layer = drawn_layer(cell_type, INPUTS, HIDDEN, HEADS)
    inputs_TBE, state = drawn(STEPS, BATCH, INPUTS), layer.initial_state(BATCH)
    if carried:
        _, state = layer(drawn(3, BATCH, INPUTS), state)
    outputs_TBH, _ = layer(inputs_TBE, state)
    wanted = WRITTEN_OUT[cell_type](layer, inputs_TBE, *state)  # type: ignore[operator]
    inside = layer.inside(inputs_TBE, outputs_TBH, state)
    if "tanh" in wanted:
        torch.testing.assert_close(inside.tanh_TBH, torch.stack(wanted.pop("tanh")))
    else:
        assert inside.tanh_TBH is None
    assert list(inside.gates) == list(wanted)
    for name, gate in inside.gates.items():
        torch.testing.assert_close(gate, torch.stack(wanted[name]))
        assert 0 <= float(gate.min()) <= float(gate.max()) <= 1


@pytest.mark.parametrize("cell_type", sorted(CELLS))
@torch.no_grad()
def test_a_layers_gates_and_saturation_are_averaged_at_each_token_of_a_text(
    cell_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "WINDOW", 3)
    model, ids = small_model(cell_type=cell_type), [3, 1, 4, 1, 5, 9, 2, 6]
    for parameter in model.layers.parameters():
        parameter.mul_(2)  # so that some units saturate
    seen = trace(model, ids)
    for index, inputs_TE in enumerate((model.embedding.weight[ids], seen.outputs_LTH[0])):
        layer = cast(RecurrentLayer, model.layers[index])
        own = layer.inside(
            inputs_TE[:, None], seen.outputs_LTH[index][:, None], layer.initial_state(1)
        )
        found, saturated_T = gates_and_saturation(model, seen, index)
        assert list(found) == list(own.gates)
        for name, gate_T in found.items():
            torch.testing.assert_close(gate_T, own.gates[name].mean((1, 2)))
        if own.tanh_TBH is None:
            assert saturated_T is None
        else:
            assert saturated_T is not None
            torch.testing.assert_close(saturated_T, (own.tanh_TBH.abs() > 0.9).float().mean((1, 2)))
            assert 0 < float(saturated_T.mean()) < 1


def test_an_empty_text_has_neither_gates_nor_saturation() -> None:
    model = small_model(cell_type="lstm")
    assert gates_and_saturation(model, trace(model, []), 0) == ({}, None)


def test_a_layer_that_the_model_lacks_is_refused() -> None:
    model = small_model()
    assert [layer_index(model, layer) for layer in (0, 1, -1, -2)] == [0, 1, 1, 0]
    for layer in (2, -3):
        with pytest.raises(InputError, match=f"layer {layer} is not in 0 to 1"):
            layer_index(model, layer)
