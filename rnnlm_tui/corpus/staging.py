"""Cleans a source once into plain files of sentences, and decides which bytes of them are which split."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from rnnlm_tui.contract.config import CorpusConfig
from rnnlm_tui.contract.corpora import SPLITS, Split
from rnnlm_tui.corpus.sources import Advance, Source
from rnnlm_tui.errors import CorpusError

_DIGITS = re.compile(r"\d+")
_BATCH_LINES = 4_096
_BATCH_BYTES = 1 << 18


@dataclass
class Pool:
    """One plain file: a sentence a line. Keeps 8 bytes of memory a document, whatever their length."""

    path: Path
    ends: array[int] = field(default_factory=lambda: array("Q"))
    """Where each document ends, in bytes."""

    @property
    def bytes(self) -> int:
        return self.ends[-1] if self.ends else 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of whole sentences in a plain file."""

    path: Path
    start: int
    end: int
    documents: int


def stage(source: Source, corpus: CorpusConfig, folder: Path, advance: Advance) -> dict[Split, Pool]:
    """Write every sentence of the source, cleaned, into `folder`, one file for each split that the source brings.

    Raises:
        CorpusError: the source can't be read or holds no text.
    """
    pools = {split: Pool(folder / f"{split}.txt") for split in SPLITS}
    with ExitStack() as stack:
        files = {split: stack.enter_context(pool.path.open("w", encoding="utf-8", newline="\n")) for split, pool in pools.items()}
        sizes = dict.fromkeys(SPLITS, 0)
        for document in source.documents(advance):
            before = sizes[document.split]
            for sentence in document.sentences:
                line = clean(sentence, corpus)
                files[document.split].write(f"{line}\n")
                sizes[document.split] += (len(line) if line.isascii() else len(line.encode())) + 1
            if sizes[document.split] > before:
                pools[document.split].ends.append(sizes[document.split])
    if not pools["train"].bytes:
        raise CorpusError(f"{source.title} is empty: there is no text to train on", hint="a sentence is a line that is not empty")
    return pools


def clean(sentence: str, corpus: CorpusConfig) -> str:
    """The sentence as the config wants it: one line, digits masked and letters folded if asked."""
    line = sentence.replace("\n", " ")
    if corpus.mask_digits:
        line = _DIGITS.sub("###", line)
    return line.lower() if corpus.lowercase else line


def split_pools(pools: dict[Split, Pool], corpus: CorpusConfig) -> dict[Split, list[Piece]]:
    """Which pieces make up which split: the source's own sets, and what is split off its training set for those it lacks.

    Whole documents are split off, spread over the source, where there are enough; else the last lines. Nothing of the
    test set is ever used for validation.

    Raises:
        CorpusError: too few lines to split.
    """
    given = {split: pool for split, pool in pools.items() if pool.bytes}
    wanted: tuple[tuple[Split, float], ...] = (("test", corpus.test_fraction), ("validation", corpus.validation_fraction))
    fractions = {split: fraction for split, fraction in wanted if split not in given}
    train = given["train"]
    pieces = _by_documents(train, fractions) if len(train.ends) > len(fractions) else _by_lines(train, fractions)
    for split, pool in given.items():
        if split != "train":
            pieces[split] = [Piece(pool.path, 0, pool.bytes, len(pool.ends))]
    return pieces


def read_lines(pieces: Sequence[Piece]) -> Iterator[list[bytes]]:
    """The sentences of a split in batches, as UTF-8 without line ends."""
    for piece in pieces:
        with piece.path.open("rb") as file:
            file.seek(piece.start)
            left = piece.end - piece.start
            while left > 0:
                batch: list[bytes] = []
                enough = left - _BATCH_BYTES
                while left > max(0, enough) and len(batch) < _BATCH_LINES:
                    line = file.readline()
                    left -= len(line)
                    batch.append(line[:-1])
                yield batch


def choose_documents(sizes: Iterable[int], fraction: float) -> list[int]:
    """Indices of documents that hold about `fraction` of the bytes, spread evenly, at least one; the same on every machine."""
    chosen: list[int] = []
    known = list(sizes)
    seen = taken = 0
    for index, size in enumerate(known):
        seen += size
        if fraction * seen - taken >= size / 2:
            chosen.append(index)
            taken += size
    if chosen or not known:
        return chosen
    return [min(range(len(known)), key=lambda index: abs(known[index] - fraction * seen))]


def _by_documents(pool: Pool, fractions: dict[Split, float]) -> dict[Split, list[Piece]]:
    bounds = list(pairwise([0, *pool.ends]))
    left = list(range(len(bounds)))
    splits: dict[int, Split] = {}
    for split, fraction in fractions.items():
        chosen = {left[index] for index in choose_documents((bounds[index][1] - bounds[index][0] for index in left), fraction)}
        splits.update(dict.fromkeys(chosen, split))
        left = [index for index in left if index not in chosen]
    pieces: dict[Split, list[Piece]] = {split: [] for split in SPLITS}
    for index, (start, end) in enumerate(bounds):
        held = pieces[splits.get(index, "train")]
        if held and held[-1].end == start:
            held[-1] = Piece(pool.path, held[-1].start, end, held[-1].documents + 1)
        else:
            held.append(Piece(pool.path, start, end, 1))
    return pieces


def _by_lines(pool: Pool, fractions: dict[Split, float]) -> dict[Split, list[Piece]]:
    pieces: dict[Split, list[Piece]] = {split: [] for split in SPLITS}
    end = pool.bytes
    with pool.path.open("rb") as file:
        for split, fraction in fractions.items():
            file.seek(max(0, int(end * (1 - fraction)) - 1))
            file.readline()
            start = file.tell()
            if start >= end:  # one long last line
                start = _last_line(pool.path, end)
            if start == 0:
                raise CorpusError(
                    f"{end:,} bytes in too few lines to split off a {split} set",
                    hint="a sentence is a line: break the text into lines, or give a test set with corpus.test_source",
                )
            pieces[split] = [Piece(pool.path, start, end, 1)]
            end = start
    pieces["train"] = [Piece(pool.path, 0, end, len(pool.ends))]
    return pieces


def _last_line(path: Path, end: int) -> int:
    """Where the last line before `end` begins."""
    with path.open("rb") as file:
        position = end - 1
        while position > 0:
            start = max(0, position - 65_536)
            file.seek(start)
            found = file.read(position - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            position = start
    return 0
