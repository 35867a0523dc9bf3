"""The hash of a prepared corpus: the same text with the same settings is prepared once."""

from __future__ import annotations

import hashlib
import json

from rnnlm_tui.corpus.sources import Source
from rnnlm_tui.corpus.tokenizers import TOKENIZER_CONFIG_NAME, TOKENIZER_NAME
from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig
from rnnlm_tui.schema.corpora import (
    CORPUS_FORMAT,
    effective_settings,
    unused_corpus_fields,
    unused_tokenizer_fields,
)
from rnnlm_tui.schema.formatting import user_path

RULES = 1
"""Increased when cleaning, splitting or tokenizing changes; corpora are then prepared again."""

PATH_FIELDS = {"source", "test_source"}
"""Paths, which are not hashed because the text itself is."""

FORMER_FIELDS = {
    "source",
    "test_source",
    "text_field",
    "validation_fraction",
    "test_fraction",
    "lowercase",
    "mask_digits",
    "url",
    "sentences",
    "seed",
}
"""Corpus settings of earlier versions, which hashed paths too."""


def corpus_hash(
    corpus: CorpusConfig, tokenizer: TokenizerConfig, source: Source, source_hash: str
) -> str:
    """SHA-256 of all that affects the files, without paths.

    That is the text and how it is read, the tokenizer, the settings and the rules.

    Fields with default values are left out, so that new fields don't change hashes.
    """
    files = _tokenizer_files(tokenizer)
    facts = {
        "format": CORPUS_FORMAT,
        "rules": RULES,
        "source": source_hash,
        "reading": source.reading,
        "corpus": corpus.model_dump(
            mode="json",
            exclude=PATH_FIELDS | {"layout"} | unused_corpus_fields(corpus),
            exclude_defaults=True,
        ),
        **({} if source.layout == "sentences" else {"layout": source.layout}),
        "tokenizer": tokenizer.model_dump(
            mode="json",
            exclude=unused_tokenizer_fields(tokenizer) | ({"name"} if files else set()),
            exclude_defaults=True,
        ),
        "pretrained": files,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _tokenizer_files(tokenizer: TokenizerConfig) -> dict[str, str]:
    """The hashes of a local pretrained tokenizer's files."""
    folder = user_path(tokenizer.name or "")
    if tokenizer.kind != "pretrained" or not (folder / TOKENIZER_NAME).is_file():
        return {}
    paths = (
        folder / name for name in (TOKENIZER_NAME, TOKENIZER_CONFIG_NAME, "special_tokens_map.json")
    )
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()
    }


def former_hash(
    corpus: CorpusConfig, tokenizer: TokenizerConfig, source: Source, source_hash: str
) -> str:
    """The hash in earlier versions, with paths; empty if they couldn't prepare this corpus."""
    known = FORMER_FIELDS | {"layout"}  # earlier versions only had sentences
    if source.layout != "sentences" or corpus.model_dump(
        exclude=known
    ) != CorpusConfig().model_dump(exclude=known):
        return ""
    settings = effective_settings(corpus, tokenizer)
    facts = {
        "format": 1,
        "rules": 1,
        "source": source_hash,
        "corpus": {
            name: value for name, value in settings["corpus"].items() if name in FORMER_FIELDS
        },
        "tokenizer": settings["tokenizer"],
        "pretrained": _tokenizer_files(tokenizer).get(TOKENIZER_NAME),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
