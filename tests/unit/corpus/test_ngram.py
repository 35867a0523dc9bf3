"""Count models, against Kneser-Ney in plain Python and against KenLM."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rnnlm_tui.corpus import ngram
from rnnlm_tui.corpus.builtin import read_addresses
from rnnlm_tui.corpus.ngram import OrderScores, array_maker, score_orders, sequences
from rnnlm_tui.errors import StorageError

VOCABULARY = 9
BEGIN = VOCABULARY


def text(seed: int, count: int) -> list[int]:
    """Tokens of very different frequency; the last two of the vocabulary never occur."""
    weights = 1 / np.arange(1, VOCABULARY - 1) ** 2
    choice = np.random.default_rng(seed).choice
    return list(map(int, choice(VOCABULARY - 2, size=count, p=weights / weights.sum())))


def laid_out(*sentences: Sequence[int], kept: int | None = None) -> NDArray[np.int32]:
    tokens = np.array([token for sentence in sentences for token in sentence], np.uint16)
    offsets = np.cumsum([0, *map(len, sentences)]).astype(np.uint64)
    return sequences(tokens, offsets, kept, BEGIN, np.zeros)


class PlainKneserNey:
    """Chen and Goodman's interpolated modified Kneser-Ney, as sums over all n-grams."""

    def __init__(self, sentences: Sequence[Sequence[int]], order: int) -> None:
        self.order = order
        self.counts: dict[int, Counter[tuple[int, ...]]] = {}
        raw: dict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
        before: dict[tuple[int, ...], set[int]] = defaultdict(set)
        for sentence in sentences:
            line = (BEGIN, *sentence)
            for start in range(len(line)):
                for end in range(start + 1, len(line) + 1):
                    gram = line[start:end]
                    raw[len(gram)][gram] += gram != (BEGIN,)
                    if start:
                        before[gram].add(line[start - 1])
        for size in range(1, order + 1):
            self.counts[size] = Counter(
                {
                    gram: times if size == order or gram[0] == BEGIN else len(before[gram])
                    for gram, times in raw[size].items()
                }
            )
        self.discounts = {size: self._discounts(counts) for size, counts in self.counts.items()}

    @staticmethod
    def _discounts(counts: Counter[tuple[int, ...]]) -> list[float]:
        n = [sum(times == wanted for times in counts.values()) for wanted in range(5)]
        if not (n[1] and n[2] and n[3]):
            return [0, 0.5, 1, 1.5]
        y = n[1] / (n[1] + 2 * n[2])
        found = [0, *(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))]
        return found if min(found) >= 0 and found[3] < 3 else [0, 0.5, 1, 1.5]

    def probability(self, history: tuple[int, ...], token: int, size: int | None = None) -> float:
        size = self.order if size is None else size
        if size == 0:
            return 1 / VOCABULARY
        shorter = self.probability(history, token, size - 1)
        if len(history) < size - 1:
            return shorter
        context = history[len(history) - size + 1 :]
        followers = {g: n for g, n in self.counts[size].items() if g[:-1] == context}
        total = sum(followers.values())
        if not total:
            return shorter
        discounts, times = self.discounts[size], followers.get((*context, token), 0)
        held = sum(discounts[min(n, 3)] for n in followers.values())
        return (times - discounts[min(times, 3)] + held * shorter) / total


