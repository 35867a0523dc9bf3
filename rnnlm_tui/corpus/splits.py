"""Write a source as cleaned plain files, and divide them into training, validation and test."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rnnlm_tui.corpus.sources import Advance, Source
from rnnlm_tui.corpus.text_files import MAX_LINE
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import CorpusConfig, TrainingConfig
from rnnlm_tui.schema.corpora import EVALUATED, SPLITS, CorpusManifest, Split, TextLayout
from rnnlm_tui.schema.formatting import counted

_DIGITS = re.compile(r"\d+")
MAX_UNITS = 8_192
"""Most documents, or groups of neighbouring documents, to choose splits from."""

COUNTED_DOCUMENTS = 200
"""With this many documents, a fraction of the documents is about the same fraction of the text."""

MIN_HELD_OUT_BYTES = 50_000
"""Smallest validation or test set in bytes.

About 10,000 tokens, which measure the loss to a few hundredths of a nat.
"""

MAX_ENLARGED_SHARE = 0.05
"""Largest fraction of a short text that is used to reach MIN_HELD_OUT_BYTES."""

_NO_BREAK, _END = "\0-", "."
"""Marks a raw unit without a line break, and one at the end of a document."""

UNIT, END = "\udcff", "\udcfe"
"""Mark the end of a unit without and with an end token after it: no text has lone surrogates."""

_BATCH_LINES = 4_096
_BATCH_BYTES = 1 << 18
_LONGEST_LINE = 5 * MAX_LINE
"""More bytes than a line of a plain file has."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A range of whole sentences in a plain file."""

    path: Path
    start: int
    end: int
    documents: int


class Pool:
    """A plain file with one sentence (or other unit) per line, and the ends of its documents.

    Beyond MAX_UNITS documents, neighbouring ones are grouped (the group size doubles) to limit
    memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self.documents = 0
        self._stride = 1
        self._ends: list[int] = []

    def end_document(self, end: int) -> None:
        """Record the end of a document that is not empty."""
        self.bytes = end
        self.documents += 1
        if self.documents % self._stride == 0:
            self._ends.append(end)
        if len(self._ends) > MAX_UNITS:
            self._ends = self._ends[1::2]
            self._stride *= 2

    def units(self) -> list[Piece]:
        """The documents, or groups of neighbouring documents, in order."""
        ends = (
            self._ends if self._ends and self._ends[-1] == self.bytes else [*self._ends, self.bytes]
        )
        counts = [self._stride] * len(ends)
        counts[-1] = self.documents - self._stride * (len(ends) - 1)
        return [
            Piece(self.path, start, end, count)
            for (start, end), count in zip(pairwise([0, *ends]), counts, strict=True)
        ]


def stage(
    source: Source, corpus: CorpusConfig, folder: Path, advance: Advance
) -> dict[Split, Pool]:
    """Write all units of the source, cleaned, into one file per split in `folder`.

    A unit of raw text normally ends with a line break. Units without one, and the last unit of a
    document, are marked after a NUL, which texts can't contain.

    Raises:
        CorpusError: the source can't be read or contains no text.
    """
    pools = {split: Pool(folder / f"{split}.txt") for split in SPLITS}
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(pool.path.open("w", encoding="utf-8", newline="\n"))
            for split, pool in pools.items()
        }
        sizes = dict.fromkeys(SPLITS, 0)
        for document in source.documents(advance):
            before = sizes[document.split]
            for line in staged_lines(document.sentences, source.layout, corpus):
                files[document.split].write(f"{line}\n")
                sizes[document.split] += (len(line) if line.isascii() else len(line.encode())) + 1
            if sizes[document.split] > before:
                pools[document.split].end_document(sizes[document.split])
    if not pools["train"].bytes:
        raise CorpusError(
            f"{source.title} contains no text to train on",
            hint="each line that isn't empty is a sentence",
        )
    return pools


def staged_lines(units: Iterable[str], layout: TextLayout, corpus: CorpusConfig) -> Iterator[str]:
    """The lines of a plain file for a document's units, cleaned."""
    cleaned = (clean(unit, layout, corpus) for unit in units)
    return _marked(cleaned) if layout == "raw" else cleaned


