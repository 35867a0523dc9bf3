"""The LSTM layer against its paper's equations, and what torch's kernels read of it."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.cells.lstm import LstmLayer
from tests.unit.engine.builders import built_model


def drawn_layer(inputs: int = 5, hidden: int = 4, dtype: torch.dtype = torch.float64) -> LstmLayer:
    layer = LstmLayer(inputs, hidden).to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.7, 0.7, generator=generator)
    return layer


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def plain_loop(
    layer: LstmLayer, inputs_TBE: Tensor, hidden_BH: Tensor, cell_BH: Tensor
) -> tuple[Tensor, Tensor]:
    """The paper's formulas, one step after the other, on autograd alone."""
    outputs = []
    for input_BE in inputs_TBE:
        gates = (
            input_BE @ layer.weight_ih_l0.t()
            + hidden_BH @ layer.weight_hh_l0.t()
            + layer.bias_ih_l0
        )
        i, f, g, o = gates.chunk(4, dim=1)
        cell_BH = torch.sigmoid(f) * cell_BH + torch.sigmoid(i) * torch.tanh(g)
        hidden_BH = torch.sigmoid(o) * torch.tanh(cell_BH)
        outputs.append(hidden_BH)
    return torch.stack(outputs), cell_BH


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("training", [True, False])
def test_layer_and_its_gradients_equal_a_plain_loop(
    length: int, dtype: torch.dtype, training: bool
) -> None:
    layer = drawn_layer(dtype=dtype).train(training)
    inputs = drawn(length, 3, 5, dtype=dtype).requires_grad_()
    state = (
        drawn(3, 4, dtype=dtype).requires_grad_(),
        drawn(4, 3, dtype=dtype).t().contiguous().requires_grad_(),
    )
    weights = drawn(length, 3, 4, dtype=dtype)
    leaves = [inputs, *state, *layer.parameters()]
    hidden, after = layer(inputs, state)
    expected, cell = plain_loop(layer, inputs, *state)
    torch.testing.assert_close((hidden, after), (expected, (expected[-1], cell)))
    gradients = torch.autograd.grad(
        (hidden * weights).sum() + (after[0] ** 2).sum() + (after[1] ** 3).sum(), leaves
    )
    wanted = torch.autograd.grad(
        (expected * weights).sum() + (expected[-1] ** 2).sum() + (cell**3).sum(), leaves
    )
    torch.testing.assert_close(gradients, wanted)


def test_float32_steps_equal_a_sequence() -> None:
    layer = drawn_layer(dtype=torch.float32)
    inputs, state = drawn(6, 3, 5, dtype=torch.float32), layer.initial_state(3)
    hidden, after = layer(inputs, state)
    for time, input_BE in enumerate(inputs):
        step, state = layer.step(input_BE, state)
        torch.testing.assert_close(step, hidden[time])
    torch.testing.assert_close(state, after)


def test_layer_has_only_one_bias() -> None:
    layer = LstmLayer(5, 4)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 4 * (4 * 5 + 4 * 4 + 4)
    assert set(layer.state_dict()) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0"}
    assert not layer.bias_hh_l0.requires_grad
    assert not layer.bias_hh_l0.any()


def test_default_weights_start_with_strong_inputs_and_a_short_memory() -> None:
    shape = {
        "vocab_size": 9,
        "embedding_dim": 16,
        "hidden_size": 16,
        "num_layers": 2,
        "cell_type": "lstm",
    }
    for layer in built_model(**shape).layers:
        enter, forget, _, leave = cast(LstmLayer, layer).bias_ih_l0.chunk(4)
        assert (enter == 1).all()
        assert (forget == -2).all()
        assert (leave == 1).all()
        assert cast(LstmLayer, layer).weight_ih_l0.abs().max().item() == pytest.approx(
            8 / 16**0.5, rel=0.05
        )
    published = built_model(**shape, initialization="uniform", init_scale=0.1)
    assert all(parameter.abs().max() <= 0.1 for parameter in published.parameters())


def test_moving_a_layer_moves_the_kernels_weights() -> None:
    layer = LstmLayer(5, 4).double()
    assert [tensor.dtype for tensor in layer._flat_weights if tensor is not None] == [
        torch.float64
    ] * 4
    assert layer._flat_weights[1] is layer.weight_hh_l0
    assert layer._flat_weights[3] is layer.bias_hh_l0
