"""BPE merges of many words at once with numpy, several times as fast as `tokenizers`.

The resulting ids are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint32]
Lengths = NDArray[np.int64]

LONGEST_PIECE = 31
"""Most characters of a piece, including its space; words with longer pieces go to the tokenizer."""

_BATCH = 8_192
"""Pieces merged at once; their tables fit into the CPU cache."""

_CROWDED = 0.75
"""Finished columns are removed from the tables if a smaller fraction of columns has merges left."""

_NONE = np.int32(2**31 - 1)
_PLACE_BITS = 5
_LETTER, _DIGIT, _SIGN = 1, 2, 3


Inside = Literal["whole", "classes", "letters"]
"""How words are split before merging.

whole: not at all; classes: between letters, digits and punctuation; letters: unknown, but never
between letters.
"""


@dataclass(frozen=True, slots=True)
class WordRules:
    """How a tokenizer encodes words independently of each other."""

    space: str
    """Prefix to encode a word from inside a sentence alone."""
    mark: str = ""
    """The sign for the space before a word; empty if PairMerger doesn't support the tokenizer."""
    mark_at_start: bool = False
    """Whether the first word of a sentence has the mark too."""
    inside: Inside = "whole"
    names: tuple[str, ...] = ()
    """The sign for each ASCII character in tokens."""
    added_tokens: tuple[str, ...] = ()
    """Tokens found before words are split; sentences that contain one are encoded by the tokenizer.
    """


