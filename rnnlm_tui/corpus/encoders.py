"""The fast ways from sentences to ids, one for each kind of tokenizer; each gives exactly what the tokenizer gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.corpus.tokenizers import BuiltTokenizer, byte_names

Ids = NDArray[np.uint32]
Lengths = NDArray[np.int64]
EncodeLines = Callable[[Sequence[bytes]], tuple[Ids, Lengths]]
"""Sentences as UTF-8 to all their ids, one sentence after the other, and the number of ids of each."""

KEPT_WORDS = 200_000
"""Words whose ids are remembered; a text with more of them starts anew, so that memory stays bounded."""


def line_encoder(built: BuiltTokenizer) -> EncodeLines:
    """The fastest encoder for this tokenizer."""
    built.tokenizer.encode_special_tokens = True  # text that reads "<eos>" is text
    if built.kind == "byte":
        return _byte_encoder(built)
    if built.kind == "character":
        return _character_encoder(built)
    if built.kind in ("bpe", "word"):
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
        self._first: dict[str, list[int]] = {}
        self._later: dict[str, list[int]] = {}

    def __call__(self, lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        if len(self._first) + len(self._later) > KEPT_WORDS:
            self._first, self._later = {}, {}
        texts = [line.decode() for line in lines]
        split = [text.split(" ") for text in texts]
        plain = [words == text.split() for words, text in zip(split, texts, strict=True)]
        odd = iter(self._built.encode([text for text, is_plain in zip(texts, plain, strict=True) if not is_plain]))
        self._learn(self._first, {words[0] for words, is_plain in zip(split, plain, strict=True) if is_plain}, "")
        self._learn(self._later, set(chain.from_iterable(words[1:] for words, is_plain in zip(split, plain, strict=True) if is_plain)), self._space)
        later = self._later.__getitem__
        ids: list[list[int]] = []
        for words, is_plain in zip(split, plain, strict=True):
            if is_plain:
                line = list(self._first[words[0]])
                line.extend(chain.from_iterable(map(later, words[1:])))
                ids.append(line)
            else:
                ids.append(next(odd))
        return _flat(ids)

    def _learn(self, known: dict[str, list[int]], words: set[str], before: str) -> None:
        new = list(words - known.keys())
        known.update(zip(new, self._built.encode([before + word for word in new]), strict=True))


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
