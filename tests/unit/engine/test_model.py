"""The model: parameter count, forward and step, weights, dropout and tying."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.nn import functional as F

from rnnlm_tui.engine.cells import CELLS
from rnnlm_tui.engine.cells.base import drop_units
from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.engine.model import RecurrentLanguageModel, detached, look_up
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.config import ModelConfig
from rnnlm_tui.schema.estimates import parameter_count
from rnnlm_tui.schema.presets import BOOK
from tests.unit.engine.builders import built_model

from .builders import small_model


def built(
    config: ModelConfig, vocab_size: int, pad_id: int | None = None
) -> RecurrentLanguageModel:
    return built_model(vocab_size=vocab_size, pad_id=pad_id, **config.model_dump())


def test_book_preset_has_the_books_parameter_count() -> None:
    assert built(BOOK.model, BOOK.tokenizer.vocab_size, pad_id=32_000).num_parameters() == 8_292_619


@pytest.mark.parametrize(
    ("cell_type", "tied", "initialization"),
    list(product(sorted(CELLS), [False, True], ["default", "book"])),
)
def test_built_models_have_the_estimated_count(
    cell_type: str, tied: bool, initialization: str
) -> None:
    for width, hidden, layers, vocab_size in product([1, 7], [1, 7, 12], [1, 3], [2, 31]):
        embedding = hidden if tied or cell_type == "transformer" else width
        values = {
            "cell_type": cell_type,
            "embedding_dim": embedding,
            "hidden_size": hidden,
            "num_layers": layers,
        }
        more = {
            "num_heads": 4 if hidden % 4 == 0 else 1,
            "tie_weights": tied,
            "initialization": initialization,
        }
        config = ModelConfig.model_validate({**values, **more})
        assert (
            built(config, vocab_size, pad_id=0).num_parameters()
            == parameter_count(config, vocab_size).total
        )


@pytest.mark.parametrize("tied", [False, True])
def test_a_window_and_steps_from_its_state_equal_one_pass(tied: bool) -> None:
    model = small_model(tie_weights=tied).eval()
    tokens = torch.arange(1, 21).view(2, 10)
    logits, after = model(tokens, model.initial_state(2))
    first, state = model(tokens[:, :3], model.initial_state(2))
    torch.testing.assert_close(first, logits[:, :3])
    for time in range(3, 10):
        step, state = model.step(tokens[:, time], state)
        torch.testing.assert_close(step, logits[:, time])
    torch.testing.assert_close(state, after)


@pytest.mark.parametrize("selected", [False, True])
def test_loss_inside_forward_equals_cross_entropy_of_the_logits_without_padding(
    selected: bool,
) -> None:
    model = small_model().double()
    tokens, targets = (
        torch.tensor([[1, 2, 3], [4, 5, 0]]),
        torch.tensor([[2, 3, 4], [5, IGNORED, IGNORED]]),
    )
    logits, _ = model(tokens, model.initial_state(2))
    rows = (targets.t().flatten() != IGNORED).nonzero().squeeze(1) if selected else None
    loss, _ = model(tokens, model.initial_state(2), targets, rows)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    for gradient, wanted in zip(
        gradients, torch.autograd.grad(expected, list(model.parameters())), strict=True
    ):
        torch.testing.assert_close(gradient, wanted)


@pytest.mark.parametrize("pad_id", [None, 3])
def test_looked_up_vectors_and_their_gradient_equal_torchs(pad_id: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(11, 4, dtype=torch.float64, generator=generator).requires_grad_()
    tokens, above = (
        torch.randint(11, (5, 6), generator=generator),
        torch.randn(5, 6, 4, dtype=torch.float64, generator=generator),
    )
    ours, theirs = look_up(tokens, weight, pad_id), F.embedding(tokens, weight, padding_idx=pad_id)
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, weight, above)[0], torch.autograd.grad(theirs, weight, above)[0]
    )


def test_tied_weights_are_one_matrix_with_a_separate_bias() -> None:
    model = small_model(tie_weights=True)
    assert model.output.weight is model.embedding.weight
    assert "output.bias" in dict(model.named_parameters())


def test_same_seed_gives_the_same_weights_without_the_global_generator() -> None:
    before = torch.get_rng_state()
    first, second, other = small_model(seed=1), small_model(seed=1), small_model(seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
    assert not torch.equal(first.embedding.weight, other.embedding.weight)


def test_default_weights_have_zero_output_bias_and_zero_padding_vector() -> None:
    model = small_model(pad_id=4)
    assert not model.output.bias.any()
    assert not model.embedding.weight[4].any()
    assert model.embedding.weight[5].any()
    for name, gain in {
        "embedding.weight": 2.0,
        "layers.0.weight_ih_l0": 4.0,
        "layers.1.weight_hh_l0": 0.5,
        "layers.0.bias_ih_l0": 1.0,
    }.items():
        assert dict(model.named_parameters())[name].abs().max().item() == pytest.approx(
            gain / 12**0.5, rel=0.15
        )


def test_book_weights_are_xavier_matrices_and_positive_vectors() -> None:
    config = ModelConfig(
        embedding_dim=64, hidden_size=64, dropout=0.0, tie_weights=False, initialization="book"
    )
    model = built(config, 500, pad_id=3)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            bound = (6 / (parameter.shape[0] + parameter.shape[1])) ** 0.5
            assert parameter.abs().max() <= bound
            assert parameter.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
        else:
            assert parameter.min() >= 0
            assert parameter.mean().item() == pytest.approx(0.5, abs=0.15)
    assert model.output.bias.max() > 0.9


@pytest.mark.parametrize("scale", [0.04, 0.1])
def test_uniform_weights_fill_their_bounds_including_biases(scale: float) -> None:
    config = ModelConfig(
        embedding_dim=64,
        hidden_size=64,
        dropout=0.0,
        tie_weights=False,
        initialization="uniform",
        init_scale=scale,
    )
    model = built(config, 500, pad_id=3)
    assert not model.embedding.weight[3].any()
    for parameter in model.parameters():
        assert parameter.abs().max() <= scale
        assert parameter.abs().max() > 0.9 * scale
        assert parameter.std().item() == pytest.approx(scale / 3**0.5, rel=0.2)


def test_variational_dropout_uses_one_mask_for_all_time_steps_at_every_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masks = []

    def spied(features_TBE: torch.Tensor, rate: float) -> torch.Tensor:
        dropped = drop_units(features_TBE, rate)
        masks.append((dropped / features_TBE).detach())
        return dropped

    monkeypatch.setattr("rnnlm_tui.engine.model.drop_units", spied)
    model = built_model(
        vocab_size=23,
        embedding_dim=40,
        hidden_size=40,
        num_layers=2,
        dropout=0.5,
        variational_dropout=True,
    )
    model(torch.randint(0, 23, (3, 7)), model.initial_state(3))
    assert len(masks) == 3
    for mask in masks:
        torch.testing.assert_close(mask, mask[:1].expand_as(mask))
        assert set(mask.flatten().round().tolist()) == {0.0, 2.0}
    assert not torch.equal(masks[0][0].round(), masks[1][0].round())


def test_word_dropout_does_not_affect_a_tied_output_matrix() -> None:
    model = built_model(
        vocab_size=23,
        embedding_dim=12,
        hidden_size=12,
        num_layers=1,
        embedding_dropout=0.99,
        tie_weights=True,
    )
    torch.manual_seed(0)
    hidden, _ = model.hidden(torch.zeros(1, 2, dtype=torch.long), model.initial_state(1))
    torch.manual_seed(0)
    logits, _ = model(torch.zeros(1, 2, dtype=torch.long), model.initial_state(1))
    # All words are dropped from the input (almost surely), none from the output.
    torch.testing.assert_close(
        hidden.detach()[0, 0],
        torch.tanh(dict(model.named_parameters())["layers.0.bias_ih_l0"].detach()),
    )
    torch.testing.assert_close(logits, F.linear(hidden, model.output.weight, model.output.bias))


@pytest.mark.parametrize(
    "option",
    [
        {"dropout": 0.4},
        {"dropout": 0.4, "variational_dropout": True},
        {"embedding_dropout": 0.4},
    ],
)
def test_dropout_applies_only_in_training_and_never_in_steps(option: dict[str, float]) -> None:
    model = built_model(
        vocab_size=23,
        embedding_dim=12,
        hidden_size=12,
        num_layers=2,
        **option,
    )
    tokens = torch.arange(1, 21).view(2, 10)
    noisy, _ = model(tokens, model.initial_state(2))
    again, _ = model(tokens, model.initial_state(2))
    assert not torch.equal(noisy, again)
    step, _ = model.step(tokens[:, 0], model.initial_state(2))
    model.eval()
    clean, _ = model(tokens, model.initial_state(2))
    torch.testing.assert_close(step, clean[:, 0])


def test_impossible_models_are_refused_with_the_allowed_values() -> None:
    shape = {"vocab_size": 5, "embedding_dim": 4, "hidden_size": 4, "num_layers": 1}
    with pytest.raises(InputError, match="not 4 and 6"):
        built_model(**{**shape, "hidden_size": 6}, tie_weights=True)


def test_a_non_finite_state_does_not_reach_the_next_step() -> None:
    ((state,),) = detached(
        ((torch.tensor([[float("nan"), 0.5, float("inf")]], requires_grad=True),),)
    )
    assert state.tolist() == [[0.0, 0.5, 0.0]]
    assert not state.requires_grad
