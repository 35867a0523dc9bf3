"""Settings that affect a prepared corpus."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig
from rnnlm_tui.schema.corpora import effective_settings

BOOK = TokenizerConfig(kind="pretrained", name="owner/name", vocab_size=300)


@pytest.mark.parametrize(
    ("corpus", "tokenizer"),
    [
        (CorpusConfig(url="https://other.example/news"), TokenizerConfig()),
        (CorpusConfig(seed=3, sentences=100), TokenizerConfig()),
        (CorpusConfig(), TokenizerConfig(name="ignored")),
    ],
)
def test_unused_fields_have_no_effect(corpus: CorpusConfig, tokenizer: TokenizerConfig) -> None:
    assert effective_settings(corpus, tokenizer) == effective_settings(
        CorpusConfig(), TokenizerConfig()
    )


@pytest.mark.parametrize(
    ("corpus", "tokenizer"),
    [
        (CorpusConfig(source="elman"), TokenizerConfig()),
        (CorpusConfig(lowercase=True), TokenizerConfig()),
        (CorpusConfig(), TokenizerConfig(vocab_size=300)),
        (CorpusConfig(), TokenizerConfig(end_of_sentence=False)),
    ],
)
def test_used_fields_have_an_effect(corpus: CorpusConfig, tokenizer: TokenizerConfig) -> None:
    assert effective_settings(corpus, tokenizer) != effective_settings(
        CorpusConfig(), TokenizerConfig()
    )


def test_a_field_unused_by_one_kind_is_used_by_another() -> None:
    elman = CorpusConfig(source="elman")
    assert effective_settings(elman, BOOK) != effective_settings(
        elman.model_copy(update={"seed": 3}), BOOK
    )
    assert effective_settings(elman, BOOK) != effective_settings(
        elman, BOOK.model_copy(update={"name": "owner/other"})
    )
    assert effective_settings(elman, BOOK) != effective_settings(
        elman, BOOK.model_copy(update={"vocab_size": 301})
    ), "a wrong size is reported, not ignored"
    byte = TokenizerConfig(kind="byte")
    assert effective_settings(elman, byte) == effective_settings(
        elman, byte.model_copy(update={"vocab_size": 9})
    )
