"""A test of frequencies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from torch import Tensor


def chi_square(tokens: Sequence[int], wanted_V: Tensor) -> float:
    """The statistic over its 99.99 % quantile (Wilson and Hilferty's approximation); infinite where
    an impossible token came."""
    counts, draws = Counter(tokens), len(tokens)
    possible = [token for token, p in enumerate(wanted_V.tolist()) if p > 0]
    if not set(counts) <= set(possible):
        return math.inf
    statistic = sum(
        (counts[token] - draws * float(wanted_V[token])) ** 2 / (draws * float(wanted_V[token]))
        for token in possible
    )
    freedom = len(possible) - 1
    return (
        statistic / (freedom * (1 - 2 / (9 * freedom) + 3.719 * math.sqrt(2 / (9 * freedom))) ** 3)
        if freedom
        else 0.0
    )
