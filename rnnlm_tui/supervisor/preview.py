"""Preview a config's text: its first lines split into tokens, before and after the corpus is prepared."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass
from itertools import islice

from rnnlm_tui.contract.config import RunConfig, TokenizerKind
from rnnlm_tui.contract.corpora import BUILT_IN_SOURCES, PREVIEWED_CHARACTERS, PREVIEWED_LINES, TextLayout
from rnnlm_tui.contract.outside_text import user_path
from rnnlm_tui.corpus.sources import open_source
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.store.corpora import find_corpus
from rnnlm_tui.store.locations import corpora_dir

MOST_FILES = 5_000
"""A folder with more files isn't searched for a preview: it would take more than a tenth of a second."""

_WORD = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)|\s+(?!\S)|\s")
_SIGNS = str.maketrans({" ": "·", "\t": "→", "\n": "↵", "\r": "␍"})


@dataclass(frozen=True, slots=True)
class Preview:
    """The start of a text as a model will read it."""

    layout: TextLayout
    reason: str
    """Why `corpus.layout=auto` chose this layout; empty if it was set."""
    lines: tuple[tuple[str, ...], ...]
    """The first lines or sentences of the training text, in pieces."""
    exact: bool
    """Whether the pieces are the tokens; otherwise they are words, which the tokenizer, once trained, may split or not know."""


def preview(config: RunConfig) -> Preview | None:
    """The start of the text; None for a built-in corpus that isn't on this machine yet, and for a folder with too many files.

    Raises:
        CorpusError: the user's file is not text, or a table without the named column.
    """
    manifest = find_corpus(config.corpus, config.tokenizer)
    if manifest is not None and manifest.first_lines:
        return Preview(manifest.layout, manifest.layout_reason, manifest.first_lines, exact=True)
    if config.corpus.source not in BUILT_IN_SOURCES and _is_large(config.corpus.source):
        return None
    try:
        source = open_source(config.corpus, corpora_dir())
        document = next((found for found in source.documents(lambda _: None) if found.split == "train"), None)
        units = [] if document is None else list(islice(document.sentences, PREVIEWED_LINES))
    except RnnlmError:
        if config.corpus.source in BUILT_IN_SOURCES:
            return None
        raise
    except OSError:
        return None
    kind = config.tokenizer.kind
    lines = tuple(tuple(_pieces(unit[:PREVIEWED_CHARACTERS], kind)) for unit in units)
    return Preview(source.layout, source.layout_reason, lines, exact=kind == "character" or (kind == "byte" and "".join(units).isascii()))


def _is_large(name: str) -> bool:
    """Whether a folder, or the folder that a pattern searches, has too many files to search while the user types a path."""
    path = user_path(name)
    while glob.has_magic(str(path)) and path != path.parent:
        path = path.parent
    seen = 0
    for _, folders, names in os.walk(path):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        seen += len(names) + len(folders)
        if seen > MOST_FILES:
            return True
    return False


def visible(piece: str) -> str:
    """Show white space as signs: `·` a space, `→` a tab, `↵` a line break."""
    return piece.translate(_SIGNS)


def _pieces(unit: str, kind: TokenizerKind) -> list[str]:
    if kind in ("character", "byte"):
        return list(unit)
    return [unit] if kind == "pretrained" else _WORD.findall(unit)