def clean(unit: str, layout: TextLayout, corpus: CorpusConfig) -> str:
    """The unit, in one line unless it is raw, with digits masked and lower case if configured."""
    if layout != "raw":
        unit = unit.replace("\n", " ")
    if corpus.mask_digits:
        unit = _DIGITS.sub("###", unit)
    return unit.lower() if corpus.lowercase else unit


def _marked(units: Iterable[str]) -> Iterator[str]:
    """The units of a raw document as lines of a plain file, to be read by `marked_units`."""
    held: str | None = None
    for unit in units:
        if "\0" in unit:
            raise CorpusError(
                "a record's text contains a NUL character, which raw text can't",
                hint="remove it, or set corpus.layout=sentences",
            )
        if held is not None:
            yield held
        body = unit.removesuffix("\n")
        held = body if unit.endswith("\n") else f"{body}{_NO_BREAK}"
    if held is not None:
        yield f"{held}{_END}" if held.endswith(_NO_BREAK) else f"{held}\0{_END}"


def split_pools(
    pools: dict[Split, Pool], fractions: dict[Split, float]
) -> dict[Split, list[Piece]]:
    """Divide the text into splits, taking missing sets from the training text.

    If there are enough documents, whole documents spread over the source are taken, else the last
    lines. The test set is never used for validation.

    Args:
        fractions: from `split_shares`.

    Raises:
        CorpusError: there are too few lines to split.
    """
    given = {split: pool for split, pool in pools.items() if pool.bytes}
    train = given["train"]
    pieces = (
        _by_documents(train, fractions)
        if train.documents > len(fractions)
        else _by_lines(train, fractions)
    )
    for split, pool in given.items():
        if split != "train":
            pieces[split] = [Piece(pool.path, 0, pool.bytes, pool.documents)]
    return pieces


def split_shares(pools: dict[Split, Pool], corpus: CorpusConfig) -> dict[Split, float]:
    """The fraction to split off for each missing set, at least MIN_HELD_OUT_BYTES."""
    wanted: tuple[tuple[Split, float], ...] = (
        ("test", corpus.test_fraction),
        ("validation", corpus.validation_fraction),
    )
    least = min(MAX_ENLARGED_SHARE, MIN_HELD_OUT_BYTES / max(1, pools["train"].bytes))
    return {split: max(fraction, least) for split, fraction in wanted if not pools[split].bytes}


def marked_units(block: bytes, layout: TextLayout) -> str:
    """The units in lines of a plain file, each with UNIT or END after it."""
    marked = block.decode().replace("\n", f"\n{UNIT}" if layout == "raw" else END)
    marked = marked.replace(f"{_NO_BREAK}{_END}\n{UNIT}", END)
    return marked.replace(f"{_NO_BREAK}\n{UNIT}", UNIT).replace(f"\0{_END}\n{UNIT}", f"\n{END}")


def units_of(block: bytes, layout: TextLayout) -> tuple[list[str], Iterator[bool]]:
    """The units in lines of a plain file, and which have an end token after them."""
    marked = marked_units(block, layout)
    ends = (mark.group() == END for mark in re.finditer(f"[{UNIT}{END}]", marked))
    return marked.replace(UNIT, END).split(END)[:-1], ends


def read_blocks(pieces: Sequence[Piece]) -> Iterator[bytes]:
    """The lines of a split in blocks, as UTF-8."""
    for piece in pieces:
        with piece.path.open("rb") as file:
            file.seek(piece.start)
            left = piece.end - piece.start
            while left > 0:
                block = file.read(min(left, _BATCH_BYTES))
                block += b"" if block.endswith(b"\n") else file.readline()
                after = block.split(b"\n", _BATCH_LINES)[-1]
                block = block[: len(block) - len(after)]
                file.seek(-len(after), os.SEEK_CUR)
                left -= len(block)
                yield block


