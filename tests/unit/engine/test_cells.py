"""What every recurrent layer promises: its equations with their gradients, two faces that agree,
windows that carry the state, packed weights and weight dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

import pytest
import torch
from torch import nn

from rnnlm_tui.engine import modeling_rnnlm
from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.cells.base import drop, tanh_, tanh_of_half_
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema import cells
from rnnlm_tui.schema.cells import RECURRENT_WEIGHT_CELLS, CellType

from .builders import built_model
from .reference import EQUATIONS, INPUTS, drawn, drawn_layer, expected, input_width

EVERY_CELL = pytest.mark.parametrize("cell_type", sorted(CELLS))
EVERY_DTYPE = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
DROPPING = pytest.mark.parametrize("cell_type", RECURRENT_WEIGHT_CELLS)
TORCHS = pytest.mark.parametrize("cell_type", ["elman", "lstm", "gru"])


def test_every_cell_has_an_entry_a_layer_a_formula_for_exports_and_equations() -> None:
    for table in (CELLS, modeling_rnnlm.CELLS, EQUATIONS, get_args(CellType)):
        assert set(table) == set(cells.CELLS)


@EVERY_CELL
@EVERY_DTYPE
@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("carried", [False, True])
def test_outputs_state_gradients_and_gates_equal_the_equations(
    cell_type: str, length: int, carried: bool, dtype: torch.dtype
) -> None:
    layer = drawn_layer(cell_type, dtype=dtype)
    inputs = drawn(3, length, input_width(cell_type), dtype=dtype).transpose(0, 1).requires_grad_()
    state = layer.initial_state(3)
    leaves = [inputs, *cast(nn.Module, layer).parameters()]
    if carried:
        _, reached = layer(drawn(4, 3, input_width(cell_type), dtype=dtype), state)
        state = tuple(part.detach().requires_grad_() for part in reached)
        leaves += state
    outputs, after = layer(inputs, state)
    wanted = expected(cell_type, layer, inputs, state)
    torch.testing.assert_close((outputs, after), (wanted.outputs, wanted.state))
    ours, theirs = (outputs, *after), (wanted.outputs, *wanted.state)
    weights = [drawn(*outputs.shape, dtype=dtype), *(part.detach() for part in after)]
    for used in (slice(0, 1), slice(1, None), slice(None)):  # outputs, state, both
        found, exact = (
            torch.autograd.grad(
                parts[used], leaves, weights[used], retain_graph=True, materialize_grads=True
            )
            for parts in (ours, theirs)
        )
        torch.testing.assert_close(found, exact)

    inside = layer.inside(inputs, outputs, state)
    torch.testing.assert_close(inside.gates, wanted.gates)
    assert list(inside.gates) == list(wanted.gates)
    torch.testing.assert_close(inside.tanh_TBH, wanted.tanh)
    cast(nn.Module, layer).eval()
    with torch.no_grad():
        torch.testing.assert_close(layer(inputs, state), (outputs, after))


@EVERY_CELL
@EVERY_DTYPE
def test_steps_equal_one_forward_pass(cell_type: str, dtype: torch.dtype) -> None:
    layer = drawn_layer(cell_type, dtype=dtype)
    inputs = drawn(9, 2, input_width(cell_type), dtype=dtype)
    _, state = layer(inputs[:3], layer.initial_state(2))  # a state that is not zero
    hidden, after = layer(inputs, state)
    for time, input_BE in enumerate(inputs):
        step, state = layer.step(input_BE, state)
        torch.testing.assert_close(step, hidden[time])
    torch.testing.assert_close(state, after)


@EVERY_CELL
def test_steps_with_packed_weights_equal_plain_ones_for_any_number_of_rows(
    cell_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.engine.cells.base.WORTH_PACKING", 0)
    inputs = 16 if cell_type == "transformer" else 24
    layer = drawn_layer(cell_type, inputs=inputs, hidden=16, dtype=torch.float32)
    inputs_TBE = drawn(4, 9, inputs, dtype=torch.float32)
    with torch.no_grad():
        _, state = layer(inputs_TBE[:3], layer.initial_state(9))
        wanted, after = layer.step(inputs_TBE[3], state)
        layer.pack()
        assert getattr(layer, "_packed", None) or getattr(layer, "_packs", None)
        for rows in (1, 2, 9):
            some = tuple(part[:rows] for part in state)
            found, reached = layer.step(inputs_TBE[3, :rows], some)
            torch.testing.assert_close(found, wanted[:rows])
            torch.testing.assert_close(reached, tuple(part[:rows] for part in after))
    leaf = inputs_TBE[3].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(layer.step(leaf, state)[0].sum(), leaf)
    assert gradient.any()


def test_float64_weights_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnlm_tui.engine.cells.base.WORTH_PACKING", 0)
    layer = drawn_layer("elman")
    layer.pack()
    with torch.no_grad():
        assert layer.step(drawn(3, INPUTS), layer.initial_state(3))[0].dtype == torch.float64


@DROPPING
def test_one_mask_drops_weights_at_every_step_of_a_training_pass(cell_type: str) -> None:
    layer: Any = drawn_layer(cell_type)
    inputs, state = drawn(7, 3, INPUTS), layer.initial_state(3)
    whole = layer(inputs, state)
    weight = layer.weight_hh if cell_type == "slstm" else layer.weight_hh_l0
    layer.weight_dropout = 0.5
    torch.manual_seed(9)
    mask = drop(torch.ones_like(weight), 0.5)
    assert set(mask.flatten().tolist()) == {0.0, 2.0}
    torch.manual_seed(9)
    dropped = layer(inputs, state)
    (gradient,) = torch.autograd.grad(dropped[0].square().sum(), weight)
    assert torch.equal(gradient == 0, mask == 0)
    assert not torch.allclose(layer(inputs, state)[0], dropped[0]), "each pass has its own mask"
    torch.testing.assert_close(layer.step(inputs[0], state)[0], whole[0][0])
    layer.eval()
    torch.testing.assert_close(layer(inputs, state), whole)
    with torch.no_grad():
        weight.mul_(mask)  # by hand, the same at each of the seven steps
    torch.testing.assert_close(layer(inputs, state), dropped)


@TORCHS
def test_a_gpus_kernel_gets_the_dropped_weights_in_one_block_of_memory(cell_type: str) -> None:
    layer: Any = drawn_layer(cell_type)
    layer.weight_dropout = 0.5
    torch.manual_seed(9)
    dropped = layer.dropped(layer.weight_hh_l0)
    torch.manual_seed(9)
    weights = layer.weights(block=True)
    wanted = [layer.weight_ih_l0, dropped, layer.bias_ih_l0, layer.bias_hh_l0]
    torch.testing.assert_close(weights, wanted, rtol=0, atol=0)
    begins = [0]
    for weight in weights:
        assert weight.is_contiguous()
        assert weight.storage_offset() == begins[-1]
        begins.append(begins[-1] + weight.numel())
    assert weights[0].untyped_storage().nbytes() == 8 * begins[-1]
    undropped = layer.eval().weights(block=True)
    assert all(ours is own for ours, own in zip(undropped, layer._flat_weights, strict=True))


def test_exactly_the_cells_with_state_to_state_weights_take_weight_dropout() -> None:
    shape = {"vocab_size": 5, "embedding_dim": 4, "hidden_size": 4, "num_layers": 2, "num_heads": 2}
    for cell_type in CELLS:
        if cell_type in RECURRENT_WEIGHT_CELLS:
            model = built_model(**shape, cell_type=cell_type, weight_dropout=0.3)
            assert [layer.weight_dropout for layer in model.layers] == [0.3, 0.3]
        else:
            with pytest.raises(InputError, match="no state-to-state weights"):
                built_model(**shape, cell_type=cell_type, weight_dropout=0.3)


@pytest.mark.parametrize(("cell_type", "library"), [("elman", nn.RNN), ("gru", nn.GRU)])
def test_a_layer_equals_torchs_own_kernel_that_gpus_use(cell_type: str, library: Any) -> None:
    layer: Any = drawn_layer(cell_type)
    inputs, state = drawn(6, 3, INPUTS), (drawn(3, 4),)
    theirs, _ = library.forward(layer, inputs, state[0].unsqueeze(0))
    torch.testing.assert_close(layer(inputs, state)[0], theirs)
    kernel = torch._VF.rnn_tanh if cell_type == "elman" else torch._VF.gru
    torch.testing.assert_close(layer.by_kernel(kernel, inputs, state), layer(inputs, state))


@TORCHS
def test_only_a_gru_has_a_second_bias_and_all_move_with_their_layer(cell_type: str) -> None:
    layer: Any = drawn_layer(cell_type)
    names = {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0"}
    assert set(layer.state_dict()) == names | ({"bias_hh_l0"} if cell_type == "gru" else set())
    assert layer.bias_hh_l0.requires_grad == bool(layer.bias_hh_l0.any()) == (cell_type == "gru")
    held = [layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0]
    assert all(own is read for own, read in zip(held, layer._flat_weights, strict=True))
    assert {tensor.dtype for tensor in held} == {torch.float64}


@pytest.mark.parametrize(
    ("cell_type", "biases", "doubled"),
    [
        ("lstm", [1, -2, None, 1], range(4)),
        ("gru", [None, -1, None], ()),
        ("mingru", [1, None], ()),
        ("minlstm", [None, None, -1], ()),
        ("slstm", [None, None, None, -2] * 2, range(8)),
        ("mlstm", [1, 1, 1, 1, None, None, None, None, None, -1], (4, 5)),
    ],
)
def test_default_weights_start_with_a_short_memory(
    cell_type: str, biases: list[float | None], doubled: Sequence[int]
) -> None:
    """The biases of each gate, of two heads where the cell has any, and the gates whose weights of
    the input are doubled."""
    shape = {"vocab_size": 9, "embedding_dim": 16, "hidden_size": 4, "num_layers": 1}
    model = built_model(**shape, cell_type=cell_type, num_heads=2)
    uniform = built_model(**shape, cell_type=cell_type, num_heads=2, initialization="uniform")
    parts = {name.removesuffix("_l0"): part for name, part in model.layers[0].named_parameters()}
    gates = zip(
        biases,
        *(parts[name].detach().chunk(len(biases)) for name in ("bias_ih", "weight_ih")),
        strict=True,
    )
    for index, (wanted, bias, weight) in enumerate(gates):
        assert set(bias.tolist()) == {wanted} if wanted else len(set(bias.tolist())) > 1
        assert bool((weight.abs() > 1).any()) == (index in doubled)  # 4 / sqrt(16) are drawn
    assert not any(bool((part.abs() > 0.1).any()) for part in uniform.layers.parameters())


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-7), (torch.float64, 1e-15)])
def test_tanh_is_exact_to_the_rounding_of_a_state_near_1(dtype: torch.dtype, near: float) -> None:
    numbers = torch.cat(
        [torch.linspace(-12, 12, 4_001), torch.tensor([-1e4, -1e-8, 1e-8, 1e4])]
    ).to(dtype)
    true = torch.tanh(numbers.double())
    assert (tanh_(numbers.clone()).double() - true).abs().max() < near
    assert torch.equal(tanh_of_half_(2 * numbers), tanh_(numbers.clone()))


def test_tanh_works_in_place_on_part_of_a_row() -> None:
    row = torch.full((3, 8), 0.5)
    part = row[:, 2:5]
    assert tanh_(part) is part
    assert torch.allclose(row[:, 2:5], torch.tensor(0.5).tanh())
    assert (row[:, :2] == 0.5).all()
