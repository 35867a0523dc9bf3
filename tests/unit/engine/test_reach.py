"""The gradient by lag: that of the training pass, and the closed form of a linear cell."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.generation import lay_out_weights, read_text
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.engine.reach import gradient_by_lag
from rnnlm_tui.errors import InputError
from tests.unit.engine.builders import built_model

from .builders import small_model, text


def tokens(count: int) -> list[int]:
    return [int(token) for token in text(count, seed=4)]


def at_double_weights(cell_type: str) -> RecurrentLanguageModel:
    model = small_model(cell_type=cell_type).double()
    with torch.no_grad():
        for parameter in model.layers.parameters():
            parameter.mul_(2)
    return model


@pytest.mark.parametrize("cell_type", sorted(CELLS))
def test_gradients_of_a_model_with_packed_weights_are_the_same(cell_type: str) -> None:
    model = built_model(
        vocab_size=40, embedding_dim=256, hidden_size=256, num_layers=2, cell_type=cell_type
    )
    plain = gradient_by_lag(model, tokens(12), 9, lags=5)
    lay_out_weights(model)
    torch.testing.assert_close(gradient_by_lag(model, tokens(12), 9, lags=5), plain)


@pytest.mark.parametrize("cell_type", sorted(CELLS))
def test_gradient_of_every_cell_equals_that_of_the_training_pass(cell_type: str) -> None:
    """The pass that trains, from a token on, with respect to the state that it starts from."""
    model, ids = at_double_weights(cell_type), tokens(30)
    position = 20
    found = gradient_by_lag(model, ids, position, lags=100)
    assert len(found) == position, "the text begins there"
    assert len(gradient_by_lag(model, ids, position, lags=15)) == 16
    assert len(gradient_by_lag(model, ids, 1, lags=15)) == 1
    for lag in (1, 2, 7, 15, 19):
        first = position - lag
        with torch.no_grad():
            _, state = model.hidden(torch.tensor([ids[:first]]), model.initial_state(1))
        start = tuple(tuple(part.requires_grad_() for part in layer) for layer in state)
        logits, _ = model(torch.tensor([ids[first:position]]), start)
        loss = F.cross_entropy(logits[0, -1:], torch.tensor([ids[position]]))
        gradients = torch.autograd.grad(
            loss, [part for layer in start for part in layer], allow_unused=True
        )
        wanted = torch.cat([part.flatten() for part in gradients if part is not None]).norm()
        assert float(found[lag]) == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize("cell_type", sorted(CELLS))
def test_gradient_does_not_depend_on_where_the_text_was_divided(cell_type: str) -> None:
    model, ids = at_double_weights(cell_type), tokens(30)
    whole = gradient_by_lag(model, ids, 25, lags=10)
    start = read_text(model, ids[:12])
    torch.testing.assert_close(gradient_by_lag(model, ids[12:], 13, lags=10, start=start), whole)


def test_small_gradients_stay_above_zero_for_a_model_in_float32() -> None:
    model, ids = small_model(num_layers=1), tokens(210)
    before = [parameter.clone() for parameter in model.parameters()]
    norms = gradient_by_lag(model, ids, 205, lags=200)
    assert len(norms) == 201
    assert 0 < float(norms[200]) < 1e-100
    assert all(map(torch.equal, model.parameters(), before))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gradients_can_be_asked_for_in_inference_mode() -> None:
    model, ids = small_model(cell_type="slstm"), tokens(30)
    plain = gradient_by_lag(model, ids[10:], 15, lags=10, start=read_text(model, ids[:10]))
    with torch.inference_mode():
        start = read_text(model, ids[:10])
        inside = gradient_by_lag(model, ids[10:], 15, lags=10, start=start)
    assert inside.tolist() == plain.tolist()
    assert all(math.isfinite(norm) for norm in plain)


@pytest.mark.parametrize(
    ("count", "position", "message"),
    [
        *((5, position, "is not in 1 to 4") for position in (-1, 0, 5)),
        (1, 1, "at least two tokens"),
    ],
)
def test_a_position_without_a_gradient_is_refused(count: int, position: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        gradient_by_lag(small_model(), tokens(count), position, lags=3)
