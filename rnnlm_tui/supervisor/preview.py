"""The first lines of a config's text, cut as its tokenizer cuts them, before and after the corpus is prepared."""

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
"""Of a folder that is looked through: a tenth of a second."""

_WORD = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)|\s+(?!\S)|\s")
_SIGNS = str.maketrans({" ": "·", "\t": "→", "\n": "↵", "\r": "␍"})


@dataclass(frozen=True, slots=True)
class Preview:
    """How a text begins, as a model will read it."""

    layout: TextLayout
    reason: str
    """Why the text has this layout where the config leaves it to the text; else empty."""
    lines: tuple[tuple[str, ...], ...]
    """The first units of the training text in pieces."""
    exact: bool
    """Whether the pieces are tokens; False: words that the tokenizer, once it is trained, may split or not know."""


def preview(config: RunConfig) -> Preview | None:
    """The beginning of the text; None of a built-in corpus that is not there yet, and of a folder of very many files.

    Raises:
        CorpusError: a text of the user's that is no text at its beginning, or a table without the column.
    """
    manifest = find_corpus(config.corpus, config.tokenizer)
    if manifest is not None and manifest.first_lines:
        return Preview(manifest.layout, _reason(manifest.known_notes), manifest.first_lines, exact=True)
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
    return Preview(source.layout, _reason(source.notes), lines, exact=kind == "character" or (kind == "byte" and "".join(units).isascii()))


def _is_large(name: str) -> bool:
    """Whether a folder, or where a pattern looks, holds more than is looked through while a path is being typed."""
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
    """A piece with its white space as signs: `·` a space, `→` a tab, `↵` a line break."""
    return piece.translate(_SIGNS)


def _pieces(unit: str, kind: TokenizerKind) -> list[str]:
    if kind in ("character", "byte"):
        return list(unit)
    return [unit] if kind == "pretrained" else _WORD.findall(unit)


def _reason(notes: tuple[str, ...] | list[str]) -> str:
    return next((note.partition("chosen by the text: ")[2] for note in notes if note.startswith("layout ")), "")
