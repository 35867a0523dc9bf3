"""Prepared corpora, from their manifests, and stored measurements of probes."""

from __future__ import annotations

import glob
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import BUILT_IN_SOURCES, CorpusConfig, TokenizerConfig
from rnnlm_tui.schema.corpora import (
    CORPUS_FORMAT,
    MANIFEST_NAME,
    PYTHON_SOURCE,
    CorpusManifest,
    DatasetName,
)
from rnnlm_tui.schema.formatting import user_path
from rnnlm_tui.schema.protocol import Calibration
from rnnlm_tui.store.paths import calibration_file, corpora_dir
from rnnlm_tui.system.files import make_private_directory
from rnnlm_tui.system.json_files import JsonFile

KEPT_CALIBRATIONS = 64
"""The oldest are dropped first."""
_MOST_BYTES = 4 * 1024 * 1024


def list_corpora() -> list[CorpusManifest]:
    """The prepared corpora, newest first; unfinished and damaged ones and other formats are
    skipped."""
    try:
        folders = [path for path in corpora_dir().iterdir() if not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [manifest for manifest in map(_read_corpora, folders) if manifest is not None]
    return sorted(found, key=lambda manifest: manifest.created, reverse=True)


def find_corpus(corpus: CorpusConfig, tokenizer: TokenizerConfig) -> CorpusManifest | None:
    """The newest corpus prepared from the same settings.

    The source is not read: a changed file is only noticed when the corpus is prepared again.
    """
    settings = absolute_paths(corpus, tokenizer)
    return next((found for found in list_corpora() if found.is_from(*settings)), None)


def absolute_paths(
    corpus: CorpusConfig, tokenizer: TokenizerConfig
) -> tuple[CorpusConfig, TokenizerConfig]:
    """The settings with absolute paths and patterns, as a run stores them."""

    def absolute(text: str | None, *, is_text: bool = True) -> str | None:
        if text is None or (is_text and text in BUILT_IN_SOURCES):
            return text
        with suppress(CorpusError, OSError):  # an unfinished name, or a too long one: no path
            if is_text and text.startswith(PYTHON_SOURCE):
                return DatasetName.parse(text).found_from(Path.cwd()).source
            path = user_path(text)
            if path.exists() or (is_text and glob.has_magic(str(path))):
                return str(path.absolute())
        return text

    texts = {name: absolute(getattr(corpus, name)) for name in ("source", "test_source")}
    changed = {name: text for name, text in texts.items() if text != getattr(corpus, name)}
    name = absolute(tokenizer.name, is_text=False)
    return corpus.model_copy(update=changed), (
        tokenizer if name == tokenizer.name else tokenizer.model_copy(update={"name": name})
    )


def _read_corpora(folder: Path) -> CorpusManifest | None:
    try:
        manifest = CorpusManifest.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except (OSError, ValidationError):
        return None
    return manifest if manifest.format == CORPUS_FORMAT else None


def load_calibrations() -> list[Calibration]:
    """The stored calibrations, newest first; damaged ones are skipped."""
    found = _calibrations().look().value
    return sorted(found, key=lambda calibration: calibration.time, reverse=True)


def add_calibration(calibration: Calibration) -> None:
    """Store a calibration, replacing one of the same shape on the same machine. Safe between
    processes.

    Raises:
        StorageError: the file can't be read or written; the old one is unchanged.
    """

    def added(before: tuple[Calibration, ...]) -> tuple[Calibration, ...]:
        others = [known for known in before if _place(known) != _place(calibration)]
        return (calibration, *others)[:KEPT_CALIBRATIONS]

    make_private_directory(calibration_file().parent)
    _calibrations().change(added)


def _calibrations() -> JsonFile[tuple[Calibration, ...]]:
    return JsonFile(calibration_file(), tuple[Calibration, ...], (), _MOST_BYTES)


def _place(calibration: Calibration) -> tuple[object, ...]:
    return calibration.host, calibration.device, calibration.threads, calibration.shape
