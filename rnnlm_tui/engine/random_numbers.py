"""Random numbers that depend on a seed and a position alone, so that a text can be continued."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

NUMBERS_AT_ONCE = 1_024
"""Numbers that are computed together."""
MASK, GOLDEN = 2**64 - 1, 0x9E3779B97F4A7C15
MIXING = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def _mix(number: int) -> int:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    number &= MASK
    for shift, factor in MIXING:
        number = ((number ^ (number >> shift)) * factor) & MASK
    return number ^ (number >> 31)


class RandomNumbers:
    """Random numbers from 0 to below 1 for B texts, one for each attempt to sample the token at a
    position; text i has the seed plus i. Those of the first attempts come from a table."""

    def __init__(self, seed: int, count: int) -> None:
        self._keys = [_mix((seed + row) % 2**63 + GOLDEN) for row in range(count)]
        self._table_PB1, self._first = torch.empty(0, dtype=torch.float64), 0

    def at(self, position: int) -> Tensor:
        """Those of a position, shape (B, 1)."""
        if not self._first <= position < self._first + len(self._table_PB1):
            self._fill(position, max(1, NUMBERS_AT_ONCE // len(self._keys)))
        return self._table_PB1[position - self._first]

    def again(self, row: int, position: int, draw: int) -> float:
        """That of one text's attempt; 0 is the first."""
        number = _mix(self._keys[row] + position * GOLDEN)
        if draw:
            number = _mix(number + draw * GOLDEN)
        # 52 bits: a sum times this is smaller than the sum, also after rounding.
        return (number >> 12) * 2.0**-52

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these texts only."""
        self._keys = [self._keys[row] for row in rows]
        self._table_PB1 = self._table_PB1[:0]

    def _fill(self, first: int, count: int) -> None:
        positions = np.arange(first, first + count, dtype=np.uint64)[:, None]
        numbers = np.array(self._keys, dtype=np.uint64) + positions * np.uint64(GOLDEN)
        for shift, factor in MIXING:
            numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
        table_PB = ((numbers ^ (numbers >> np.uint64(31))) >> np.uint64(12)) * 2.0**-52
        self._first, self._table_PB1 = first, torch.from_numpy(table_PB)[:, :, None]
