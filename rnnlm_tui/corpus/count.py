"""Count the training set of a text before it is prepared, exactly and in pure Python.

Only texts that are read in a moment are counted. They are split as the preparation splits them.
Sentences are counted for every tokenizer. Tokens are counted for tokenizers that aren't learned
from the text's statistics: bytes, characters, and words that are separated by white space.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rnnlm_tui.corpus.news import NEWS
from rnnlm_tui.corpus.sources import Source, open_source
from rnnlm_tui.corpus.splits import Piece, read_blocks, split_pools, split_shares, stage, units_of
from rnnlm_tui.corpus.text_files import (
    PACKINGS,
    is_pattern,
    looks_tokenized,
    matching_files,
    text_files,
)
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import BUILT_IN_SOURCES, CorpusConfig, TokenizerConfig
from rnnlm_tui.schema.formatting import user_path

MOST_BYTES = 8_000_000
"""Texts up to this size are counted, which takes up to half a second."""
MOST_FILES = 500
"""Folders with more files aren't searched."""

Signature = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class TextSize:
    """The training set of a text, as the preparation will split it."""

    sentences: int
    """Sentences, or other units of the layout."""
    tokens: int | None
    """With end tokens; None: the tokenizer has to be learned first."""
    vocab_size: int | None
    """The vocabulary that the tokenizer will have; None if it can't be counted."""


def count_text(corpus: CorpusConfig, tokenizer: TokenizerConfig, root: Path) -> TextSize | None:
    """Count a text's training set; None if the text is large, compressed, or not on this machine.

    The count is kept until a file of the text changes.

    Args:
        root: the folder of prepared corpora.

    Raises:
        OSError: a file vanished while it was read.
    """
    files = None if NEWS in (corpus.source, corpus.test_source) else _files(corpus)
    if files is None or sum(size for _, size, _ in files) > MOST_BYTES:
        return None
    return _counted(corpus, tokenizer, root, files)


def changed_after(corpus: CorpusConfig, moment: float) -> bool:
    """Whether a file of the text was written after a moment in Unix seconds.

    False for built-in texts, and for folders with too many files to look at.
    """
    return any(written > moment * 1e9 for _, _, written in _files(corpus) or ())


@lru_cache(maxsize=8)
def _counted(
    corpus: CorpusConfig, tokenizer: TokenizerConfig, root: Path, _: Signature
) -> TextSize | None:
    try:
        source = open_source(corpus, root)
        with tempfile.TemporaryDirectory(prefix="rnnlm-tui-count-") as folder:
            return _count(source, corpus, tokenizer, Path(folder))
    except RnnlmError:  # the start of a run reports it
        return None


def _count(
    source: Source, corpus: CorpusConfig, tokenizer: TokenizerConfig, folder: Path
) -> TextSize:
    pools = stage(source, corpus, folder, lambda _: None)
    pieces = split_pools(pools, split_shares(pools, corpus))["train"]
    cut = _cut(tokenizer, source, pieces)
    types: set[str | int] = set()
    units = tokens = 0
    for block in read_blocks(pieces):
        for line, ends in zip(*units_of(block, source.layout), strict=True):
            found = "?" if cut is None else cut(line)  # "?": any tokens
            if not found and source.layout == "sentences":
                continue
            ended = tokenizer.end_of_sentence and ends
            units += bool(found or ended)
            tokens += len(found) + ended
            types.update(found)
    if cut is None:
        return TextSize(units, None, None)
    if tokenizer.kind == "byte":
        return TextSize(units, tokens, 256 + 1 + tokenizer.end_of_sentence)
    size = len(types - {"<pad>", "<unk>", "<eos>"}) + 2 + tokenizer.end_of_sentence
    return TextSize(units, tokens, min(tokenizer.vocab_size, size))


def _cut(
    tokenizer: TokenizerConfig, source: Source, pieces: Sequence[Piece]
) -> Callable[[str], Sequence[str | int]] | None:
    """Cuts a text into tokens like the tokenizer; None if that has to be learned."""
    if tokenizer.kind == "byte":
        return str.encode
    if tokenizer.kind == "character":
        return str
    if tokenizer.kind != "word" or source.layout != "sentences":
        return None
    lines = (line for block in read_blocks(pieces) for line in units_of(block, source.layout)[0])
    tokenized = looks_tokenized(lines) if source.tokenized is None else source.tokenized
    return str.split if tokenized else None  # words of other texts are cut at punctuation too


def _files(corpus: CorpusConfig) -> Signature | None:
    """Path, size and time of each file of a text; None if there are too many or none."""
    names = (corpus.source, corpus.test_source)
    try:
        paths = [_paths(name) for name in names if name and name not in BUILT_IN_SOURCES]
        facts = [(str(path), path.stat()) for found in paths for path in found]
    except (OSError, RnnlmError, ValueError):
        return None
    if not all(paths):
        return None
    return tuple((path, found.st_size, found.st_mtime_ns) for path, found in facts)


def _paths(name: str) -> list[Path]:
    """The files of a source; none if it isn't there, or has too many or compressed ones."""
    path, paths = user_path(name), []
    if path.is_file():
        paths = [path]
    elif (path.is_dir() or is_pattern(name)) and not is_large(name, MOST_FILES):
        paths = text_files(path)[0] if path.is_dir() else matching_files(name)
    return [] if any(path.suffix in PACKINGS for path in paths) else paths


def is_large(name: str, most: int) -> bool:
    """Whether a folder, or the one that a pattern searches, has more than `most` files and folders
    in it, hidden ones aside."""
    path, seen = user_path(name), 0
    if is_pattern(name):
        path = next(one for one in path.parents if one.is_dir())
    for _, folders, names in os.walk(path):
        folders[:] = [inner for inner in folders if not inner.startswith(".")]
        seen += len(names) + len(folders)
        if seen > most:
            return True
    return False
