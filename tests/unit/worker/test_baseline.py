"""Count models of a prepared corpus: of all its tokens, and of words."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rnnlm_tui.corpus import corpus as corpus_module
from rnnlm_tui.corpus.codec import TextCodec
from rnnlm_tui.corpus.corpus import PreparedCorpus, load_prepared, prepare_corpus
from rnnlm_tui.corpus.ngram import score_orders, sequences
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig, TrainingConfig
from rnnlm_tui.schema.corpora import Split
from rnnlm_tui.schema.protocol import BaselineDone
from rnnlm_tui.worker.baseline import count_models

SENTENCES = [
    f"{who} {what} the {where} {number * number} times"
    for number, (_, who, what, where) in enumerate(
        product(range(40), ("Ann", "Bob", "Zoë Zimmer"), ("saw", "left"), ("sea", "hill"))
    )
]


def prepared(
    folder: Path, kind: str = "bpe", lines: list[str] = SENTENCES, **training: object
) -> PreparedCorpus:
    source = folder / "text.txt"
    source.write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = {"kind": kind, "vocab_size": 300, "end_of_sentence": lines is SENTENCES}
    return prepare_corpus(
        CorpusConfig(source=str(source), layout="sentences"),
        TokenizerConfig.model_validate(tokenizer),
        TrainingConfig.model_validate(training),
        folder / "corpora",
        lambda _: None,
    )


def counted(corpus: PreparedCorpus) -> BaselineDone:
    return count_models(corpus.path, lambda *_: None)


def test_all_tokens_are_counted_and_the_losses_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "COUNTED_TOKENS", 500)
    prepared(tmp_path)
    corpus = prepared(tmp_path, data_mode="sentences", context_length=6)
    (stream, sentences), tokens = counted(corpus).modes, corpus.manifest.splits["train"].tokens
    assert (stream.kept_tokens, sentences.kept_tokens) == (None, 6)
    kept = load_prepared(corpus.path).manifest.baselines
    for mode, baseline in zip((stream, sentences), kept, strict=True):
        assert baseline.counted == mode.counted == tokens
        models = [model for model in mode.models if model.unit == "token"]
        for split in ("validation", "test"):
            losses = [math.log(model.perplexity[split] or 0) for model in models]
            assert baseline.losses[split] == pytest.approx(losses)


def test_the_models_of_words_are_the_same_for_any_tokens(tmp_path: Path) -> None:
    tables = []
    for kind in ("bpe", "byte", "character"):
        (tmp_path / kind).mkdir()
        (mode,) = counted(prepared(tmp_path / kind, kind)).modes
        words = [model for model in mode.models if model.unit == "word"]
        tables.append([(w.order, w.ngrams, w.perplexity, w.bits_per_byte) for w in words])
    assert len(tables[0]) == 5
    assert tables[1:] == tables[:1] * 2
    (tmp_path / "word").mkdir()
    (mode,) = counted(prepared(tmp_path / "word", "word")).modes
    assert {model.unit for model in mode.models} == {"token"}


def test_an_unseen_word_is_spelled(tmp_path: Path) -> None:
    corpus = prepared(tmp_path, "byte")

    def words(split: Split) -> list[str]:
        text = TextCodec(corpus.path).decode(corpus.tokens(split).tolist())
        return [word for line in text.splitlines() for word in (*line.split(), "")]

    def spelled(words: list[str]) -> NDArray[np.int32]:
        ids = [[257, *word.encode(), 256] for word in words]
        offsets = np.cumsum([0, *map(len, ids)]).astype(np.uint64)
        return sequences(np.concatenate(ids).astype(np.uint16), offsets, 99, 258, np.zeros)

    train, test = Counter(words("train")), words("test")[1:]
    discounts = [0, 0.5, 1, 1.5]  # the fallback: no word occurs twice or three times
    held = sum(discounts[min(count, 3)] for count in train.values())
    unseen = [word for word in test if word not in train]
    once = [word for word, count in train.items() if count == 1]
    nats = list(score_orders([spelled(once), spelled(unseen)], 258, np.zeros))[-1].scores[0].nats
    total = train.total()
    for word in test:
        count = train[word]
        nats -= math.log((count - discounts[min(count, 3)] if count else held) / total)
    (mode,) = counted(corpus).modes
    model = next(one for one in mode.models if one.unit == "word")
    assert unseen
    assert model.perplexity["test"] == pytest.approx(math.exp(nats / len(test)))
    first, *_ = words("test")
    size = sum(len(word.encode()) + 1 for word in words("test") if word) - len(first)
    assert model.bits_per_byte["test"] == pytest.approx(nats / math.log(2) / size)


def test_text_with_nothing_to_predict_has_no_figures(tmp_path: Path) -> None:
    corpus = prepared(tmp_path, "word", ["a", "b", "c"] * 99, data_mode="sentences")
    (mode,) = counted(corpus).modes
    assert {value for model in mode.models for value in model.perplexity.values()} == {None}
    assert {value for model in mode.models for value in model.bits_per_byte.values()} == {None}


def test_a_training_set_of_one_sentence_has_finite_figures(tmp_path: Path) -> None:
    corpus = prepared(tmp_path, "character", [" ".join(SENTENCES[:90])] * 3, batch_size=1)
    (mode,) = counted(corpus).modes
    found = [value for model in mode.models for value in model.perplexity.values()]
    assert len(found) == 20
    assert all(value is not None and math.isfinite(value) for value in found)
