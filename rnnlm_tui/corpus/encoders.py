"""The fast ways from sentences to ids, one for each kind of tokenizer; each gives exactly what the tokenizer gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.contract.corpora import TextLayout
from rnnlm_tui.corpus.tokenizers import BuiltTokenizer, byte_names

Ids = NDArray[np.uint32]
Lengths = NDArray[np.int64]
EncodeLines = Callable[[Sequence[bytes]], tuple[Ids, Lengths]]
"""Sentences as UTF-8 to all their ids, one sentence after the other, and the number of ids of each."""

KEPT_WORDS = 200_000
"""Words whose ids are remembered; a text with more of them starts anew, so that memory stays bounded."""


def line_encoder(built: BuiltTokenizer, layout: TextLayout = "sentences") -> EncodeLines:
    """The fastest encoder for this tokenizer."""
    built.tokenizer.encode_special_tokens = True  # text that reads "<eos>" is text
    if built.kind == "byte":
        return _byte_encoder(built)
    if built.kind == "character":
        return _character_encoder(built)
    if built.kind in ("bpe", "word") and layout == "sentences":
        return WordCache(built)
    return lambda lines: _flat(built.encode([line.decode() for line in lines]))


class WordCache:
    """Encodes by looking words up; the tokenizer sees each different word once.

    Exact for byte-level BPE and for whole words, which never join what a space separates: their tokens depend on the word
    and, for BPE, on whether a space stands before it. A sentence with any other white space is given to the tokenizer whole.
    """

    def __init__(self, built: BuiltTokenizer) -> None:
        self._built = built
        self._space = " " if built.kind == "bpe" else ""
        self._first: dict[str, int] = {}
        self._later: dict[str, int] = {}
        """The row of a word that opens a sentence, and of one behind a space."""
        self._ids: Ids = np.empty(0, np.uint32)
        self._starts: Lengths = np.empty(0, np.int64)
        self._lengths: Lengths = np.empty(0, np.int64)
        """All ids, and where in them those of each row begin and how many they are."""

    def __call__(self, lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        if len(self._lengths) > KEPT_WORDS:
            self._forget()
        texts = [line.decode() for line in lines]
        text = " ".join(texts)
        if text.split(" ") == text.split():
            return self._plain(texts)
        plain = [one.split(" ") == one.split() for one in texts]
        odd = iter(self._built.encode([one for one, is_plain in zip(texts, plain, strict=True) if not is_plain]))
        ids, lengths = self._plain([one for one, is_plain in zip(texts, plain, strict=True) if is_plain])
        known = iter(np.split(ids, np.cumsum(lengths)[:-1]))
        parts = [next(known) if is_plain else np.array(next(odd), np.uint32) for is_plain in plain]
        return np.concatenate(parts), np.fromiter(map(len, parts), np.int64, len(parts))

    def _plain(self, texts: Sequence[str]) -> tuple[Ids, Lengths]:
        """Sentences whose words are separated by single spaces."""
        if not texts:
            return np.empty(0, np.uint32), np.empty(0, np.int64)
        words = " ".join(texts).split(" ")
        counts = np.fromiter((text.count(" ") + 1 for text in texts), np.int64, len(texts))
        first = np.cumsum(counts) - counts
        opening = [words[place] for place in first]
        self._learn(self._later, set(words), self._space)
        self._learn(self._first, set(opening), "")
        rows = np.fromiter(map(self._later.__getitem__, words), np.int64, len(words))
        rows[first] = np.fromiter(map(self._first.__getitem__, opening), np.int64, len(opening))
        lengths = self._lengths[rows]
        ends = np.cumsum(lengths)
        places = np.arange(ends[-1]) + np.repeat(self._starts[rows] - ends + lengths, lengths)
        return self._ids[places], np.add.reduceat(lengths, first)

    def _learn(self, known: dict[str, int], words: set[str], before: str) -> None:
        new = list(words - known.keys())
        if new:
            ids, lengths = _flat(self._built.encode([before + word for word in new]))
            known.update(zip(new, range(len(self._lengths), len(self._lengths) + len(new)), strict=True))
            self._starts = np.concatenate([self._starts, len(self._ids) + np.cumsum(lengths) - lengths])
            self._lengths = np.concatenate([self._lengths, lengths])
            self._ids = np.concatenate([self._ids, ids])

    def _forget(self) -> None:
        self._first.clear()
        self._later.clear()
        self._ids, self._starts, self._lengths = np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, np.int64)


def _byte_encoder(built: BuiltTokenizer) -> EncodeLines:
    table = np.array([built.tokenizer.token_to_id(name) for name in byte_names()], np.uint32)

    def encode(lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        return table[np.frombuffer(b"".join(lines), np.uint8)], np.fromiter(map(len, lines), np.int64, len(lines))

    return encode


def _character_encoder(built: BuiltTokenizer) -> EncodeLines:
    table = np.full(0x110000, built.unk_id, np.uint32)
    for name, index in built.tokenizer.get_vocab().items():
        if len(name) == 1:
            table[ord(name)] = index

    def encode(lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        texts = [line.decode() for line in lines]
        return table[np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)], np.fromiter(map(len, texts), np.int64, len(texts))

    return encode


def _flat(ids: Sequence[Sequence[int]]) -> tuple[Ids, Lengths]:
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    return np.fromiter(chain.from_iterable(ids), np.uint32, int(lengths.sum())), lengths
