"""mLSTM against a plain loop over its paper's equations; chunks, heads, and gates far out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.cells.base import LayerState
from rnnlm_tui.engine.cells.mlstm import MlstmLayer
from rnnlm_tui.engine.model import detached
from rnnlm_tui.schema.estimates import LONGEST_WHOLE_WINDOW, WINDOW_CHUNK
from tests.unit.engine.builders import built_model

INPUTS, HIDDEN, HEADS = 5, 6, 2
WIDTH = HIDDEN // HEADS


def drawn(*shape: int) -> Tensor:
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))
    )


def drawn_layer() -> MlstmLayer:
    layer = MlstmLayer(INPUTS, HIDDEN, HEADS).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.9, 0.9, generator=generator)
    return layer


def plain_loop(layer: MlstmLayer, inputs_TBE: Tensor, memory: Tensor, normaliser: Tensor) -> Tensor:
    """Equations 19 to 27 as they stand, without a stabiliser, for each head; C is (B, heads, d, d)
    and n (B, heads, d)."""
    rows = layer.weight_ih.split([HIDDEN] * 4 + [HEADS] * 2)  # type: ignore[no-untyped-call]
    biases = layer.bias_ih.split([HIDDEN] * 4 + [HEADS] * 2)  # type: ignore[no-untyped-call]
    heads = []
    for head in range(HEADS):
        own = slice(head * WIDTH, (head + 1) * WIDTH)
        c, n = memory[:, head], normaliser[:, head]
        outputs = []
        for input_BE in inputs_TBE:
            q, k, v, o, i, f = (
                input_BE @ weight.t() + bias for weight, bias in zip(rows, biases, strict=True)
            )
            q, k, v, o, i, f = (
                q[:, own],
                k[:, own] / math.sqrt(WIDTH),
                v[:, own],
                torch.sigmoid(o[:, own]),
                torch.exp(i[:, head]),
                torch.sigmoid(f[:, head]),
            )
            c = f[:, None, None] * c + i[:, None, None] * torch.einsum("bv,bk->bvk", v, k)
            n = f[:, None] * n + i[:, None] * k
            divisor = torch.clamp((n * q).sum(-1).abs(), min=1)
            outputs.append(o * torch.einsum("bvk,bk->bv", c, q) / divisor[:, None])
        heads.append(torch.stack(outputs))
    return torch.cat(heads, dim=-1)


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize("carried", [False, True])
def test_layer_and_its_gradients_equal_the_papers_equations(length: int, carried: bool) -> None:
    layer = drawn_layer()
    inputs, weights = drawn(length, 3, INPUTS).requires_grad_(), drawn(length, 3, HIDDEN)
    state = tuple(
        part.detach()
        for part in (
            layer(drawn(4, 3, INPUTS), layer.initial_state(3))[1]
            if carried
            else layer.initial_state(3)
        )
    )
    memory, normaliser, stabiliser = state
    # The layer has the factor at the query.
    scale = torch.exp(stabiliser).unsqueeze(-1) / math.sqrt(WIDTH)
    ours, _ = layer(inputs, state)
    expected = plain_loop(layer, inputs, memory * scale.unsqueeze(-1), normaliser * scale)
    torch.testing.assert_close(ours, expected)
    leaves = [inputs, *layer.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((ours * weights).sum(), leaves),
        torch.autograd.grad((expected * weights).sum(), leaves),
    )


def test_the_divisor_is_tested_on_both_sides_of_its_lower_bound() -> None:
    layer, inputs = drawn_layer(), drawn(9, 3, INPUTS)
    state, above = layer.initial_state(3), []
    for input_BE in inputs:
        _, state = layer.step(input_BE, state)
        _, normaliser, stabiliser = state
        query = (input_BE @ layer.weight_ih[:HIDDEN].t() + layer.bias_ih[:HIDDEN]).view(
            3, HEADS, WIDTH
        ) / math.sqrt(WIDTH)
        above.append(((normaliser * query).sum(-1) * torch.exp(stabiliser)).abs() > 1)
    assert 0 < torch.stack(above).double().mean() < 1


def test_a_window_in_chunks_equals_the_same_window_in_one_pass() -> None:
    layer, length = drawn_layer(), 300
    assert length > LONGEST_WHOLE_WINDOW > WINDOW_CHUNK
    inputs = drawn(length, 2, INPUTS).requires_grad_()
    state = tuple(part.detach() for part in layer(drawn(4, 2, INPUTS), layer.initial_state(2))[1])
    chunked, reached = layer(inputs, state)
    first, between = layer(inputs[:250], state)
    second, after = layer(inputs[250:], between)
    whole = torch.cat([first, second])
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(reached, after)
    by_chunks, by_windows = (
        torch.autograd.grad((hidden**2).sum(), [inputs, *layer.parameters()])
        for hidden in (chunked, whole)
    )
    torch.testing.assert_close(by_chunks, by_windows)


def test_chunks_equal_the_papers_equations_over_a_long_window() -> None:
    layer, inputs = drawn_layer(), drawn(300, 1, INPUTS)
    memory, normaliser, _ = layer.initial_state(1)
    torch.testing.assert_close(
        layer(inputs, layer.initial_state(1))[0], plain_loop(layer, inputs, memory, normaliser)
    )


def test_heads_do_not_mix_their_memories() -> None:
    layer, inputs = drawn_layer(), drawn(4, 1, INPUTS)
    state = tuple(part.detach() for part in layer(drawn(3, 1, INPUTS), layer.initial_state(1))[1])
    other = tuple(torch.cat([part[:, :1] + 0.5, part[:, 1:]], dim=1) for part in state)
    hidden, disturbed = layer(inputs, state)[0], layer(inputs, other)[0]
    assert not torch.allclose(hidden[..., :WIDTH], disturbed[..., :WIDTH])
    assert torch.equal(hidden[..., WIDTH:], disturbed[..., WIDTH:])


@pytest.mark.parametrize("forget", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("enter", [-50.0, 50.0])
@pytest.mark.parametrize("length", [40, 300])
def test_huge_gate_activations_stay_finite_in_float32(
    enter: float, forget: float, length: int
) -> None:
    layer = MlstmLayer(INPUTS, HIDDEN, HEADS)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(2))
        layer.bias_ih[4 * HIDDEN : -HEADS] = enter
        layer.bias_ih[-HEADS:] = forget
    state = layer.initial_state(3)
    for _ in range(3):
        inputs = torch.randn(
            length, 3, INPUTS, generator=torch.Generator().manual_seed(4)
        ).requires_grad_()
        hidden, state = layer(inputs, detached((state,))[0])
        gradients = torch.autograd.grad(hidden.square().sum(), [inputs, *layer.parameters()])
        assert all(tensor.isfinite().all() for tensor in (hidden, *state, *gradients))


@pytest.mark.parametrize("forget", [-1.0, -10.0, -20.0, -30.0])
@pytest.mark.parametrize("enter", [0.0, -10.0, 8.0])
@pytest.mark.parametrize("length", [35, 255, 400])
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


def test_an_empty_memory_reads_the_same_for_any_stabiliser() -> None:
    layer, inputs = drawn_layer(), drawn(5, 2, INPUTS)
    memory, normaliser, stabiliser = layer.initial_state(2)
    torch.testing.assert_close(
        layer(inputs, (memory, normaliser, stabiliser - 4))[0],
        layer(inputs, (memory, normaliser, stabiliser))[0],
    )


def test_default_weights_start_with_queries_that_match_every_key() -> None:
    model = built_model(
        vocab_size=9, embedding_dim=48, hidden_size=48, num_layers=1, cell_type="mlstm", num_heads=1
    )
    layer = model.layers[0]
    assert isinstance(layer, MlstmLayer)
    query, key = torch.nn.functional.linear(
        model.embedding.weight, layer.weight_ih[:96], layer.bias_ih[:96]
    ).chunk(2, dim=1)
    assert (query @ key.t() > 0).all()
    assert (layer.bias_ih[-1:] == -1).all()
