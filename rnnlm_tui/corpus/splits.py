"""Cleans a source once into plain files of sentences, lines or raw text, and decides which bytes of
them are which split.

Refuses a text that is shorter than a batch, with what it has and what is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from rnnlm_tui.corpus.ngram import EVALUATED
from rnnlm_tui.corpus.sources import Advance, Source
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import CorpusConfig, TrainingConfig
from rnnlm_tui.schema.corpora import SPLITS, CorpusManifest, Split, TextLayout
from rnnlm_tui.schema.estimates import smallest_training_split
from rnnlm_tui.schema.formatting import counted

_DIGITS = re.compile(r"\d+")
MAX_UNITS = 8_192
"""Documents, or runs of them, that are told apart when some are split off."""

COUNTED_DOCUMENTS = 200
"""With this many documents, a share of the documents is about the same share of the text."""

MIN_HELD_OUT_BYTES = 50_000
"""Smallest validation or test set in bytes: about 10,000 tokens, which give the loss to a few
hundredths of a nat."""

MAX_ENLARGED_SHARE = 0.05
"""Largest share of a short text that MIN_HELD_OUT_BYTES may take."""

_NO_BREAK, _END = "\0-", "."
"""Marks a staged raw unit without a line break, and one that ends a document."""

_BATCH_LINES = 4_096
_BATCH_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of whole sentences in a plain file."""

    path: Path
    start: int
    end: int
    documents: int


class PoolFacts(BaseModel):
    """The state of a pool, stored so that an interrupted preparation can be resumed."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    documents: int
    stride: int
    ends: tuple[int, ...]


class Pool:
    """One plain file, a sentence (or another unit) a line, and where its documents end.

    Beyond MAX_UNITS documents neighbours are taken together, twice as many each time, so that
    memory stays bounded.
    """

    def __init__(self, path: Path, facts: PoolFacts | None = None) -> None:
        self.path = path
        self.bytes = 0 if facts is None else facts.bytes
        self.documents = 0 if facts is None else facts.documents
        self._stride = 1 if facts is None else facts.stride
        self._ends: list[int] = [] if facts is None else list(facts.ends)

    @property
    def facts(self) -> PoolFacts:
        """What another process needs to continue with the file."""
        return PoolFacts(
            bytes=self.bytes, documents=self.documents, stride=self._stride, ends=tuple(self._ends)
        )

    def end_document(self, end: int) -> None:
        """A document that is not empty ends at this byte."""
        self.bytes = end
        self.documents += 1
        if self.documents % self._stride == 0:
            self._ends.append(end)
        if len(self._ends) > MAX_UNITS:
            self._ends = self._ends[1::2]
            self._stride *= 2

    def units(self) -> list[Piece]:
        """The documents, or runs of neighbouring ones, in order."""
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
    """Write every unit of the source, cleaned, into `folder`, one file for each split that the
    source brings.

    A unit of raw text normally ends with a line break. A unit without one, and the last unit of a
    document, are marked after a NUL,
    which no text contains.

    Raises:
        CorpusError: the source can't be read or holds no text.
    """
    pools = {split: Pool(pool_path(folder, split)) for split in SPLITS}
    with ExitStack() as stack:
        files = {
            split: stack.enter_context(pool.path.open("w", encoding="utf-8", newline="\n"))
            for split, pool in pools.items()
        }
        sizes = dict.fromkeys(SPLITS, 0)
        for document in source.documents(advance):
            before = sizes[document.split]
            for line in (
                _marked(document.sentences, corpus)
                if source.layout == "raw"
                else (clean(sentence, corpus) for sentence in document.sentences)
            ):
                files[document.split].write(f"{line}\n")
                sizes[document.split] += (len(line) if line.isascii() else len(line.encode())) + 1
            if sizes[document.split] > before:
                pools[document.split].end_document(sizes[document.split])
    if not pools["train"].bytes:
        raise CorpusError(
            f"{source.title} is empty: there is no text to train on",
            hint="a sentence is a line that is not empty",
        )
    return pools


def pool_path(folder: Path, split: Split) -> Path:
    """Path of a split's plain file."""
    return folder / f"{split}.txt"


def clean(sentence: str, corpus: CorpusConfig) -> str:
    """The sentence as the config wants it: one line, digits masked and letters folded if asked."""
    return _folded(sentence.replace("\n", " "), corpus)


def _folded(line: str, corpus: CorpusConfig) -> str:
    if corpus.mask_digits:
        line = _DIGITS.sub("###", line)
    return line.lower() if corpus.lowercase else line


def _marked(units: Iterable[str], corpus: CorpusConfig) -> Iterator[str]:
    """The units of a raw document as lines of a staged file, which `_unmarked` reads."""
    held: str | None = None
    for unit in units:
        if "\0" in unit:
            raise CorpusError(
                "a record's text holds a NUL character: raw text can't",
                hint="take it out, or set corpus.layout=sentences",
            )
        if held is not None:
            yield held
        body = _folded(unit.removesuffix("\n"), corpus)
        held = body if unit.endswith("\n") else f"{body}{_NO_BREAK}"
    if held is not None:
        yield f"{held}{_END}" if held.endswith(_NO_BREAK) else f"{held}\0{_END}"