def probabilities(
    sentences: Sequence[Sequence[int]], history: Sequence[int], kept: int | None
) -> list[list[float]]:
    """What the models of order 1 to 5 give each token after a history."""
    longer = [laid_out([*history, token], kept=kept) for token in range(VOCABULARY)]
    texts = [laid_out(*sentences, kept=kept), laid_out(history, kept=kept), *longer]
    return [
        [math.exp(order.scores[0].nats - score.nats) for score in order.scores[1:]]
        for order in score_orders(texts, BEGIN, np.zeros)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mode", ["stream", "sentences"])
def test_probabilities_are_those_of_plain_kneser_ney_and_sum_to_one(mode: str, seed: int) -> None:
    tokens = text(seed, 150)
    sentences, kept = [tokens], None
    if mode == "sentences":
        ends = sorted({0, *np.random.default_rng(seed).integers(1, 150, 30).tolist(), 150})
        sentences, kept = [tokens[a:b] for a, b in pairwise(ends)], 7
    plain = [
        PlainKneserNey([sentence[:kept] for sentence in sentences], order) for order in range(1, 6)
    ]
    histories = [tokens[9:10], tokens[20:26], tokens[:3], text(seed + 100, 5), [VOCABULARY - 1, 0]]
    for history in histories:
        for model, found in zip(plain, probabilities(sentences, history, kept), strict=True):
            expected = [model.probability((BEGIN, *history), token) for token in range(VOCABULARY)]
            np.testing.assert_allclose(found, expected, rtol=1e-9)
            assert sum(found) == pytest.approx(1, rel=1e-9)


def test_counting_in_chunks_and_in_files_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [laid_out(text(3, 3_000)), laid_out(text(4, 500))]

    def figures(found: list[OrderScores]) -> list[object]:
        scores = [order.scores[0] for order in found]
        return [
            (order.ngrams, score.targets, pytest.approx(score.nats, rel=1e-12))
            for order, score in zip(found, scores, strict=True)
        ]

    whole = figures(list(score_orders(texts, BEGIN, np.zeros)))
    for name, value in (("_CHUNK", 97), ("_SAMPLES", 12), ("_MOST_BYTES", 100)):
        monkeypatch.setattr(ngram, name, value)
    make = array_maker(tmp_path)
    assert isinstance(make(1_000, np.int32), np.memmap)
    assert figures(list(score_orders(texts, BEGIN, make))) == whole
    assert not list(tmp_path.iterdir())
    with pytest.raises(StorageError, match="counting n-grams needs"):
        make(1 << 55, np.int8)


def test_keys_too_large_to_be_packed_are_grouped_as_well() -> None:
    for keys in (np.array([5, 3, 5, 1 << 62]), np.array([2, 7, 2]), np.empty(0, np.int64)):
        expected = np.unique(keys, return_inverse=True, return_counts=True)
        for found, wanted in zip(ngram._groups(keys), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_progress_counts_each_token_once_for_each_order() -> None:
    texts, advanced = [laid_out(text(1, 300)), laid_out(text(2, 50))], list[int]()
    list(score_orders(texts, BEGIN, np.zeros, advance=advanced.append))
    assert 5 * 350 <= sum(advanced) <= 5 * 352


def test_a_stream_begins_once_and_may_be_cut() -> None:
    tokens, offsets = np.array([5, 6, 7, 8], np.uint16), np.array([0, 2, 4], np.uint64)
    assert sequences(tokens, offsets, None, BEGIN, np.zeros).tolist() == [BEGIN, 5, 6, 7, 8]
    assert sequences(tokens, offsets, None, BEGIN, np.zeros, 3).tolist() == [BEGIN, 5, 6, 7]


@pytest.mark.parametrize("chunk", [1, 3, 1 << 22])
def test_each_sentence_begins_anew_and_is_truncated(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngram, "_CHUNK", chunk)
    tokens = np.arange(1, 12, dtype=np.uint16)
    offsets = np.array([0, 5, 6, 8, 11], np.uint64)
    found = sequences(tokens, offsets, 3, 99, np.zeros)
    assert found.tolist() == [99, 1, 2, 3, 99, 6, 99, 7, 8, 99, 9, 10, 11]
    limited = sequences(tokens, offsets, 3, 99, np.zeros, limit=7)
    assert limited.tolist() == found[:6].tolist()


def test_the_first_token_of_a_sequence_is_not_scored() -> None:
    texts = [laid_out(text(1, 99)), laid_out([0, 1, 2], [1], [2, 0], kept=9)]
    assert {order.scores[0].targets for order in score_orders(texts, BEGIN, np.zeros)} == {3}


def test_orders_beyond_all_sentences_predict_as_the_longest_that_fits() -> None:
    train, test = ([0, 1], [1, 0], [0, 1], [2, 1]), ([1, 0], [0, 3])
    texts = [laid_out(*sentences, kept=9) for sentences in (train, test)]
    found = list(score_orders(texts, BEGIN, np.zeros))
    assert [order.ngrams for order in found] == [3, 6, 3, 0, 0]
    assert len({order.scores[0].nats for order in found[2:]}) == 1


def test_without_training_text_the_model_is_uniform_and_without_targets_there_is_no_loss() -> None:
    texts = [laid_out([]), laid_out([1, 2, 3]), laid_out([3]), laid_out()]
    for order in score_orders(texts, BEGIN, np.zeros):
        assert order.scores[0].loss == pytest.approx(math.log(VOCABULARY))
        assert [score.loss for score in order.scores[1:]] == [None, None]


def penn() -> dict[str, list[list[str]]]:
    """The built-in addresses in the format of the Penn Treebank: lower case, no punctuation, N for
    numbers, UNK for words that aren't frequent; the last ten addresses are the test."""
    addresses = [
        [re.findall(r"[a-z']+|\d+", sentence.lower()) for sentence in sentences]
        for sentences in read_addresses().values()
    ]
    splits = {"train": addresses[:-10], "test": addresses[-10:]}
    numbered = {
        split: [
            ["N" if word.isdigit() else word for word in sentence]
            for sentences in parts
            for sentence in sentences
            if sentence
        ]
        for split, parts in splits.items()
    }
    times = Counter(word for sentence in numbered["train"] for word in sentence)
    frequent = {word for word, _ in times.most_common(5_000)}
    return {
        split: [[word if word in frequent else "UNK" for word in sentence] for sentence in parts]
        for split, parts in numbered.items()
    }


KENLM_ON_PENN = {2: 166.045, 3: 141.960, 4: 139.340, 5: 139.141}


def test_perplexities_in_the_format_of_the_penn_treebank_are_those_of_kenlm() -> None:
    """KenLM's figures are those of its master in 2026 (`lmplz` and `query`), by

    python -c 'from tests.unit.corpus.test_ngram import penn
    for name, lines in penn().items():
        open(f"{name}.txt", "w").writelines(" ".join(line) + "\\n" for line in lines)'
    lmplz -o 5 < train.txt > 5.arpa
    query -v word 5.arpa < test.txt | tr "\\t" "\\n" | awk 'BEGIN {first = 1}
        /=[0-9]+ [0-9]/ {if (!first) {sum -= $3; n++} first = /^<\\/s>=/}
        END {printf "%.3f\\n", exp(sum / n * log(10))}'

    The first word of a sentence isn't scored.
    """
    lines = penn()
    ids = {word: place for place, word in enumerate({w for line in lines["train"] for w in line})}
    end, unknown = len(ids), len(ids) + 1
    texts = []
    for part in (lines["train"], lines["test"]):
        tokens = [[*(ids.get(word, unknown) for word in line), end] for line in part]
        flat = np.array([token for line in tokens for token in line], np.uint16)
        offsets = np.cumsum([0, *map(len, tokens)]).astype(np.uint64)
        texts.append(sequences(flat, offsets, 1_000, unknown + 1, np.zeros))
    found = dict(enumerate(score_orders(texts, unknown + 1, np.zeros), start=1))
    for order, expected in KENLM_ON_PENN.items():
        loss = found[order].scores[0].loss
        assert loss is not None
        assert math.exp(loss) == pytest.approx(expected, rel=1e-4)
