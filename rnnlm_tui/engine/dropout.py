"""Dropout of single activations, of units for a whole window, and of whole words."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 2**16
"""On a CPU 16 random bits decide, so the rate is exact to 1/65,536."""


def drop(features: Tensor, rate: float) -> Tensor:
    """Zero each element with probability `rate` and scale the rest by 1 / (1 - rate).

    On a CPU torch's dropout draws one double per element, a tenth of a small model's step. Four
    decisions from one 64-bit word of the global generator cost a fifth of that.
    """
    if features.device.type != "cpu":
        return F.dropout(features, rate, training=True)
    count = features.numel()
    # From -2^63: otherwise the highest bit would always be zero.
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    threshold = round(rate * LEVELS) - LEVELS // 2
    kept = words.view(torch.int16)[:count].view(features.shape) >= threshold
    return features * kept.to(features.dtype).mul_(1 / (1 - round(rate * LEVELS) / LEVELS))


def drop_units(features_TBE: Tensor, rate: float) -> Tensor:
    """Drop the same units at all T time steps of a window, different ones in each sequence.

    Gal and Ghahramani, "A Theoretically Grounded Application of Dropout in Recurrent Neural Networks" (2016), in the form of
    Merity, Keskar and Socher, "Regularizing and Optimizing LSTM Language Models" (2017), section 4.2.
    """
    return features_TBE * drop(torch.ones_like(features_TBE[:1]), rate)


def drop_words(features_TBE: Tensor, tokens_TB: Tensor, vocab_size: int, rate: float) -> Tensor:
    """Drop whole words of the vocabulary: zero their vectors throughout the batch and scale the others.

    Merity, Keskar and Socher (2017), section 4.3. The mask applies to the vectors, not to the matrix, so
    a tied output matrix is not affected.
    """
    kept_V = drop(features_TBE.new_ones(vocab_size), rate)
    return features_TBE * kept_V[tokens_TB].unsqueeze(-1)