def _unmarked(lines: Sequence[bytes]) -> tuple[list[bytes], list[bool]]:
    """The units of staged lines, and whether a document ends after each."""
    units: list[bytes] = []
    ends: list[bool] = []
    for line in lines:
        body, _, marks = line.partition(b"\0")
        units.append(body if marks.startswith(b"-") else body + b"\n")
        ends.append(marks.endswith(b"."))
    return units, ends


def split_pools(
    pools: dict[Split, Pool], fractions: dict[Split, float]
) -> dict[Split, list[Piece]]:
    """Which pieces make up which split: the source's own sets, and what is split off its training
    set for those it lacks.

    Whole documents are split off, spread over the source, where there are enough; else the last
    lines. Nothing of the
    test set is ever used for validation.

    Args:
        fractions: as `split_shares` gives them.

    Raises:
        CorpusError: too few lines to split.
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


def split_shares(
    pools: dict[Split, Pool], corpus: CorpusConfig, *, enlarges: bool = True
) -> dict[Split, float]:
    """The share of the training text to split off for each set that the source lacks: the
    configured share, or more if that would be too small.

    Args:
        enlarges: False gives the configured share, however small, as earlier versions did.
    """
    wanted: tuple[tuple[Split, float], ...] = (
        ("test", corpus.test_fraction),
        ("validation", corpus.validation_fraction),
    )
    least = (
        min(MAX_ENLARGED_SHARE, MIN_HELD_OUT_BYTES / max(1, pools["train"].bytes))
        if enlarges
        else 0.0
    )
    return {split: max(fraction, least) for split, fraction in wanted if not pools[split].bytes}


def without_first(pieces: Sequence[Piece], size: int) -> list[Piece]:
    """The pieces without their first `size` bytes, which end with a sentence."""
    left: list[Piece] = []
    for piece in pieces:
        skipped = min(size, piece.end - piece.start)
        size -= skipped
        if piece.start + skipped < piece.end:
            left.append(replace(piece, start=piece.start + skipped))
    return left


def only_first(pieces: Sequence[Piece], size: int) -> list[Piece]:
    """The first `size` bytes of the pieces, which end with a sentence."""
    kept: list[Piece] = []
    for piece in pieces:
        end = min(piece.end, piece.start + size)
        size -= end - piece.start
        if end > piece.start:
            kept.append(replace(piece, end=end))
    return kept


def units_of(staged: list[bytes], layout: TextLayout) -> tuple[list[bytes], list[bool] | None]:
    """The units of staged lines, and which of them an end token follows; None for all."""
    return _unmarked(staged) if layout == "raw" else (staged, None)


def read_lines(pieces: Sequence[Piece]) -> Iterator[list[bytes]]:
    """The staged lines of a split in batches, as UTF-8 without line ends."""
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
    """Indices of documents that hold about `fraction` of the bytes, spread evenly, at least one;
    the same on every machine.

    A few documents are weighed, so that their share is met as well as it can be. Many are only
    counted: weighing them would
    take the short ones before the long ones.
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
                    f"{counted(end, 'byte')} in too few lines to split off a {split} set",
                    hint=(
                        "a sentence is a line: break the text into lines, or give a test set with"
                        " corpus.test_source"
                    ),
                )
            pieces[split] = [Piece(pool.path, start, end, 1)]
            end = start
    pieces["train"] = [Piece(pool.path, 0, end, pool.documents)]
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


def check_bytes(size: int, training: TrainingConfig) -> None:
    """Refuse early, by its bytes, a text that can't fill a batch: no token is shorter than a byte.

    Raises:
        CorpusError: with what it has and what a batch needs.
    """
    wanted = smallest_training_split(training)
    if size < wanted:
        raise CorpusError(
            f"the text has {counted(size, 'byte')}, too short for a batch: {_need(training)}",
            hint="take more text, or lower training.batch_size",
        )


def check_length(manifest: CorpusManifest, training: TrainingConfig) -> None:
    """Refuse a corpus whose training split can't fill a batch, or whose other splits have nothing
    to predict.

    Raises:
        CorpusError: with what it has and what is needed.
    """
    train = manifest.splits["train"]
    have = train.tokens if training.data_mode == "stream" else train.sentences
    what = "token" if training.data_mode == "stream" else "sentence"
    if have < smallest_training_split(training):
        raise CorpusError(
            f"the training split has {counted(have, what)}, too short for a batch:"
            f" {_need(training)}",
            hint="take more text, or lower training.batch_size",
        )
    for split in EVALUATED:
        if manifest.splits[split].tokens < 2:
            raise CorpusError(
                f"the {split} split has {counted(manifest.splits[split].tokens, 'token')}, it"
                " needs 2",
                hint=f"take more text, or raise corpus.{split}_fraction",
            )


def _need(training: TrainingConfig) -> str:
    if training.data_mode == "stream":
        return (
            f"{counted(training.batch_size, 'stream')} need at least"
            f" {counted(smallest_training_split(training), 'token')}"
        )
    return f"a batch holds {counted(training.batch_size, 'sentence')}"
