"""The book's learning curve, and which runs are comparable with it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from rnnlm_tui.schema.presets import BOOK, DEMO, ELMAN
from rnnlm_tui.schema.reference import (
    REFERENCE,
    SENTENCES,
    first_pass_sentences,
    follows_reference,
    nearest_reference_point,
    reference_points,
)
from rnnlm_tui.schema.validation import merge, parse_config


def test_the_reference_goes_from_266_to_72_41() -> None:
    assert REFERENCE[0] == (200_064, 266.13)
    assert REFERENCE[-1] == (SENTENCES, 72.41)
    assert (3_000_960, 92.16) in REFERENCE
    assert all(after.sentences > before.sentences for before, after in pairwise(REFERENCE))


def test_every_point_is_one_of_the_evaluations_after_1563_batches_of_128() -> None:
    assert all(point.sentences % (1_563 * 128) == 0 for point in REFERENCE[:-1])


def test_the_preset_book_is_comparable_and_the_others_are_not() -> None:
    assert follows_reference(BOOK)
    assert not follows_reference(DEMO)
    assert not follows_reference(ELMAN)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("training.max_steps", 3_126), ("training.epochs", 2), ("training.seed", 7),
        ("training.device", "cpu"), ("training.matmul", "float32"),
        ("training.precision", "bf16"), ("training.threads", 1), ("training.deterministic", True),
        ("evaluation.every", 500), ("evaluation.prompts", ["Moscow"]),
        ("checkpoint.every", 0), ("sampling.greedy", False),
        ("corpus.url", "https://example.org/news"), ("tokenizer.name", "/data/phi"),
        ("preset", "demo"),
        ("corpus.validation_fraction", 0.01), ("corpus.validation_fraction", 1e-6),
    ],
)  # fmt: skip
def test_changes_without_an_effect_keep_a_run_comparable(path: str, value: object) -> None:
    assert follows_reference(parse_config(merge(BOOK, {path: value})))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("corpus.source", "presidents"), ("corpus.mask_digits", False), ("corpus.lowercase", True),
        ("tokenizer.vocab_size", 32_012), ("tokenizer.end_of_sentence", True),
        ("model.cell_type", "lstm"), ("model.hidden_size", 256), ("model.num_layers", 3),
        ("model.embedding_dim", 64), ("model.dropout", 0.1),
        ("model.initialization", "default"), ("optimizer.learning_rate", 3e-3),
        ("optimizer.max_grad_norm", 1.0), ("optimizer.weight_decay", 0.1),
        ("schedule.kind", "cosine"), ("schedule.warmup_steps", 100), ("training.batch_size", 64),
        ("training.context_length", 60), ("training.shuffle", True),
        ("evaluation.max_sentences", 2_048), ("evaluation.split", "validation"),
        ("corpus.validation_fraction", 0.45), ("corpus.validation_fraction", 0.011),
    ],
)  # fmt: skip
def test_changes_with_an_effect_make_a_run_incomparable(path: str, value: object) -> None:
    assert not follows_reference(parse_config(merge(BOOK, {path: value})))


@pytest.mark.parametrize(
    ("sentences", "perplexity"),
    [
        (0, 266.13),
        (200_064, 266.13),
        (1_150_000, 125.34),
        (3_000_960, 92.16),
        (4_900_000, 86.77),
        (30_000_000, 72.41),
    ],
)
def test_the_nearest_measured_evaluation_is_taken(sentences: int, perplexity: float) -> None:
    assert nearest_reference_point(sentences).perplexity == perplexity


def test_a_run_is_compared_during_its_first_epoch() -> None:
    assert first_pass_sentences(128) == 172_148 * 128
    assert first_pass_sentences(128, 171_804.0) == 171_804 * 128
    assert first_pass_sentences(128, 400_000.0) == 172_148 * 128


def test_the_reference_ends_with_the_first_epoch_of_the_run() -> None:
    assert reference_points(128) == reference_points(128, 171_804.0) == REFERENCE
    five = [point.perplexity for point in reference_points(128, 1_563 * 5)]
    assert five == [266.13, 183.23, 153.22, 136.38, 125.34]
    assert reference_points(128, 100.0) == ()
