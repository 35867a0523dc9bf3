"""What the bigram baseline scores on a prepared corpus, at exactly the positions a model is evaluated at."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.contract.config import TrainingConfig
from rnnlm_tui.contract.corpora import Split, baseline_key
from rnnlm_tui.corpus.ngram import BigramModel, Pairs, Tokens, sentence_pairs, stream_pairs

COUNTED_TOKENS = 1 << 25
"""The baseline is estimated from the first so many training tokens at most, so that its memory does not grow with the corpus.

On the news sentences that is one in eighteen; five to seven million different pairs at 16 bytes, and while they are merged four times that.
A bigram model gains little from more: its loss on text that it never saw is decided by the frequent pairs.
"""

EVALUATED: tuple[Split, ...] = ("validation", "test")

Load = Callable[[Split], tuple[Tokens, NDArray[np.uint64]]]
"""Tokens and sentence offsets of a split."""


def baseline_losses(load: Load, vocab_size: int, training: TrainingConfig) -> dict[str, float]:
    """Losses in nats per token by `baseline_key`, for the data mode that the run trains and is evaluated in."""

    def pairs(split: Split, limit: int | None = None) -> Iterator[Pairs]:
        tokens, offsets = load(split)
        if training.data_mode == "sentences":
            return sentence_pairs(tokens, offsets, training.context_length, limit)
        return stream_pairs(tokens, limit)

    model = BigramModel(pairs("train", COUNTED_TOKENS), vocab_size)
    return {baseline_key(split, training.data_mode, training.context_length): model.loss(pairs(split)) for split in EVALUATED}
