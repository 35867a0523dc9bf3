"""Looking inside: surprise, rank, entropy, activations and gates at each token of a text."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from rnnlm_tui.engine import inspection
from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.generation import read_text
from rnnlm_tui.engine.inspection import (
    activity,
    gates_and_saturation,
    layer_index,
    logits_at,
    trace,
)
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import InputError

from .builders import VOCAB_SIZE, small_model, text

EVERY_CELL = pytest.mark.parametrize("cell_type", sorted(CELLS))


def strong_model(
    cell_type: str = "elman", *, vocab_size: int = VOCAB_SIZE, width: int = 12
) -> RecurrentLanguageModel:
    """Weights above their usual size, so that its predictions are far from uniform."""
    model = small_model(cell_type=cell_type, vocab_size=vocab_size, width=width)
    with torch.no_grad():
        for parameter in (*model.layers.parameters(), model.output.weight):
            parameter.mul_(1.5)
    return model


def tokens(count: int, seed: int = 0) -> list[int]:
    return [int(token) for token in text(count, seed)]


def exact_log2(model: RecurrentLanguageModel, ids: list[int]) -> Tensor:
    """log2 p of every token after each of the ids, (T, V), by a plain forward pass in float64."""
    exact = copy.deepcopy(model).double().eval()
    with torch.no_grad():
        logits: Tensor = exact(torch.tensor([ids]), exact.initial_state(1))[0]
    return logits[0].log_softmax(-1) / math.log(2)


@EVERY_CELL
def test_surprise_equals_a_forward_pass_in_float64(cell_type: str) -> None:
    model, ids = strong_model(cell_type, vocab_size=300, width=64), tokens(400)
    exact = exact_log2(model, ids)[:-1]
    seen = trace(model, ids)
    wanted = -exact.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    assert wanted.std() > 0.3
    torch.testing.assert_close(seen.bits_T[1:], wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        seen.entropy_T[1:], -(exact.exp2() * exact).sum(1), atol=1e-4, rtol=0
    )
    assert seen.bits_per_token == pytest.approx(float(wanted.mean()), abs=1e-5)
    assert seen.predicted == 399


@EVERY_CELL
def test_a_text_in_two_parts_is_as_surprising_as_in_one(cell_type: str) -> None:
    model, ids = small_model(cell_type=cell_type), tokens(60)
    whole, second = trace(model, ids), trace(model, ids[25:], read_text(model, ids[:25]))
    torch.testing.assert_close(second.bits_T, whole.bits_T[25:], atol=1e-5, rtol=0)
    torch.testing.assert_close(second.outputs_LTH, whole.outputs_LTH[:, 25:], atol=1e-5, rtol=0)
    torch.testing.assert_close(second.entropy_T, whole.entropy_T[25:], atol=1e-5, rtol=0)
    assert second.predicted == 35


def test_nothing_predicts_the_first_token_of_the_initial_state() -> None:
    seen = trace(small_model(), tokens(5))
    assert seen.bits_T.isnan().tolist() == [True] + [False] * 4
    assert seen.entropy_T.isnan().tolist() == [True] + [False] * 4
    assert int(seen.rank_T[0]) == 0
    assert int(seen.rank_T[1:].min()) >= 1


def test_rank_counts_the_tokens_before_it_and_ties_go_by_index() -> None:
    model = small_model()
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.zero_()
        model.output.bias[7] = 1
    assert trace(model, [1, 7, 0, 3, 8, 22]).rank_T.tolist() == [0, 1, 2, 5, 9, 23]


def test_rank_agrees_with_sorting_the_logits() -> None:
    model, ids = strong_model(), tokens(40)
    seen = trace(model, ids)
    for position in range(1, 40):
        order = logits_at(model, seen, position).argsort(descending=True, stable=True).tolist()
        assert order.index(ids[position]) + 1 == int(seen.rank_T[position])


def test_a_long_text_is_read_and_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = strong_model(), tokens(50)
    whole = trace(model, ids)
    monkeypatch.setattr(inspection, "PRODUCT_NUMBERS", 7 * VOCAB_SIZE)
    monkeypatch.setattr(inspection, "SOFTMAX_NUMBERS", 2 * VOCAB_SIZE)
    monkeypatch.setattr(inspection, "WINDOW", 11)
    parts = trace(model, ids)
    torch.testing.assert_close(parts.outputs_LTH, whole.outputs_LTH)
    torch.testing.assert_close(parts.bits_T, whole.bits_T, equal_nan=True, atol=1e-6, rtol=0)
    assert torch.equal(parts.rank_T, whole.rank_T)


def test_logits_at_a_position_are_the_ones_that_predict_its_token() -> None:
    model, ids = strong_model(), tokens(20)
    seen = trace(model, ids)
    for position in range(1, 20):
        losses = -logits_at(model, seen, position).double().log_softmax(0) / math.log(2)
        assert float(losses[ids[position]]) == pytest.approx(float(seen.bits_T[position]), abs=1e-5)
    with torch.no_grad():
        plain, _ = model(torch.tensor([ids]), model.initial_state(1))
    torch.testing.assert_close(logits_at(model, seen, 20), plain[0, -1])


def test_a_start_predicts_the_first_token_and_what_follows_an_empty_text() -> None:
    model, ids = strong_model(), tokens(20)
    whole, start = trace(model, ids), read_text(model, ids[:-1])
    for rest in (ids[-1:], []):
        seen = trace(model, rest, start)
        torch.testing.assert_close(logits_at(model, seen, 0), logits_at(model, whole, 19))


def test_positions_outside_the_text_and_an_unpredicted_first_token_are_refused() -> None:
    model = small_model()
    seen = trace(model, tokens(3))
    with pytest.raises(InputError, match="nothing predicts the first token"):
        logits_at(model, seen, 0)
    for position in (-1, 4):
        with pytest.raises(InputError, match="is not in 0 to 3"):
            logits_at(model, seen, position)


def test_an_empty_text_has_no_figures() -> None:
    seen = trace(small_model(), [])
    assert seen.outputs_LTH.shape == (2, 0, 12)
    assert seen.predicted == 0
    assert math.isnan(seen.bits_per_token)
    assert activity(seen.outputs_LTH[0]).norm_T.shape == (0,)
    assert gates_and_saturation(small_model(), seen, 0) == ({}, None)


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    for wrong in (-1, VOCAB_SIZE):
        with pytest.raises(InputError, match=f"token {wrong} is outside the vocabulary"):
            trace(small_model(), [1, wrong])


def test_a_diverged_model_is_refused() -> None:
    model = small_model()
    with torch.no_grad():
        model.output.bias[0] = math.nan
    with pytest.raises(InputError, match="predicts NaN"):
        trace(model, tokens(4))


def test_tracing_has_no_dropout_and_changes_neither_mode_nor_generators() -> None:
    model, ids = small_model(dropout=0.5, all_dropouts=True).train(), tokens(30)
    before = torch.get_rng_state()
    first, second = trace(model, ids), trace(model, ids)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.outputs_LTH, second.outputs_LTH)


def test_activity_is_norm_and_change() -> None:
    outputs = torch.tensor([[0.95, -0.91, 0.0, 0.0], [0.95, 0.5, 0.0, 0.0], [0.95, 0.5, 3.0, 4.0]])
    seen = activity(outputs)
    torch.testing.assert_close(seen.norm_T, outputs.pow(2).sum(1).sqrt())
    torch.testing.assert_close(seen.change_T, torch.tensor([0.0, 1.41, 5.0]))


@EVERY_CELL
@torch.no_grad()
def test_a_layers_gates_and_saturation_are_averaged_at_each_token_of_a_text(
    cell_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "WINDOW", 3)
    model, ids = small_model(cell_type=cell_type), [3, 1, 4, 1, 5, 9, 2, 6]
    for parameter in model.layers.parameters():
        parameter.mul_(2)  # so that some units saturate
    seen = trace(model, ids)
    for index, inputs_TE in enumerate((model.embedding.weight[ids], seen.outputs_LTH[0])):
        layer = list(model.cells)[index]
        own = layer.inside(
            inputs_TE[:, None], seen.outputs_LTH[index][:, None], layer.initial_state(1)
        )
        found, saturated_T = gates_and_saturation(model, seen, index)
        assert list(found) == list(own.gates)
        for name, gate_T in found.items():
            torch.testing.assert_close(gate_T, own.gates[name].mean((1, 2)))
        if own.tanh_TBH is None:
            assert saturated_T is None
        else:
            assert saturated_T is not None
            torch.testing.assert_close(saturated_T, (own.tanh_TBH.abs() > 0.9).float().mean((1, 2)))
            assert 0 < float(saturated_T.mean()) < 1


def test_a_layer_that_the_model_lacks_is_refused() -> None:
    model = small_model()
    assert [layer_index(model, layer) for layer in (0, 1, -1, -2)] == [0, 1, 1, 0]
    for layer in (2, -3):
        with pytest.raises(InputError, match=f"layer {layer} is not in 0 to 1"):
            layer_index(model, layer)


@EVERY_CELL
def test_outputs_are_each_layers_own(cell_type: str) -> None:
    model, ids = small_model(cell_type=cell_type), tokens(15)
    seen = trace(model, ids)
    features = F.embedding(torch.tensor(ids)[:, None], model.embedding.weight)
    for layer, outputs_TH in zip(model.cells, seen.outputs_LTH, strict=True):
        features, _ = layer(features, layer.initial_state(1))
        torch.testing.assert_close(features[:, 0], outputs_TH)
