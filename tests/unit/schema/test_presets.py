"""The presets and the errors."""

from __future__ import annotations

import pytest

from rnnlm_tui import errors
from rnnlm_tui.errors import InputError, RnnlmError
from rnnlm_tui.schema.config import value_of
from rnnlm_tui.schema.estimates import checkpoint_bytes, parameter_count, steps_per_epoch
from rnnlm_tui.schema.memory import memory_parts
from rnnlm_tui.schema.metrics import perplexity
from rnnlm_tui.schema.presets import (
    PRESET_SUMMARIES,
    PRESETS,
    PTB_TRAINING_TOKENS,
    preset,
)
from rnnlm_tui.schema.validation import config_to_raw, parse_config


def test_every_preset_has_a_summary() -> None:
    assert (
        list(PRESETS)
        == list(PRESET_SUMMARIES)
        == [
            "demo",
            "lstm",
            "gru",
            "attention",
            "elman",
            "book",
            "transformer",
            "ptb-small",
            "ptb-medium",
            "ptb-large",
            "chars",
        ]
    )
    assert len(set(PRESET_SUMMARIES.values())) == len(PRESETS)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_is_valid_and_can_be_counted(name: str) -> None:
    config = PRESETS[name]
    assert parse_config(config_to_raw(config)) == config
    assert config.preset == name
    assert parameter_count(config.model, config.tokenizer.vocab_size).total > 10_000
    assert (
        memory_parts(config, config.tokenizer.vocab_size).total
        > checkpoint_bytes(config, config.tokenizer.vocab_size)
        > 0
    )


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_presets_after_the_demo_read_its_text(cell: str) -> None:
    demo, after = PRESETS["demo"], PRESETS[cell]
    assert after.model.cell_type == cell
    assert (after.corpus, after.tokenizer, after.evaluation) == (
        demo.corpus,
        demo.tokenizer,
        demo.evaluation,
    )


@pytest.mark.parametrize(
    ("name", "size", "dropout", "scale", "length", "norm", "epochs", "kept", "divisor"),
    [
        ("ptb-small", 200, 0.0, 0.1, 20, 5, 13, 4, 2.0),
        ("ptb-medium", 650, 0.5, 0.05, 35, 5, 39, 6, 1.2),
        ("ptb-large", 1_500, 0.65, 0.04, 35, 10, 55, 14, 1.15),
    ],
)
def test_the_penn_treebank_presets_are_those_of_the_paper(
    name: str, size: int, dropout: float, scale: float, length: int, norm: float, epochs: int,
    kept: int, divisor: float,
) -> None:  # fmt: skip
    paper: dict[str, object] = {
        "model.cell_type": "lstm", "model.num_layers": 2, "model.embedding_dim": size,
        "model.hidden_size": size, "model.dropout": dropout, "model.initialization": "uniform",
        "model.init_scale": scale, "model.tie_weights": False, "training.data_mode": "stream",
        "training.batch_size": 20, "training.bptt": length, "training.epochs": epochs,
        "schedule.kind": "decay", "schedule.warmup_steps": 0, "schedule.decay_after": kept,
        "optimizer.algorithm": "sgd", "optimizer.weight_decay": 0.0,
    }  # fmt: skip
    config = PRESETS[name]
    assert {path: value_of(config, path) for path in paper} == paper
    assert config.schedule.decay_factor * divisor == pytest.approx(1.0)
    # The paper sums the loss over the time steps of a window, here it is their mean: rate x
    # gradient and norm / gradient are the same.
    assert config.optimizer.learning_rate / length == pytest.approx(1.0)
    assert config.optimizer.max_grad_norm * length == pytest.approx(norm)


@pytest.mark.parametrize(
    ("name", "steps"), [("ptb-small", 2_324), ("ptb-medium", 1_328), ("ptb-large", 1_328)]
)
def test_the_penn_treebank_presets_evaluate_at_the_end_of_each_epoch(name: str, steps: int) -> None:
    config = PRESETS[name]
    assert steps_per_epoch(config, PTB_TRAINING_TOKENS, 42_068) == steps
    assert config.evaluation.every == config.checkpoint.every == steps


def test_an_unknown_preset_lists_the_known_ones() -> None:
    with pytest.raises(InputError) as caught:
        preset("deom")
    assert "demo, lstm, gru, attention, elman, book, transformer, ptb-small" in caught.value.message
    assert caught.value.hint == 'did you mean "demo"?'


def test_every_error_has_a_documented_exit_code() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, RnnlmError)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        assert kind.__name__ in (errors.__doc__ or "")
        assert kind.exit_code in (1, 2, 3, 4, 5)
    assert {kind.exit_code for kind in kinds if issubclass(kind, InputError)} == {2}


def test_perplexity_of_a_huge_loss_is_infinite() -> None:
    assert perplexity(0.0) == 1.0
    assert perplexity(1e6) == float("inf")