class PairMerger:
    """Merge the characters of words like a BPE model: the leftmost pair of lowest rank first.

    It only encodes ASCII words with short pieces and without apostrophes; `encode` returns which.
    """

    def __init__(self, model: Mapping[str, Any], rules: WordRules) -> None:
        vocabulary: dict[str, int] = model["vocab"]
        self._rules = rules
        self._mark = vocabulary.get(rules.mark, -1)
        self._signs = np.array([vocabulary.get(name, -1) for name in rules.names], np.int32)
        """The id of each ASCII character, or -1."""
        merges = [
            tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair)
            for pair in model["merges"]
        ]
        left = np.array([vocabulary[one] for one, _ in merges], np.int64)
        right = np.array([vocabulary[other] for _, other in merges], np.int64)
        self._merged = np.array([vocabulary[one + other] for one, other in merges], np.int32)
        """The resulting id of each merge, by rank."""
        self._build_table(left << 32 | right)
        classes = [
            _LETTER if chr(code).isalpha() else _DIGIT if chr(code).isdigit() else _SIGN
            for code in range(128)
        ]
        self._classes = np.array(classes, np.uint8)

    def encode(
        self, words: Sequence[str], *, opening: bool
    ) -> tuple[Ids, Lengths, NDArray[np.bool_]]:
        """Encode the supported words.

        Args:
            opening: whether the words start sentences, without a space before them.

        Returns:
            All ids, the number of ids of each word (0 for unsupported words), and which words are
            supported.
        """
        blob = np.frombuffer("\n".join(words).encode(), np.uint8)
        ends = np.append(np.flatnonzero(blob == 10), len(blob))
        starts = np.append(0, ends[:-1] + 1)
        marked = bool(self._rules.mark) and (not opening or self._rules.mark_at_start)
        plain = (blob < 128) & (blob != 39)
        signs = self._signs[blob & 127]
        plain &= (signs >= 0) | (blob == 10)
        if self._rules.inside == "letters":
            plain &= (self._classes[blob & 127] == _LETTER) | (blob == 10)
        taken = (ends > starts) & np.logical_and.reduceat(plain, np.minimum(starts, len(blob) - 1))
        # a piece starts with a word, and inside a word where the character class changes
        kinds = self._classes[blob & 127]
        begins = np.zeros(len(blob) + 1, bool)
        if self._rules.inside == "classes":
            begins[1:-1] = kinds[1:] != kinds[:-1]
        begins[starts] = True
        begins[:-1] &= blob != 10
        piece_starts = np.flatnonzero(begins[:-1])
        words_of = np.searchsorted(starts, piece_starts, "right") - 1
        piece_ends = np.minimum(np.append(piece_starts[1:], len(blob)), ends[words_of])
        first = piece_starts == starts[words_of]
        lengths = piece_ends - piece_starts + (first & marked)
        taken[words_of[lengths > LONGEST_PIECE]] = False
        kept = taken[words_of]
        piece_starts, lengths, words_of, first = (
            piece_starts[kept],
            lengths[kept],
            words_of[kept],
            first[kept] & marked,
        )
        ids, counts = self._merge_pieces(signs, piece_starts, lengths, first)
        return ids, np.bincount(words_of, counts, len(words)).astype(np.int64), taken

    def _merge_pieces(
        self, signs: NDArray[np.int32], starts: Lengths, lengths: Lengths, marked: NDArray[np.bool_]
    ) -> tuple[Ids, Lengths]:
        """The ids of all pieces in order, and the number of ids of each."""
        counts = np.zeros(len(starts), np.int64)
        parts: list[tuple[Lengths, Ids]] = []
        order = np.argsort(lengths, kind="stable")
        for begin in range(0, len(order), _BATCH):
            rows = order[begin : begin + _BATCH]
            matrix = self._matrix(signs, starts[rows], lengths[rows], marked[rows])
            self._merge(matrix)
            merged = np.ascontiguousarray(matrix[:-2].T)
            found = merged >= 0
            counts[rows] = found.sum(1)
            parts.append((rows, merged[found].astype(np.uint32)))
        ids = np.empty(int(counts.sum()), np.uint32)
        places = np.cumsum(counts) - counts
        for rows, flat in parts:
            mine = counts[rows]
            ids[np.repeat(places[rows] - np.cumsum(mine) + mine, mine) + np.arange(len(flat))] = (
                flat
            )
        return ids, counts

    def _matrix(
        self, signs: NDArray[np.int32], starts: Lengths, lengths: Lengths, marked: NDArray[np.bool_]
    ) -> NDArray[np.int32]:
        """One column of ids per piece, padded with -1, plus two rows of -1."""
        longest = int(lengths.max())
        matrix = np.full((longest + 2, len(starts)), -1, np.int32)
        for row in range(longest):
            here = row < lengths
            place = np.where(here, starts + row - marked, 0)
            matrix[row] = np.where(here, signs[place], -1)
        matrix[0, marked] = self._mark
        return matrix

    def _merge(self, matrix: NDArray[np.int32]) -> None:
        """Merge all columns in place; a position merged into another becomes -1."""
        longest, width = len(matrix) - 2, matrix.shape[1]
        before = np.repeat(np.arange(-1, longest + 1, dtype=np.int32)[:, None], width, 1)
        before[0] = longest + 1  # the row before the first one is never read,
        after = np.repeat(np.arange(1, longest + 3, dtype=np.int32)[:, None], width, 1)
        after[longest:] = longest  # nor is the row after the last one
        ranks = np.full((longest + 2, width), _NONE, np.int32)
        for row in range(longest - 1):
            ranks[row] = self._ranks(matrix[row], matrix[row + 1], row)
        signs, origin = matrix, np.arange(width)
        while True:
            best = ranks[:longest].min(0)
            active = best < _NONE
            columns = np.flatnonzero(active)
            crowded = len(columns) >= _CROWDED * len(best)
            if not crowded:  # store finished columns, so that the tables stay small
                if signs is not matrix:
                    matrix[:, origin] = signs
                if not len(columns):
                    return
                signs, before, after, ranks = (
                    np.ascontiguousarray(table[:, active])
                    for table in (signs, before, after, ranks)
                )
                origin, best, columns = origin[active], best[active], np.arange(len(columns))
            elif len(columns) < len(best):
                best = best[columns]
            width = len(origin)
            place = best & (2**_PLACE_BITS - 1)
            here = place * width + columns
            gone = after.ravel()[here] * width + columns
            behind_row = after.ravel()[gone]
            behind = behind_row * width + columns
            front_row = before.ravel()[here]
            front = front_row * width + columns
            new = self._merged[best >> _PLACE_BITS]
            signs.ravel()[here] = new
            signs.ravel()[gone] = -1
            after.ravel()[here] = behind_row
            before.ravel()[behind] = place
            ranks.ravel()[gone] = _NONE
            ranks.ravel()[here] = self._ranks(new, signs.ravel()[behind], place)
            ranks.ravel()[front] = self._ranks(signs.ravel()[front], new, front_row)

    def _ranks(
        self, left: NDArray[np.int32], right: NDArray[np.int32], place: NDArray[np.int32] | int
    ) -> NDArray[np.int32]:
        """The rank of each pair, with its row in the low bits; `_NONE` if it has no merge."""
        keys = left.astype(np.int64) << 32 | right
        slots = (keys.view(np.uint64) * self._factor >> self._shift).astype(np.int64)
        there = self._keys[slots]
        hit = there == keys
        found = np.where(hit, self._values[slots], _NONE)
        left_over = np.flatnonzero(~hit & (there != -1))
        for step in range(1, self._probes if len(left_over) else 1):
            at = slots[left_over] + step
            found[left_over] = np.where(
                self._keys[at] == keys[left_over], self._values[at], found[left_over]
            )
        return np.bitwise_or(found, place, dtype=np.int32)

    def _build_table(self, keys: NDArray[np.int64]) -> None:
        """Build a hash table of the pairs (open addressing, the best of eight hash factors)."""
        bits = max(8, int(np.ceil(np.log2(max(1, len(keys)) * 8))))
        self._shift = np.uint64(64 - bits)
        draw = np.random.default_rng(1)
        best: tuple[int, np.uint64] | None = None
        for _ in range(8):
            factor = np.uint64(int(draw.integers(2**62, 2**63)) * 2 + 1)
            crowd = self._displacements(keys, factor)[0]
            if best is None or crowd < best[0]:
                best = crowd, factor
        assert best is not None
        self._probes, self._factor = best[0], best[1]
        _, slots = self._displacements(keys, self._factor)
        size = 2**bits + self._probes
        self._keys = np.full(size, -1, np.int64)
        self._values = np.full(size, _NONE, np.int32)
        self._keys[slots] = keys
        self._values[slots] = np.arange(len(keys), dtype=np.int32) << _PLACE_BITS

    def _displacements(
        self, keys: NDArray[np.int64], factor: np.uint64
    ) -> tuple[int, NDArray[np.int64]]:
        """The most probes that a key needs, and the slot of each key."""
        wanted = (keys.view(np.uint64) * factor >> self._shift).astype(np.int64)
        order = np.argsort(wanted, kind="stable")
        slots = np.empty(len(keys), np.int64)
        steps = np.arange(len(keys))
        slots[order] = np.maximum.accumulate(wanted[order] - steps) + steps
        return (int((slots - wanted).max()) + 1 if len(keys) else 1), slots
