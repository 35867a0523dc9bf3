"""List prepared corpora from their manifests."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from rnnlm_tui.contract.config import CorpusConfig, TokenizerConfig
from rnnlm_tui.contract.corpora import CORPUS_FORMAT, MANIFEST_NAME, CorpusManifest
from rnnlm_tui.store.locations import corpora_dir


def list_corpora() -> list[CorpusManifest]:
    """The prepared corpora, newest first; unfinished and damaged ones and other formats are skipped."""
    try:
        folders = [path for path in corpora_dir().iterdir() if not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [manifest for manifest in map(_read, folders) if manifest is not None]
    return sorted(found, key=lambda manifest: manifest.created, reverse=True)


def find_corpus(corpus: CorpusConfig, tokenizer: TokenizerConfig) -> CorpusManifest | None:
    """The newest corpus prepared from the same settings.

    The source is not read: a changed file is only noticed when the corpus is prepared again.
    """
    return next((found for found in list_corpora() if found.is_from(corpus, tokenizer)), None)


def _read(folder: Path) -> CorpusManifest | None:
    try:
        manifest = CorpusManifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValidationError):
        return None
    return manifest if manifest.format == CORPUS_FORMAT else None
