"""Encode sentences into files of token ids and offsets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.corpus.encoders import line_encoder
from rnnlm_tui.corpus.sources import Advance, text_units
from rnnlm_tui.corpus.splits import (
    Piece,
    batched_lines,
    read_lines,
    staged_lines,
    units_of,
)
from rnnlm_tui.corpus.text_files import LineReader
from rnnlm_tui.corpus.tokenizers import BuiltTokenizer, folding_of
from rnnlm_tui.schema.corpora import Split, SplitFacts, TextLayout, token_dtype
from rnnlm_tui.schema.formatting import share

REPEAT_BYTES = 32
COUNTED_REPEATS = 20_000
NOTED_REPEATS = 0.01
"""Repeats: shortest length, most sentences to look for, and fraction for a note."""


class Repeats:
    """Count held-out sentences that occur in the training text.

    Short ones are ignored, because they repeat by chance.
    """

    def __init__(self) -> None:
        self._held: dict[Split, set[int]] = {}
        self._found: dict[Split, set[int]] = {}

    def hold(self, split: Split, batch: Sequence[bytes]) -> None:
        """Add sentences of a held-out split, up to `COUNTED_REPEATS`."""
        held = self._held.setdefault(split, set())
        for line in batch if len(held) < COUNTED_REPEATS else ():
            if len(line) >= REPEAT_BYTES:
                held.add(hash(line))

    def look(self, batch: Sequence[bytes]) -> None:
        """Look for held-out sentences in a batch of the training text."""
        hashes = list(map(hash, batch))
        for split, held in self._held.items():
            self._found.setdefault(split, set()).update(held.intersection(hashes))

    def notes(self, unit: str = "sentences") -> list[str]:
        """A note for each split with at least a fraction of `NOTED_REPEATS` repeats."""
        notes = []
        for split, held in self._held.items():
            found = len(self._found.get(split, ()))
            if found >= NOTED_REPEATS * max(1, len(held)):
                notes.append(
                    f"{found:,} of {len(held):,} {split} {unit} ({share(found / len(held))}) also"
                    " occur in the training text: the model may have memorized them"
                )
        return notes


@dataclass(frozen=True, slots=True)
class EncodedLines:
    """The tokens of some lines of a plain file."""

    ids: NDArray[Any]
    """All of them, end tokens included."""
    lengths: NDArray[np.int64]
    """Tokens of each sentence (or other unit), without empty ones."""
    bytes: int
    """As in `SplitFacts`."""
    unknown: int
    """Tokens outside the vocabulary."""


class LineEncoder:
    """Encodes lines of a plain file, with end tokens."""

    def __init__(self, built: BuiltTokenizer, layout: TextLayout) -> None:
        self._built, self._layout = built, layout
        self._encode = line_encoder(built, layout)
        self.dtype: np.dtype[Any] = np.dtype(token_dtype(built.vocab_size))
        """Of the ids."""

    def __call__(self, staged: list[bytes]) -> EncodedLines:
        """The tokens of some lines."""
        batch, ends = units_of(staged, self._layout)
        ids, lengths = self._encode(batch)
        flat = ids.astype(self.dtype)
        unk_id, eos_id = self._built.unk_id, self._built.eos_id
        unknown = 0 if unk_id is None else int((flat == unk_id).sum())
        if self._layout == "sentences":
            kept = lengths > 0
            size = sum(len(line) for line, is_kept in zip(batch, kept, strict=True) if is_kept)
            lengths = lengths[kept]
        else:
            size = sum(map(len, batch))
        if eos_id is not None:
            ended = np.ones(len(lengths), bool) if ends is None else np.array(ends, bool)
            flat = np.insert(flat, np.cumsum(lengths)[ended], self.dtype.type(eos_id))
            lengths = lengths + ended
            size += 0 if self._layout == "raw" else len(lengths)
        return EncodedLines(flat, lengths[lengths > 0], size, unknown)


def encode_file(path: Path, built: BuiltTokenizer, layout: TextLayout) -> Iterator[EncodedLines]:
    """The tokens of a UTF-8 text file, in parts and in constant memory: exactly those of a corpus
    with this file as a split, for a tokenizer that such a corpus could have.

    Raises:
        CorpusError: the file can't be read or isn't text.
    """
    encode, folding = LineEncoder(built, layout), folding_of(built.tokenizer)
    units = text_units(LineReader(path, lambda _: None), layout)
    return map(encode, batched_lines(staged_lines(units, layout, folding)))


def encode_split(
    split: Split,
    pieces: Sequence[Piece],
    encode: LineEncoder,
    folder: Path,
    advance: Advance,
    look: Callable[[Sequence[bytes]], None],
) -> tuple[SplitFacts, int]:
    """Write `{split}.bin` and `{split}.offsets.bin` (uint64, sentences + 1), in constant memory.

    Returns the split's facts, and its tokens outside the vocabulary.

    Args:
        look: called with each batch of sentences.
    """
    tokens = sentences = size = unknown = 0
    with (
        (folder / f"{split}.bin").open("wb") as token_file,
        (folder / f"{split}.offsets.bin").open("wb") as offset_file,
    ):
        offset_file.write(bytes(8))  # the offsets start with 0
        for staged in read_lines(pieces):
            look(staged)
            part = encode(staged)
            token_file.write(part.ids.tobytes())
            ends = np.cumsum(part.lengths) + tokens
            offset_file.write(ends.astype(np.uint64).tobytes())
            tokens += len(part.ids)
            sentences += len(part.lengths)
            size += part.bytes
            unknown += part.unknown
            advance(sum(map(len, staged)) + len(staged))
    documents = sum(piece.documents for piece in pieces)
    facts = SplitFacts(documents=documents, sentences=sentences, tokens=tokens, bytes=size)
    return facts, unknown
