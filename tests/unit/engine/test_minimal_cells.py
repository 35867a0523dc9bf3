"""minGRU and minLSTM against plain loops over their paper's equations, and the scan against the
loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.cells.minimal import MinGruLayer, MinLstmLayer, gated_average
from tests.unit.engine.builders import built_model

HIDDEN = 4
Layer = TypeVar("Layer", MinGruLayer, MinLstmLayer)


def drawn(*shape: int) -> Tensor:
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))
    )


def filled(layer: Layer) -> Layer:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.7, 0.7, generator=generator)
    return layer


def plain_mingru(layer: MinGruLayer, inputs_TBE: Tensor, state_BH: Tensor) -> Tensor:
    """The paper's sequential form of minGRU."""
    (weight_z, weight_h), (bias_z, bias_h) = layer.weight_ih.chunk(2), layer.bias_ih.chunk(2)
    outputs = []
    for input_BE in inputs_TBE:
        gate = 1 / (1 + torch.exp(-(input_BE @ weight_z.t() + bias_z)))
        state_BH = (1 - gate) * state_BH + gate * (input_BE @ weight_h.t() + bias_h)
        outputs.append(state_BH)
    return torch.stack(outputs)


def plain_minlstm(layer: MinLstmLayer, inputs_TBE: Tensor, state_BH: Tensor) -> Tensor:
    """The paper's sequential form of minLSTM, with the gates divided by their sum."""
    (weight_i, weight_h, weight_f), (bias_i, bias_h, bias_f) = (
        layer.weight_ih.chunk(3),
        layer.bias_ih.chunk(3),
    )
    outputs = []
    for input_BE in inputs_TBE:
        forget = torch.sigmoid(input_BE @ weight_f.t() + bias_f)
        enter = torch.sigmoid(input_BE @ weight_i.t() + bias_i)
        candidate = input_BE @ weight_h.t() + bias_h
        state_BH = forget / (forget + enter) * state_BH + enter / (forget + enter) * candidate
        outputs.append(state_BH)
    return torch.stack(outputs)


def assert_equals_plain(
    layer: Layer, plain: Callable[[Layer, Tensor, Tensor], Tensor], length: int
) -> None:
    inputs, state, weights = (
        drawn(length, 3, 5).requires_grad_(),
        drawn(3, HIDDEN).requires_grad_(),
        drawn(length, 3, HIDDEN),
    )
    leaves = [inputs, state, *layer.parameters()]
    hidden, (after,) = layer(inputs, (state,))
    expected = plain(layer, inputs, state)
    gradients = torch.autograd.grad((hidden * weights).sum() + (after**2).sum(), leaves)
    expected_gradients = torch.autograd.grad(
        (expected * weights).sum() + (expected[-1] ** 2).sum(), leaves
    )
    torch.testing.assert_close(hidden, expected)
    torch.testing.assert_close(gradients, expected_gradients)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_mingru_and_its_gradients_equal_the_papers_loop(length: int) -> None:
    assert_equals_plain(filled(MinGruLayer(5, HIDDEN).double()), plain_mingru, length)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_minlstm_and_its_gradients_equal_the_papers_loop(length: int) -> None:
    assert_equals_plain(filled(MinLstmLayer(5, HIDDEN).double()), plain_minlstm, length)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 7, 8, 33])
def test_scan_and_its_gradients_equal_the_loop(length: int) -> None:
    leaves = [
        torch.sigmoid(drawn(length, 3, HIDDEN)).requires_grad_(),
        drawn(length, 3, HIDDEN).requires_grad_(),
        drawn(3, HIDDEN).requires_grad_(),
    ]
    loop, scan = (
        gated_average(leaves[0], leaves[1], leaves[2], parallel=parallel)
        for parallel in (False, True)
    )
    torch.testing.assert_close(scan, loop)
    weights = drawn(length + 1, 3, HIDDEN)[1:]
    by_loop, by_scan = (
        torch.autograd.grad((hidden * weights).sum(), leaves) for hidden in (loop, scan)
    )
    torch.testing.assert_close(by_scan, by_loop)


def test_an_open_gate_returns_the_candidate_and_a_closed_one_the_state() -> None:
    candidate, state = drawn(6, 2, HIDDEN), drawn(2, HIDDEN)
    for parallel in (False, True):
        torch.testing.assert_close(
            gated_average(torch.ones_like(candidate), candidate, state, parallel=parallel),
            candidate,
        )
        torch.testing.assert_close(
            gated_average(torch.zeros_like(candidate), candidate, state, parallel=parallel),
            state.expand_as(candidate),
        )


@pytest.mark.parametrize("build", [MinGruLayer, MinLstmLayer])
@pytest.mark.parametrize("scale", [10.0, 40.0])
def test_huge_gate_activations_stay_finite_in_float32(
    build: Callable[[int, int], MinGruLayer | MinLstmLayer], scale: float
) -> None:
    layer = build(2, HIDDEN)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_ih[:, 0], layer.weight_ih[:, 1] = 5.0, -3.0
    # Up to ±700 at the gates.
    inputs = (
        scale * torch.randn(70, 3, 2, generator=torch.Generator().manual_seed(0))
    ).requires_grad_()
    hidden, (after,) = layer(inputs, layer.initial_state(3))
    (gradient,) = torch.autograd.grad(hidden.sum() + after.sum(), inputs)
    assert hidden.isfinite().all()
    assert gradient.isfinite().all()


def test_default_weights_start_with_a_short_memory() -> None:
    mingru, minlstm = (
        built_model(
            vocab_size=9, embedding_dim=6, hidden_size=6, num_layers=1, cell_type=cell
        ).get_parameter("layers.0.bias_ih")
        for cell in ("mingru", "minlstm")
    )
    assert (mingru[:6] == 1).all()
    assert (minlstm[12:] == -1).all()
    assert not (mingru[6:] == 1).any()
    assert not (minlstm[:12] == -1).any()
