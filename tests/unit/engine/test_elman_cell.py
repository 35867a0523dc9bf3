"""The Elman layer against a plain loop, and forward against step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from rnnlm_tui.engine.cells.elman import ElmanLayer


def drawn_layer(inputs: int = 5, hidden: int = 4) -> ElmanLayer:
    layer = ElmanLayer(inputs, hidden).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.7, 0.7, generator=generator)
    return layer


def drawn(*shape: int) -> Tensor:
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))
    )


def plain_loop(layer: ElmanLayer, inputs_TBE: Tensor, state_BH: Tensor) -> Tensor:
    """The textbook's formula, one step after the other, on autograd alone."""
    outputs = []
    for input_BE in inputs_TBE:
        state_BH = torch.tanh(
            input_BE @ layer.weight_ih_l0.t() + state_BH @ layer.weight_hh_l0.t() + layer.bias_ih_l0
        )
        outputs.append(state_BH)
    return torch.stack(outputs)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_layer_and_its_gradients_equal_a_plain_loop(length: int) -> None:
    layer = drawn_layer()
    inputs, state, weights = (
        drawn(length, 3, 5).requires_grad_(),
        drawn(3, 4).requires_grad_(),
        drawn(length, 3, 4),
    )
    leaves = [inputs, state, *layer.parameters()]
    hidden, (after,) = layer(inputs, (state,))
    expected = plain_loop(layer, inputs, state)
    gradients = torch.autograd.grad((hidden * weights).sum() + (after**2).sum(), leaves)
    expected_gradients = torch.autograd.grad(
        (expected * weights).sum() + (expected[-1] ** 2).sum(), leaves
    )
    torch.testing.assert_close(hidden, expected)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_layer_equals_torchs_own_kernel_that_gpus_use() -> None:
    layer = drawn_layer()
    inputs, state = drawn(6, 3, 5).requires_grad_(), drawn(3, 4)
    ours, _ = layer(inputs, (state,))
    theirs, _ = nn.RNN.forward(layer, inputs, state.unsqueeze(0))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours.sum(), layer.weight_hh_l0)[0],
        torch.autograd.grad(theirs.sum(), layer.weight_hh_l0)[0],
    )


def test_layer_has_only_one_bias() -> None:
    layer = ElmanLayer(5, 4)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 4 * 5 + 4 * 4 + 4
    assert set(layer.state_dict()) == {"weight_ih_l0", "weight_hh_l0", "bias_ih_l0"}
    assert not layer.bias_hh_l0.requires_grad
    assert not layer.bias_hh_l0.any()


def test_moving_a_layer_moves_the_kernels_weights() -> None:
    layer = ElmanLayer(5, 4).double()
    assert [tensor.dtype for tensor in layer._flat_weights if tensor is not None] == [
        torch.float64
    ] * 4
    assert layer._flat_weights[0] is layer.weight_ih_l0
    assert layer._flat_weights[3] is layer.bias_hh_l0
