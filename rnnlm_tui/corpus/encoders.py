"""Encode many sentences at once, with exactly the same ids as the tokenizer's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.corpus.tokenizers import BLOCKS, WORDS, BuiltTokenizer, byte_names
from rnnlm_tui.schema.corpora import TextLayout
from rnnlm_tui.system.machine import usable_cores

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
        self._known = _IdsOfWords(built)

    def __call__(self, lines: Sequence[bytes]) -> tuple[Ids, Lengths]:
        if len(self._known) > CACHED_WORDS:
            self._known.clear()
        texts = [line.decode() for line in lines]
        words = [self._find(text) for text in texts]
        if 2 * len(set().union(*words)) > sum(map(len, words)):
            return _encode(self._built, texts)
        ids = [b"".join(map(self._known.__getitem__, found)) for found in words]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids)) // np.uint32().nbytes
        return np.frombuffer(b"".join(ids), np.uint32), lengths


class _IdsOfWords(dict[str, bytes]):
    """The ids of each word, as the bytes of an array."""

    def __init__(self, built: BuiltTokenizer) -> None:
        self._tokenizer = built.tokenizer

    def __missing__(self, word: str) -> bytes:
        ids = self._tokenizer.encode(word, add_special_tokens=False).ids
        self[word] = kept = np.array(ids, np.uint32).tobytes()
        return kept


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
