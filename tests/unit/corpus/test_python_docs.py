"""The built-in corpus `python-docs`."""

from __future__ import annotations

import sys

import pytest

from rnnlm_tui.corpus import builtin
from rnnlm_tui.errors import CorpusError


def test_the_reference_consists_of_plain_sentences() -> None:
    texts = builtin.read_topics()
    sentences = [sentence for text in texts for sentence in builtin.topic_sentences(text)]
    assert len(texts) > 50
    assert len(sentences) > 1_500
    assert all(sentence.isascii() and "\n" not in sentence for sentence in sentences)
    assert not any(
        ">>>" in sentence or "::=" in sentence or "****" in sentence for sentence in sentences
    )


def test_no_paragraph_is_in_two_documents() -> None:
    seen: set[str] = set()
    for text in builtin.read_topics():
        paragraphs = {" ".join(paragraph.split()) for paragraph in text.split("\n\n")} - {""}
        assert not paragraphs & seen
        seen |= paragraphs


def test_a_python_without_its_topics_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(CorpusError, match="doesn't include the language reference"):
        builtin.read_topics()
