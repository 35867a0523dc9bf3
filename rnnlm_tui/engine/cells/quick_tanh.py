"""A faster tanh for CPU recurrences, where torch's takes a large part of a time step."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_MINUS_ONE: Final = torch.tensor(-1.0)


def tanh_(numbers: Tensor) -> Tensor:
    """tanh in place, from the sigmoid, which torch vectorizes.

    At 128 x 128 float32 numbers it takes 0.3 of `torch.tanh`'s time, at 20 x 192 0.6 (measured on one core).
    Only for float32, where it is within 2e-7 of the true value, about the rounding of a state near 1, and
    float64: a coarser type would lose small values in the subtraction.
    """
    return tanh_of_half_(numbers.mul_(2))


def tanh_of_half_(numbers: Tensor) -> Tensor:
    """tanh(x / 2) = 2 sigmoid(x) - 1, in place, for sums that a matrix product doubled at no cost."""
    return torch.add(_MINUS_ONE, numbers.sigmoid_(), alpha=2, out=numbers)
