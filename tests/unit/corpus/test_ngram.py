"""The bigram baseline, against the formula in plain Python."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from rnnlm_tui.corpus import ngram
from rnnlm_tui.corpus.ngram import BigramModel, sentence_pairs, stream_pairs

VOCABULARY = 23


def text(seed: int, count: int) -> NDArray[np.uint16]:
    """Tokens of very different frequency; the last ones of the vocabulary never occur."""
    weights = 1 / np.arange(1, VOCABULARY - 2)
    return (
        np.random.default_rng(seed)
        .choice(VOCABULARY - 3, size=count, p=weights / weights.sum())
        .astype(np.uint16)
    )


def plain_probability(tokens: list[int], before: int, after: int) -> float:
    def discount(counts: Counter[object]) -> float:
        once, twice = (sum(value == times for value in counts.values()) for times in (1, 2))
        return once / (once + 2 * twice)

    pairs: Counter[object] = Counter(pairwise(tokens))
    contexts, words = Counter(tokens[:-1]), Counter(tokens[1:])
    unigram_discount = discount(Counter[object](words))
    total = len(tokens) - 1
    unigram = (
        max(words[after] - unigram_discount, 0) / total
        + unigram_discount * len(words) / total / VOCABULARY
    )
    if not contexts[before]:
        return unigram
    d = discount(pairs)
    followers = sum(1 for pair in pairs if isinstance(pair, tuple) and pair[0] == before)
    return (
        max(pairs[before, after] - d, 0) / contexts[before]
        + d * followers / contexts[before] * unigram
    )


def test_probabilities_follow_the_formula() -> None:
    tokens = text(1, 150)
    model = BigramModel(stream_pairs(tokens), VOCABULARY)
    before, after = np.divmod(np.arange(VOCABULARY**2), VOCABULARY)
    expected = [
        plain_probability(tokens.tolist(), int(v), int(w))
        for v, w in zip(before, after, strict=True)
    ]
    np.testing.assert_allclose(model.probabilities(before, after), expected, rtol=1e-12)


def test_counting_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = text(3, 3_000), text(4, 500)
    whole = BigramModel(stream_pairs(train), VOCABULARY).loss(stream_pairs(test))
    monkeypatch.setattr(ngram, "_CHUNK", 97)
    assert BigramModel(stream_pairs(train), VOCABULARY).loss(stream_pairs(test)) == pytest.approx(
        whole, rel=1e-12
    )


def test_stream_mode_predicts_every_token_but_the_first() -> None:
    tokens = np.array([5, 6, 7, 8], np.uint16)
    (pairs,) = stream_pairs(tokens)
    assert [side.tolist() for side in pairs] == [[5, 6, 7], [6, 7, 8]]
    (pairs,) = stream_pairs(tokens, limit=3)
    assert pairs[1].tolist() == [6, 7]


@pytest.mark.parametrize("chunk", [1, 3, 1 << 22])
def test_sentence_mode_only_predicts_inside_truncated_sentences(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngram, "_CHUNK", chunk)
    tokens = np.arange(1, 12, dtype=np.uint16)
    offsets = np.array([0, 5, 6, 8, 11], np.uint64)
    found = [
        (int(v), int(w))
        for before, after in sentence_pairs(tokens, offsets, 3)
        for v, w in zip(before, after, strict=True)
    ]
    assert found == [(1, 2), (2, 3), (7, 8), (9, 10), (10, 11)]


def test_without_pairs_there_is_no_loss_and_the_model_is_uniform() -> None:
    empty = np.array([3], np.uint16)
    model = BigramModel(stream_pairs(empty), 8)
    assert model.loss(stream_pairs(empty)) == 0
    assert model.loss(stream_pairs(np.array([1, 2, 3], np.uint16))) == pytest.approx(math.log(8))
