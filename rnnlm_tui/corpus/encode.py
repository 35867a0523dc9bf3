"""Encode sentences into files of token ids and offsets: many at once, with exactly the same ids as
the tokenizer's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.corpus.sources import Advance, text_units
from rnnlm_tui.corpus.splits import Piece, batched_lines, read_lines, staged_lines, units_of
from rnnlm_tui.corpus.text_files import LineReader
from rnnlm_tui.corpus.tokenizers import BLOCKS, WORDS, BuiltTokenizer, byte_names, folding_of
from rnnlm_tui.schema.corpora import Split, SplitFacts, TextLayout, token_dtype
from rnnlm_tui.schema.formatting import share
from rnnlm_tui.system.machine import usable_cores

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

    def notes(self, layout: TextLayout) -> list[str]:
        """A note for each split with at least a fraction of `NOTED_REPEATS` repeats."""
        notes, unit = [], "sentences" if layout == "sentences" else "lines"
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


Ids = NDArray[np.uint32]
Lengths = NDArray[np.int64]

EncodeLines = Callable[[Sequence[bytes]], tuple[Ids, Lengths]]
"""Encodes UTF-8 sentences: returns all ids in order, and the number of ids of each sentence."""

CACHED_WORDS = 200_000
"""Most words in a cache, about; a full cache is cleared to limit memory."""

MANY_CORES = 4
"""With so many, the library is faster than a cache, which uses one: a core does 40 % of its work.
"""


def line_encoder(built: BuiltTokenizer, layout: TextLayout = "sentences") -> EncodeLines:
    """The fastest encoder for a tokenizer. Sentences have no white space at their ends."""
    built.tokenizer.encode_special_tokens = True  # "<eos>" in the text is ordinary text
    if built.kind == "byte":
        return _byte_encoder(built)
    if built.kind == "character":
        return _character_encoder(built)
    if built.kind == "pretrained" or usable_cores() >= MANY_CORES:
        return lambda lines: _encode(built, [line.decode() for line in lines])
    return WordCache(built, WORDS if (built.kind, layout) == ("word", "sentences") else BLOCKS)


class WordCache:
    """Encode each word once, for a tokenizer of ours: its tokens never cross the ends of words.

    Most of an ordinary text are words that occurred before. A batch of mostly different words is
    left to the tokenizer, which is faster then.
    """

    def __init__(self, built: BuiltTokenizer, words: re.Pattern[str]) -> None:
        """
        Args:
            words: finds the words of a text; may include their white space.
        """
        self._built = built
        self._find = words.findall
        self._known: dict[str, bytes] = {}
        """The ids of each word, as the bytes of an array."""

    def __call__(self, lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        if len(self._known) > CACHED_WORDS:
            self._known.clear()
        texts = [line.decode() for line in lines]
        words = [self._find(text) for text in texts]
        different = set[str]().union(*words)
        if 2 * len(different) > sum(map(len, words)):
            return _encode(self._built, texts)
        new = [word for word in different if word not in self._known]
        for word, found in zip(new, self._built.encode(new), strict=True):
            self._known[word] = np.array(found, np.uint32).tobytes()
        ids = [b"".join(map(self._known.__getitem__, found)) for found in words]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids)) // np.uint32().nbytes
        return np.frombuffer(b"".join(ids), np.uint32), lengths


def _encode(built: BuiltTokenizer, texts: list[str]) -> tuple[Ids, Lengths]:
    """Encode whole texts with the tokenizer, which uses all cores."""
    ids = built.encode(texts)
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    return np.fromiter(chain.from_iterable(ids), np.uint32, int(lengths.sum())), lengths


def _byte_encoder(built: BuiltTokenizer) -> EncodeLines:
    table = np.array([built.tokenizer.token_to_id(name) for name in byte_names()], np.uint32)

    def encode(lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        return table[np.frombuffer(b"".join(lines), np.uint8)], np.fromiter(
            map(len, lines), np.int64, len(lines)
        )

    return encode


def _character_encoder(built: BuiltTokenizer) -> EncodeLines:
    table = np.full(0x110000, built.unk_id, np.uint32)
    for name, index in built.tokenizer.get_vocab().items():
        if len(name) == 1:
            table[ord(name)] = index

    def encode(lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        texts = [line.decode() for line in lines]
        return table[np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)], np.fromiter(
            map(len, texts), np.int64, len(texts)
        )

    return encode
