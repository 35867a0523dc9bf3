"""Weight dropout: one mask of the state-to-state weights for a whole pass, in training alone."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from rnnlm_tui.engine.cells import CELLS, RecurrentLayer, WeightDroppingLayer
from rnnlm_tui.engine.cells.base import kernel_weights, state_weights
from rnnlm_tui.engine.cells.elman import ElmanLayer
from rnnlm_tui.engine.cells.gru import GruLayer
from rnnlm_tui.engine.cells.lstm import LstmLayer
from rnnlm_tui.errors import InputError
from tests.unit.engine.builders import built_model

DROPPING = sorted(
    name for name, build in CELLS.items() if isinstance(build(4, 4, 1), WeightDroppingLayer)
)
WITHOUT = sorted(set(CELLS) - set(DROPPING))


def drawn_layer(cell_type: str, rate: float, hidden: int = 6) -> RecurrentLayer:
    layer = CELLS[cell_type](5, hidden, 2)
    cast(WeightDroppingLayer, layer).weight_dropout = rate
    module = cast(nn.Module, layer).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(
                -0.7, 0.7, generator=torch.Generator().manual_seed(parameter.numel())
            )
    return layer


def drawn(*shape: int) -> Tensor:
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape))
    )


def gated_layers(rate: float) -> list[ElmanLayer | LstmLayer | GruLayer]:
    return [
        cast(ElmanLayer | LstmLayer | GruLayer, drawn_layer(name, rate))
        for name in ("elman", "lstm", "gru")
    ]


def test_every_cell_with_state_to_state_weights_can_drop_them() -> None:
    assert DROPPING == ["elman", "gru", "lstm", "slstm"]


@pytest.mark.parametrize("cell_type", DROPPING)
def test_training_drops_different_weights_each_pass_and_evaluation_none(cell_type: str) -> None:
    layer, whole = drawn_layer(cell_type, 0.5), drawn_layer(cell_type, 0.0)
    inputs, state = drawn(7, 3, 5), layer.initial_state(3)
    torch.manual_seed(5)
    first, second = layer(inputs, state)[0], layer(inputs, state)[0]
    torch.manual_seed(5)
    torch.testing.assert_close(layer(inputs, state)[0], first, rtol=0, atol=0)
    assert not torch.allclose(first, second)
    cast(nn.Module, layer).eval()
    torch.testing.assert_close(layer(inputs, state), whole(inputs, state))
    torch.testing.assert_close(layer.step(inputs[0], state), whole.step(inputs[0], state))


@pytest.mark.parametrize("cell_type", DROPPING)
def test_gradient_reaches_the_parameters_with_weight_dropout(cell_type: str) -> None:
    layer = drawn_layer(cell_type, 0.5)
    module = cast(nn.Module, layer)
    (layer(drawn(7, 3, 5), layer.initial_state(3))[0] ** 2).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_dropped_weights_are_dropped_at_every_step_and_get_no_gradient() -> None:
    for layer in gated_layers(0.5):
        torch.manual_seed(9)
        mask = state_weights(layer).detach() / layer.weight_hh_l0.detach()
        assert set(mask.flatten().tolist()) == {0.0, 2.0}
        torch.manual_seed(9)
        hidden, after = layer(drawn(7, 3, 5), layer.initial_state(3))
        (gradient,) = torch.autograd.grad(hidden.square().sum(), layer.weight_hh_l0)
        assert torch.equal(gradient == 0, mask == 0)
        with torch.no_grad():
            layer.weight_hh_l0.mul_(mask)
        layer.eval()  # masked by hand, the same at each of the seven steps
        torch.testing.assert_close(layer(drawn(7, 3, 5), layer.initial_state(3)), (hidden, after))


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_rate_and_scale_are_as_requested(rate: float) -> None:
    torch.manual_seed(3)
    layer = cast(LstmLayer, drawn_layer("lstm", rate, hidden=100))
    dropped = state_weights(layer)
    assert (dropped == 0).double().mean().item() == pytest.approx(
        rate, abs=5 * (rate * (1 - rate) / 40_000) ** 0.5
    )
    kept = dropped != 0
    torch.testing.assert_close(
        dropped[kept], layer.weight_hh_l0[kept] / (1 - rate), rtol=1e-4, atol=0
    )


def test_a_gpus_kernel_gets_the_dropped_weights_in_one_block_of_memory() -> None:
    for layer in gated_layers(0.5):
        dropped = state_weights(layer)
        weights = kernel_weights(layer, dropped, block=True)
        torch.testing.assert_close(
            weights,
            [layer.weight_ih_l0, dropped, layer.bias_ih_l0, layer.bias_hh_l0],
            rtol=0,
            atol=0,
        )
        begins = [0]
        for weight in weights:
            assert weight.is_contiguous()
            assert weight.storage_offset() == begins[-1]
            begins.append(begins[-1] + weight.numel())
        assert weights[0].untyped_storage().nbytes() == 8 * begins[-1]
        assert all(
            ours is own
            for ours, own in zip(
                kernel_weights(layer, layer.weight_hh_l0, block=True),
                layer._flat_weights,
                strict=True,
            )
        )


def test_model_sets_its_rate_on_every_layer() -> None:
    shape = {"vocab_size": 5, "embedding_dim": 4, "hidden_size": 4, "num_layers": 2}
    model = built_model(**shape, cell_type="lstm", weight_dropout=0.3)
    assert [layer.weight_dropout for layer in model.layers] == [0.3, 0.3]


@pytest.mark.parametrize("cell_type", WITHOUT)
def test_cells_without_state_to_state_weights_refuse_weight_dropout(cell_type: str) -> None:
    shape = {"vocab_size": 5, "embedding_dim": 4, "hidden_size": 4, "num_layers": 1, "num_heads": 2}
    with pytest.raises(InputError, match="no state-to-state weights"):
        built_model(**shape, cell_type=cell_type, weight_dropout=0.3)
