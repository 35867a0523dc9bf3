"""The GRU layer against the equations and against torch's own kernel, values and gradients."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from rnnlm_tui.engine.cells.gru import GruLayer
from tests.unit.engine.builders import built_model


def drawn_layer(inputs: int = 5, hidden: int = 4, dtype: torch.dtype = torch.float64) -> GruLayer:
    layer = GruLayer(inputs, hidden).to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.7, 0.7, generator=generator)
    return layer


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def plain_loop(layer: GruLayer, inputs_TBE: Tensor, hidden_BH: Tensor) -> Tensor:
    """The formulas, one step after the other, on autograd alone."""
    outputs = []
    for input_BE in inputs_TBE:
        from_input = (input_BE @ layer.weight_ih_l0.t() + layer.bias_ih_l0).chunk(3, dim=1)
        from_state = (hidden_BH @ layer.weight_hh_l0.t() + layer.bias_hh_l0).chunk(3, dim=1)
        r, z = (
            torch.sigmoid(from_input[0] + from_state[0]),
            torch.sigmoid(from_input[1] + from_state[1]),
        )
        n = torch.tanh(from_input[2] + r * from_state[2])
        hidden_BH = (1 - z) * n + z * hidden_BH
        outputs.append(hidden_BH)
    return torch.stack(outputs)


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layer_and_its_gradients_equal_a_plain_loop(length: int, dtype: torch.dtype) -> None:
    layer = drawn_layer(dtype=dtype)
    inputs, state = (
        drawn(length, 3, 5, dtype=dtype).requires_grad_(),
        drawn(3, 4, dtype=dtype).requires_grad_(),
    )
    weights = drawn(length, 3, 4, dtype=dtype)
    leaves = [inputs, state, *layer.parameters()]
    hidden, (after,) = layer(inputs, (state,))
    expected = plain_loop(layer, inputs, state)
    gradients = torch.autograd.grad((hidden * weights).sum() + (after**2).sum(), leaves)
    wanted = torch.autograd.grad((expected * weights).sum() + (expected[-1] ** 2).sum(), leaves)
    torch.testing.assert_close(hidden, expected)
    torch.testing.assert_close(gradients, wanted)


def test_layer_and_its_gradients_equal_torchs_own_kernel_that_gpus_use() -> None:
    layer = drawn_layer()
    inputs, state = drawn(6, 3, 5).requires_grad_(), drawn(3, 4).requires_grad_()
    leaves = [inputs, state, *layer.parameters()]
    ours, (after,) = layer(inputs, (state,))
    theirs, last = nn.GRU.forward(layer, inputs, state.unsqueeze(0))
    torch.testing.assert_close(ours, theirs)
    gradients = torch.autograd.grad(ours.sum() + (after**2).sum(), leaves)
    torch.testing.assert_close(
        gradients, torch.autograd.grad(theirs.sum() + (last**2).sum(), leaves)
    )


def test_non_contiguous_inputs_give_the_same_result() -> None:
    layer = drawn_layer()
    inputs, state = drawn(3, 6, 5).transpose(0, 1), layer.initial_state(3)
    torch.testing.assert_close(layer(inputs, state), layer(inputs.contiguous(), state))


def test_backward_twice_through_one_pass_gives_the_same_gradient() -> None:
    layer = drawn_layer()
    hidden, _ = layer(drawn(4, 3, 5), layer.initial_state(3))
    first, second = (
        torch.autograd.grad(hidden.sum(), list(layer.parameters()), retain_graph=True)
        for _ in range(2)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_both_biases_are_parameters() -> None:
    layer = GruLayer(5, 4)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 3 * (4 * 5 + 4 * 4 + 2 * 4)
    assert set(layer.state_dict()) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"}


def test_default_weights_start_with_a_short_memory() -> None:
    model = built_model(vocab_size=9, embedding_dim=6, hidden_size=8, num_layers=2, cell_type="gru")
    for layer in model.layers:
        _, update, _ = cast(GruLayer, layer).bias_ih_l0.chunk(3)
        assert (update == -1).all()


def test_moving_a_layer_moves_the_kernels_weights() -> None:
    layer = GruLayer(5, 4).double()
    assert [tensor.dtype for tensor in layer._flat_weights if tensor is not None] == [
        torch.float64
    ] * 4
    assert layer._flat_weights[1] is layer.weight_hh_l0
