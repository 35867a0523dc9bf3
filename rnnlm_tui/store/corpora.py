"""Which prepared corpora there are, from their manifests alone."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from rnnlm_tui.contract.config import CorpusConfig, TokenizerConfig
from rnnlm_tui.contract.corpora import CORPUS_FORMAT, MANIFEST_NAME, CorpusManifest
from rnnlm_tui.store.locations import corpora_dir


def list_corpora() -> list[CorpusManifest]:
    """The prepared corpora, the newest first; half-made folders, damaged manifests and other formats are left out."""
    try:
        folders = [path for path in corpora_dir().iterdir() if not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [manifest for manifest in map(_read, folders) if manifest is not None]
    return sorted(found, key=lambda manifest: manifest.created, reverse=True)


def find_corpus(corpus: CorpusConfig, tokenizer: TokenizerConfig) -> CorpusManifest | None:
    """The newest corpus that was prepared from the same settings, by the fields that matter for them.

    The source itself is not read: a file that changed since is only noticed when the corpus is prepared.
    """
    return next((found for found in list_corpora() if found.is_from(corpus, tokenizer)), None)


def _read(folder: Path) -> CorpusManifest | None:
    try:
        manifest = CorpusManifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValidationError):
        return None
    return manifest if manifest.format == CORPUS_FORMAT else None
