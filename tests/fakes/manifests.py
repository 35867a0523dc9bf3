"""Manifests of prepared corpora without their files."""

from __future__ import annotations

from pathlib import Path

from rnnlm_tui.schema.config import CorpusConfig, TokenizerConfig
from rnnlm_tui.schema.corpora import MANIFEST_NAME, SPLITS, CorpusManifest, SplitFacts


def corpus_manifest(
    corpus: CorpusConfig | None = None,
    tokenizer: TokenizerConfig | None = None,
    tokens: int = 3_000,
    sentences: int = 150,
    **changes: object,
) -> CorpusManifest:
    """A corpus whose splits have so many tokens and sentences each."""
    facts = SplitFacts(documents=1, sentences=sentences, tokens=tokens, bytes=4 * tokens)
    manifest = CorpusManifest(
        hash="ab" * 32,
        corpus=corpus or CorpusConfig(),
        tokenizer=tokenizer or TokenizerConfig(),
        title="a text",
        source_hash="cd" * 32,
        vocab_size=2_048,
        eos_id=1,
        pad_id=0,
        eos_text="\n",
        splits=dict.fromkeys(SPLITS, facts),
        created=1.0,
    )
    return manifest.model_copy(update=changes)


def store_manifest(home: Path, manifest: CorpusManifest, name: str | None = None) -> Path:
    """Write a manifest into its folder in a home, or into another, and return the folder."""
    folder = home / "corpora" / (name or manifest.folder)
    folder.mkdir(parents=True)
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(), encoding="utf-8")
    return folder
