"""Encoders cache the words of a text; `test_layout` compares their ids with the tokenizer's."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Regex, pre_tokenizers

from rnnlm_tui.corpus import encode
from rnnlm_tui.corpus.encode import WordCache, line_encoder
from rnnlm_tui.corpus.tokenizers import BLOCKS, WORDS

from .conftest import Builder


def test_words_end_at_what_the_library_takes_for_white_space() -> None:
    text = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    found = pre_tokenizers.Split(Regex(r"\s+"), "removed").pre_tokenize_str(text)
    assert WORDS.findall(text) == [word for word, _ in found]
    assert "".join(BLOCKS.findall(text)) == text


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_words_are_kept_unless_most_of_a_batch_is_new(
    build: Builder, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "CACHED_WORDS", 100)
    monkeypatch.setattr(encode, "usable_cores", lambda: 3)
    built = build(kind)
    encoder = line_encoder(built)
    assert isinstance(encoder, WordCache)
    for first in range(0, 600, 60):
        words = [f"w{number}" for number in range(first, first + 60)]
        for texts, cached in (([" ".join(words), "x"], False), ([" ".join(words)] * 4, True)):
            ids, lengths = encoder([text.encode() for text in texts])
            assert [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])] == (
                built.encode(texts)
            )
            assert any(word.strip() == words[-1] for word in encoder._known) is cached
            assert len(encoder._known) <= 100 + 60 + 1


def test_nothing_has_no_ids(build: Builder) -> None:
    for kind in ("byte", "character", "word", "bpe"):
        ids, lengths = line_encoder(build(kind), "lines")([b"", b""])
        assert (ids.tolist(), lengths.tolist()) == ([], [0, 0])


def test_special_tokens_in_a_text_are_ordinary_text(build: Builder) -> None:
    built = build("bpe", 290)
    ids, _ = line_encoder(built)([b"a <eos> b"])
    assert built.eos_id not in ids
