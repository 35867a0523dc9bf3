"""What every recurrent layer promises: two faces that agree, windows that carry the state,
gradients that are right."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from rnnlm_tui.engine.cells import CELLS, RecurrentLayer

EVERY_CELL = pytest.mark.parametrize("cell_type", sorted(CELLS))


def drawn_layer(cell_type: str, inputs: int = 5, hidden: int = 4, heads: int = 2) -> RecurrentLayer:
    """A layer in float64 with weights in ±0.7."""
    layer = CELLS[cell_type](inputs, hidden, heads)
    module = cast(nn.Module, layer).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.7, 0.7, generator=generator)
    return layer


def drawn(*shape: int) -> Tensor:
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))
    )


@EVERY_CELL
def test_steps_equal_one_forward_pass(cell_type: str) -> None:
    layer = drawn_layer(cell_type)
    inputs, state = drawn(9, 2, 5), layer.initial_state(2)
    _, state = layer(drawn(3, 2, 5), state)  # a state that is not zero
    hidden, after = layer(inputs, state)
    for time, input_BE in enumerate(inputs):
        step, state = layer.step(input_BE, state)
        torch.testing.assert_close(step, hidden[time])
    torch.testing.assert_close(state, after)


@EVERY_CELL
def test_windows_with_carried_state_equal_one_pass(cell_type: str) -> None:
    layer = drawn_layer(cell_type)
    inputs, state = drawn(10, 2, 5), layer.initial_state(2)
    whole, last = layer(inputs, state)
    first, state = layer(inputs[:4], state)
    second, state = layer(inputs[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(state, last)


@EVERY_CELL
@pytest.mark.parametrize("length", [1, 2, 6])
def test_gradients_equal_finite_differences_in_float64(cell_type: str, length: int) -> None:
    layer = drawn_layer(cell_type)
    inputs = drawn(length, 2, 5).requires_grad_()
    _, reached = layer(drawn(3, 2, 5), layer.initial_state(2))
    state = tuple(part.detach().requires_grad_() for part in reached)
    parameters = list(cast(nn.Module, layer).parameters())

    def run(*leaves: Tensor) -> tuple[Tensor, ...]:
        hidden, after = layer(leaves[0], leaves[1 : 1 + len(state)])
        return (hidden, *after)

    assert torch.autograd.gradcheck(run, (inputs, *state, *parameters), atol=1e-6)


@EVERY_CELL
def test_steps_with_packed_weights_equal_plain_ones_for_any_number_of_rows(
    cell_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.engine.cells.base.WORTH_PACKING", 0)
    layer = drawn_layer(cell_type, inputs=24, hidden=16)
    cast(nn.Module, layer).float()
    inputs_TBE = drawn(4, 9, 24).float()
    with torch.no_grad():
        _, state = layer(inputs_TBE[:3], layer.initial_state(9))
        wanted, after = layer.step(inputs_TBE[3], state)
        layer.pack()
        assert getattr(layer, "_packed", None) is not None
        for rows in (1, 2, 9):
            some = tuple(part[:rows] for part in state)
            found, reached = layer.step(inputs_TBE[3, :rows], some)
            torch.testing.assert_close(found, wanted[:rows])
            torch.testing.assert_close(reached, tuple(part[:rows] for part in after))
    leaf = inputs_TBE[3].clone().requires_grad_()
    layer.step(leaf, state)[0].sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    assert leaf.grad.abs().sum() > 0


def test_float64_weights_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnlm_tui.engine.cells.base.WORTH_PACKING", 0)
    layer = drawn_layer("elman")
    layer.pack()
    with torch.no_grad():
        assert layer.step(drawn(3, 5), layer.initial_state(3))[0].dtype == torch.float64
