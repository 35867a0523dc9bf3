"""Quartiles of turns, and of ratios within rounds."""

from __future__ import annotations

from collections.abc import Sequence

from rnnlm_tui.contract.bench import Spread


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles by linear interpolation; at least one value."""
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return Spread(median=at(0.5), low=at(0.25), high=at(0.75))


def ratio(values: Sequence[float], others: Sequence[float]) -> Spread:
    """Spread of the ratios of two ways in the same rounds: whatever slows a whole round cancels out."""
    return spread([value / other for value, other in zip(values, others, strict=True)])
