"""sLSTM against a plain loop over its paper's equations; heads, weight dropout, and gates far
out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rnnlm_tui.engine.cells.base import WeightDroppingLayer, drop
from rnnlm_tui.engine.cells.slstm import SlstmLayer
from rnnlm_tui.engine.model import detached
from rnnlm_tui.errors import InputError
from tests.unit.engine.builders import built_model

INPUTS, HIDDEN, HEADS = 5, 6, 2
WIDTH = HIDDEN // HEADS


def drawn(*shape: int) -> Tensor:
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))
    )


def drawn_layer() -> SlstmLayer:
    layer = SlstmLayer(INPUTS, HIDDEN, HEADS).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.9, 0.9, generator=generator)
    return layer


def plain_loop(
    layer: SlstmLayer, inputs_TBE: Tensor, cell: Tensor, normaliser: Tensor, hidden: Tensor
) -> Tensor:
    """Equations 8 to 14 as they stand, without a stabiliser, one head after the other; the states
    are (B, H)."""
    weights = layer.weight_ih.view(HEADS, 4, WIDTH, INPUTS)
    recurrent = layer.weight_hh.view(HEADS, 4, WIDTH, WIDTH)
    biases = layer.bias_ih.view(HEADS, 4, WIDTH)
    heads = []
    for head in range(HEADS):
        own = slice(head * WIDTH, (head + 1) * WIDTH)
        c, n, h = cell[:, own], normaliser[:, own], hidden[:, own]
        outputs = []
        for input_BE in inputs_TBE:
            o, z, i, f = (
                input_BE @ weights[head, gate].t()
                + h @ recurrent[head, gate].t()
                + biases[head, gate]
                for gate in range(4)
            )
            c = torch.sigmoid(f) * c + torch.exp(i) * torch.tanh(z)
            n = torch.sigmoid(f) * n + torch.exp(i)
            h = torch.sigmoid(o) * c / n
            outputs.append(h)
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
    cell, normaliser, hidden, stabiliser = state
    scale = torch.exp(stabiliser)
    ours, _ = layer(inputs, state)
    expected = plain_loop(layer, inputs, cell * scale, normaliser * scale, hidden)
    torch.testing.assert_close(ours, expected)
    leaves = [inputs, *layer.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad((ours * weights).sum(), leaves),
        torch.autograd.grad((expected * weights).sum(), leaves),
    )


def test_heads_do_not_mix_their_memories() -> None:
    layer = drawn_layer()
    inputs = drawn(4, 1, INPUTS)
    states = tuple(part.detach() for part in layer(drawn(3, 1, INPUTS), layer.initial_state(1))[1])
    other = tuple(torch.cat([part[:, :WIDTH] + 0.5, part[:, WIDTH:]], dim=1) for part in states)
    hidden, disturbed = layer(inputs, states)[0], layer(inputs, other)[0]
    assert not torch.allclose(hidden[..., :WIDTH], disturbed[..., :WIDTH])
    assert torch.equal(hidden[..., WIDTH:], disturbed[..., WIDTH:])


def test_weight_dropout_drops_the_same_weights_at_every_step_of_a_pass() -> None:
    layer = drawn_layer()
    assert isinstance(layer, WeightDroppingLayer)
    inputs, state = drawn(8, 2, INPUTS), layer.initial_state(2)
    whole, _ = layer(inputs, state)
    layer.weight_dropout = 0.5
    torch.manual_seed(3)
    dropped, _ = layer(inputs, state)
    assert not torch.allclose(dropped, whole)
    torch.testing.assert_close(layer.eval()(inputs, state)[0], whole)
    torch.manual_seed(3)
    with torch.no_grad():
        layer.weight_hh.copy_(drop(layer.weight_hh, 0.5))
    torch.testing.assert_close(layer(inputs, state)[0], dropped)


@pytest.mark.parametrize("forget", [-50.0, 0.0, 50.0])
@pytest.mark.parametrize("enter", [-50.0, 50.0])
def test_huge_gate_activations_stay_finite_in_float32(enter: float, forget: float) -> None:
    layer = SlstmLayer(INPUTS, HIDDEN, HEADS)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(2))
        layer.bias_ih.view(HEADS, 4, WIDTH)[:, 2] = enter
        layer.bias_ih.view(HEADS, 4, WIDTH)[:, 3] = forget
    state = layer.initial_state(3)
    for _ in range(3):
        inputs = torch.randn(
            40, 3, INPUTS, generator=torch.Generator().manual_seed(4)
        ).requires_grad_()
        hidden, state = layer(inputs, detached((state,))[0])
        gradients = torch.autograd.grad(hidden.square().sum(), [inputs, *layer.parameters()])
        assert all(tensor.isfinite().all() for tensor in (hidden, *state, *gradients))
        assert (state[1] >= 1).all(), "the normaliser divides"


def test_a_zero_state_is_an_empty_memory_for_any_gates() -> None:
    layer = drawn_layer().float()
    with torch.no_grad():
        # Exp(-300) is zero in float32, unless the stabiliser follows.
        layer.bias_ih.view(HEADS, 4, WIDTH)[:, 2] = -300.0
    inputs = torch.randn(4, 3, INPUTS)
    broken = tuple(torch.full_like(part, float("nan")) for part in layer.initial_state(3))
    after_loss, fresh = layer(inputs, detached((broken,))[0]), layer(inputs, layer.initial_state(3))
    torch.testing.assert_close(after_loss, fresh)
    assert fresh[0].isfinite().all()
    assert fresh[0].any()


def test_default_weights_start_with_nearly_closed_forget_gates() -> None:
    def biases(initialization: str) -> Tensor:
        model = built_model(
            vocab_size=9,
            embedding_dim=6,
            hidden_size=6,
            num_layers=1,
            cell_type="slstm",
            num_heads=HEADS,
            initialization=initialization,
        )
        return dict(model.named_parameters())["layers.0.bias_ih"].detach().view(HEADS, 4, WIDTH)

    assert (biases("default")[:, 3] == -2).all()
    assert not (biases("default")[:, :3] == -2).any()
    assert not (biases("uniform")[:, 3] == -2).any()


def test_heads_that_do_not_divide_the_hidden_size_are_refused() -> None:
    with pytest.raises(InputError, match="num_heads = 4 must divide the hidden size of 6"):
        SlstmLayer(INPUTS, HIDDEN, 4)
