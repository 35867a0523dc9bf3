"""Settings that affect a prepared corpus."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig
from rnnlm_tui.schema.corpora import effective_settings

SETTINGS = {"corpus": CorpusConfig(), "tokenizer": TokenizerConfig()}
ELMAN = {"corpus": CorpusConfig(source="elman")}
NEWS = {"corpus": CorpusConfig(source="news")}
FILE = {"corpus": CorpusConfig(source="a.txt")}
PRETRAINED = {"tokenizer": TokenizerConfig(kind="pretrained", name="owner/name", vocab_size=300)}
BYTE = {"tokenizer": TokenizerConfig(kind="byte")}


@pytest.mark.parametrize(
    ("given", "section", "changes", "has_effect"),
    [
        ({}, "corpus", {"url": "https://other.example/news"}, False),
        (NEWS, "corpus", {"url": "https://other.example/news"}, False),
        ({}, "corpus", {"seed": 3, "sentences": 100}, False),
        (ELMAN, "corpus", {"seed": 3}, True),
        ({}, "corpus", {"test_source": "elman"}, True),
        ({}, "corpus", {"lowercase": True}, True),
        ({}, "corpus", {"layout": "sentences"}, False),
        (FILE, "corpus", {"layout": "sentences"}, True),
        ({}, "tokenizer", {"name": "ignored"}, False),
        (PRETRAINED, "tokenizer", {"name": "owner/other"}, True),
        ({}, "tokenizer", {"vocab_size": 300}, True),
        (PRETRAINED, "tokenizer", {"vocab_size": 301}, True),  # a wrong size is reported
        (BYTE, "tokenizer", {"vocab_size": 9}, False),
        (BYTE, "tokenizer", {"end_of_sentence": False}, True),
        ({}, "tokenizer", {"kind": "word"}, True),
    ],
)
def test_only_fields_that_are_used_have_an_effect(
    given: dict[str, CorpusConfig | TokenizerConfig],
    section: str,
    changes: dict[str, object],
    has_effect: bool,
) -> None:
    before = {**SETTINGS, **given}
    after = {**before, section: before[section].model_copy(update=changes)}
    assert (effective_settings(**after) != effective_settings(**before)) == has_effect  # type: ignore[arg-type]
