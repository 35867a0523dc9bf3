"""Choose a text's layout for `corpus.layout` auto, by the suffixes of its files and the shape of its lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from rnnlm_tui.contract.corpora import TextLayout
from rnnlm_tui.contract.figures import counted, percent
from rnnlm_tui.corpus.records import read_records
from rnnlm_tui.corpus.text_files import CODE_SUFFIXES, LineReader, holds_records, text_suffix

SAMPLED_FILES = 16
SAMPLED_CHARACTERS = 65_536
"""How much is sampled of how many files: a few milliseconds of work, and the same choice on every machine."""

LONG_LINE = 16_384
"""A text mostly of lines longer than this is treated as having no line breaks."""

FEWEST_LINES = 10
"""Fewer lines are too few to judge by."""

_SENTENCE_END = re.compile(r"""[.!?…。！？।؟۔]["'”’»)\]*_]*$""")
_INDENTED = re.compile(r"(?: {2,}|[ ]*\t)\S")


class ChosenLayout(NamedTuple):
    """A layout, and the reason for it as a note; empty for the default."""

    layout: TextLayout
    reason: str = ""


def choose_layout(paths: Sequence[Path], text_field: str) -> ChosenLayout:
    """`raw` for code, and for indented or spaced-out text whose lines aren't sentences; else `sentences`.

    Raises:
        CorpusError: a file can't be read.
    """
    sizes = [path.stat().st_size for path in paths]
    code = [(path, size) for path, size in zip(paths, sizes, strict=True) if text_suffix(path) in CODE_SUFFIXES]
    if code and sum(size for _, size in code) * 2 > sum(sizes):
        suffixes = Counter(text_suffix(path) for path, _ in code).most_common(3)
        what = f"{len(code):,} of {counted(len(paths), 'file')} are code" if len(paths) > 1 else "the file is code"
        return ChosenLayout("raw", f"{what} ({', '.join(suffix for suffix, _ in suffixes)})")
    chosen = [paths[index * len(paths) // min(len(paths), SAMPLED_FILES)] for index in range(min(len(paths), SAMPLED_FILES))]
    return layout_of("\n".join(beginning(path, text_field, SAMPLED_CHARACTERS) for path in chosen))


def layout_of(text: str) -> ChosenLayout:
    """The layout for a sample of text."""
    lines = text.strip("\n").split("\n")
    if sum(len(line) for line in lines if len(line) > LONG_LINE) * 2 > len(text):
        return ChosenLayout("raw", "the text has hardly any line breaks")
    filled = [line for line in lines if line.strip()]
    if len(filled) < FEWEST_LINES:
        return ChosenLayout("sentences")
    blank = sum(1 for before, line in pairwise(lines) if before.strip() and not line.strip()) / len(filled)
    indented = sum(1 for line in filled if _INDENTED.match(line)) / len(filled)
    ended = sum(1 for line in filled if _SENTENCE_END.search(line.rstrip())) / len(filled)
    if ended >= 0.5 or (blank < 0.02 and indented < 0.05):
        return ChosenLayout("sentences")
    shape = f"{percent(indented)} are indented" if indented >= 0.05 else f"{percent(blank)} are followed by a blank line"
    return ChosenLayout("raw", f"{percent(ended)} of its lines end like a sentence and {shape}")


def beginning(path: Path, text_field: str, characters: int) -> str:
    """The first characters of a file, or of its records' texts if it holds records."""
    reader = LineReader(path, lambda _: None)
    parts: list[str] = []
    for text in read_records(reader, text_field) if holds_records(path) else reader.text():
        parts.append(text[:characters])
        characters -= len(text) + 1
        if characters <= 0:
            break
    return "\n".join(parts).replace("\r\n", "\n").replace("\r", "\n")
