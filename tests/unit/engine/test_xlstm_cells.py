"""sLSTM and mLSTM: heads, empty memories, gates far out, and mLSTM's chunks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.cells.base import LayerState
from rnnlm_tui.engine.cells.mlstm import MlstmLayer
from rnnlm_tui.engine.model import detached
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.estimates import LONGEST_WHOLE_WINDOW, WINDOW_CHUNK

from .reference import HEADS, HIDDEN, INPUTS, drawn, drawn_layer, expected

WIDTH = HIDDEN // HEADS
XLSTM = pytest.mark.parametrize("cell_type", ["slstm", "mlstm"])


def set_gates(layer: Any, enter: float, forget: float) -> None:
    """Set the biases of the input and forget gates."""
    with torch.no_grad():
        if isinstance(layer, MlstmLayer):
            gates = layer.bias_ih[4 * layer.hidden_size :].view(2, -1)
            gates[0], gates[1] = enter, forget
        else:
            gates = layer.bias_ih.view(layer.num_heads, 4, -1)
            gates[:, 2], gates[:, 3] = enter, forget


@XLSTM
def test_heads_do_not_mix_their_memories(cell_type: str) -> None:
    layer, inputs = drawn_layer(cell_type), drawn(4, 1, INPUTS)
    state = detached((layer(drawn(3, 1, INPUTS), layer.initial_state(1))[1],))[0]
    other = tuple(part.clone() for part in state)
    for part in other:  # (B, H), or (B, heads, ...)
        part[:, : part.shape[1] // HEADS] += 0.5
    hidden, disturbed = layer(inputs, state)[0], layer(inputs, other)[0]
    assert not torch.allclose(hidden[..., :WIDTH], disturbed[..., :WIDTH])
    assert torch.equal(hidden[..., WIDTH:], disturbed[..., WIDTH:])


@XLSTM
def test_heads_that_do_not_divide_the_hidden_size_are_refused(cell_type: str) -> None:
    with pytest.raises(InputError, match="num_heads = 4 must divide the hidden size of 6"):
        CELLS[cell_type](5, 6, 4)


@XLSTM
@pytest.mark.parametrize("forget", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("enter", [-50.0, 50.0])
def test_huge_gate_activations_stay_finite_in_float32(
    cell_type: str, enter: float, forget: float
) -> None:
    layer: Any = drawn_layer(cell_type, dtype=torch.float32)
    set_gates(layer, enter, forget)
    for length in (40,) if cell_type == "slstm" else (40, 300):
        state = layer.initial_state(3)
        for _ in range(3):
            inputs = drawn(length, 3, INPUTS, dtype=torch.float32).requires_grad_()
            hidden, state = layer(inputs, detached((state,))[0])
            gradients = torch.autograd.grad(hidden.square().sum(), [inputs, *layer.parameters()])
            assert all(tensor.isfinite().all() for tensor in (hidden, *state, *gradients))
            assert cell_type == "mlstm" or (state[1] >= 1).all(), "the normaliser divides"


def test_a_zero_state_is_an_empty_memory_of_slstm_for_any_gates() -> None:
    layer: Any = drawn_layer("slstm", dtype=torch.float32)
    set_gates(layer, -300.0, 0.0)  # exp(-300) is zero in float32, unless the stabiliser follows
    inputs, zeros = drawn(4, 3, INPUTS, dtype=torch.float32), layer.initial_state(3)
    broken = tuple(torch.full_like(part, torch.nan) for part in zeros)
    fresh = layer(inputs, zeros)
    torch.testing.assert_close(layer(inputs, detached((broken,))[0]), fresh)
    assert fresh[0].isfinite().all()
    assert fresh[0].any()


def test_an_empty_memory_of_mlstm_reads_the_same_for_any_stabiliser() -> None:
    layer, inputs = drawn_layer("mlstm"), drawn(5, 2, INPUTS)
    memory, normaliser, stabiliser = layer.initial_state(2)
    torch.testing.assert_close(
        layer(inputs, (memory, normaliser, stabiliser - 4))[0],
        layer(inputs, (memory, normaliser, stabiliser))[0],
    )


def test_chunks_of_a_long_window_equal_mlstms_equations() -> None:
    layer: Any = drawn_layer("mlstm")
    assert 2 * WINDOW_CHUNK <= LONGEST_WHOLE_WINDOW < 300
    inputs = drawn(300, 2, INPUTS).requires_grad_()
    state = detached((layer(drawn(4, 2, INPUTS), layer.initial_state(2))[1],))[0]
    outputs, after = layer(inputs, state)
    wanted = expected("mlstm", layer, inputs, state)
    torch.testing.assert_close((outputs, after), (wanted.outputs, wanted.state))
    leaves = [inputs, *layer.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((outputs**2).sum(), leaves),
        torch.autograd.grad((wanted.outputs**2).sum(), leaves),
    )


ENTERS, FORGETS = (0.0, -10.0, 8.0), (-1.0, -10.0, -20.0, -30.0)


@pytest.mark.parametrize(
    ("length", "enter", "forget"),
    [
        *((35, enter, forget) for forget in FORGETS for enter in (0.0, -10.0, 8.0)),
        *((255, enter, forget) for enter, forget in zip((8.0, 0.0), FORGETS[1:3], strict=True)),
        *(
            (400, enter, forget)
            for enter, forget in zip((0.0, 8.0, -10.0, 0.0), FORGETS, strict=True)
        ),
    ],
)
def test_a_float32_window_is_as_exact_as_the_recurrence_for_any_gates(
    length: int, enter: float, forget: float
) -> None:
    """Hidden states, gradients and the state after it, against the recurrent form in float64."""
    layer, exact = MlstmLayer(16, 32, 4), MlstmLayer(16, 32, 4).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(2))
        layer.bias_ih[-8:-4] = enter
        layer.bias_ih[-4:] = forget
        for weight, its_copy in zip(layer.parameters(), exact.parameters(), strict=True):
            its_copy.copy_(weight)
    inputs = torch.randn(length, 2, 16, generator=torch.Generator().manual_seed(4))
    hidden, after = layer(inputs, layer.initial_state(2))
    rounded, _ = recurrent(layer, inputs)
    expected, state = recurrent(exact, inputs.double())
    # Where |n q| crosses its bound, h of any float32 computation is far off: the recurrence is then
    # the measure.
    assert relative(hidden, expected) < max(2e-6, 3 * relative(rounded, expected))
    for ours, theirs in zip(unscaled(after), unscaled(state), strict=True):
        assert relative(ours, theirs) < 1e-6
    weights = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(5))
    by_window, recurrences, exacts = (
        torch.autograd.grad((found * weights).sum(), list(of.parameters()))
        for found, of in ((hidden, layer), (rounded, layer), (expected, exact))
    )
    for gradient, by_steps, theirs in zip(by_window, recurrences, exacts, strict=True):
        assert relative(gradient, theirs) < max(5e-5, 3 * relative(by_steps, theirs))


def recurrent(layer: MlstmLayer, inputs_TBE: Tensor) -> tuple[Tensor, LayerState]:
    """The hidden states of the recurrent form, step by step, and the state after them."""
    state, steps = layer.initial_state(inputs_TBE.shape[1]), []
    for input_BE in inputs_TBE:
        step, state = layer.step(input_BE, state)
        steps.append(step)
    return torch.stack(steps), state


def unscaled(state: LayerState) -> tuple[Tensor, Tensor]:
    """n and C without their stabiliser."""
    memory, normaliser, stabiliser = state
    scale = torch.exp(stabiliser.double())[..., None]
    return normaliser.double() * scale, memory.double() * scale[..., None]


def relative(ours: Tensor, exact: Tensor) -> float:
    return float((ours - exact).abs().max().detach() / exact.abs().max().detach())