def choose_documents(sizes: Iterable[int], fraction: float) -> list[int]:
    """Choose evenly spread documents with about `fraction` of the bytes, at least one.

    Few documents are weighted by size, to meet the fraction as well as possible. Many are only
    counted, because weighting them would prefer short documents.
    """
    known = list(sizes)
    weights = known if len(known) < COUNTED_DOCUMENTS else [1] * len(known)
    chosen: list[int] = []
    seen = taken = 0
    for index, weight in enumerate(weights):
        seen += weight
        if fraction * seen - taken >= weight / 2:
            chosen.append(index)
            taken += weight
    if chosen or not known:
        return chosen
    return [min(range(len(known)), key=lambda index: abs(weights[index] - fraction * seen))]


def _by_documents(pool: Pool, fractions: dict[Split, float]) -> dict[Split, list[Piece]]:
    units = pool.units()
    left = list(range(len(units)))
    splits: dict[int, Split] = {}
    for split, fraction in fractions.items():
        chosen = {
            left[place]
            for place in choose_documents(
                (units[index].end - units[index].start for index in left), fraction
            )
        }
        splits.update(dict.fromkeys(chosen, split))
        left = [index for index in left if index not in chosen]
    pieces: dict[Split, list[Piece]] = {split: [] for split in SPLITS}
    for index, unit in enumerate(units):
        held = pieces[splits.get(index, "train")]
        if held and held[-1].end == unit.start:
            held[-1] = Piece(
                pool.path, held[-1].start, unit.end, held[-1].documents + unit.documents
            )
        else:
            held.append(unit)
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
                    f"the text has too few lines ({counted(end, 'byte')}) for a {split} set",
                    hint="break the text into lines, one sentence each, or set corpus.test_source",
                )
            pieces[split] = [Piece(pool.path, start, end, 1)]
            end = start
    pieces["train"] = [Piece(pool.path, 0, end, pool.documents)]
    return pieces


def _last_line(path: Path, end: int) -> int:
    """The start of the last line before `end`."""
    with path.open("rb") as file:
        first = file.seek(max(0, end - _LONGEST_LINE))
        return first + file.read(end - 1 - first).rfind(b"\n") + 1


def check_length(manifest: CorpusManifest, training: TrainingConfig) -> None:
    """Check that the training split can fill a batch, and that the other splits have a target.

    Raises:
        CorpusError: a split is too short.
    """
    train = manifest.splits["train"]
    if training.data_mode == "stream":
        check_fills_batch("the training split", train.tokens, "token", training)
    else:
        check_fills_batch("the training split", train.sentences, "sentence", training)
    for split in EVALUATED:
        if manifest.splits[split].tokens < 2:
            raise CorpusError(
                f"the {split} split is too short: it has"
                f" {counted(manifest.splits[split].tokens, 'token')}, but needs at least 2",
                hint=f"use more text, or raise corpus.{split}_fraction",
            )


def check_fills_batch(what: str, have: int, unit: str, training: TrainingConfig) -> None:
    """Check that a training text can fill a batch.

    Args:
        have: tokens or, for sentence mode, sentences; or bytes, because no token is shorter.

    Raises:
        CorpusError: the text is too short.
    """
    wanted, batch = training.smallest_split, training.batch_size
    if have < wanted:
        need = (
            f"{counted(batch, 'stream')} need at least {counted(wanted, 'token')}"
            if training.data_mode == "stream"
            else f"a batch needs {counted(batch, 'sentence')}"
        )
        raise CorpusError(
            f"{what} is too short for a batch: it has {counted(have, unit)}, but {need}",
            hint="use more text, or lower training.batch_size",
        )
