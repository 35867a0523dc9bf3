"""Evaluate the bigram baseline on a prepared corpus, on the same targets as a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.contract.config import TrainingConfig
from rnnlm_tui.contract.corpora import Split, baseline_key
from rnnlm_tui.corpus.ngram import BigramModel, Pairs, Tokens, sentence_pairs, stream_pairs
from rnnlm_tui.corpus.sources import Advance

COUNTED_TOKENS = 1 << 25
"""The baseline is estimated from at most this many training tokens, to limit its memory.

That is about 1/18 of the news corpus. On random text with 32,011 types it took 300 MB and 20 s on one
core. More tokens hardly improve a bigram model, because frequent pairs dominate its loss.
"""

EVALUATED: tuple[Split, ...] = ("validation", "test")

Load = Callable[[Split], tuple[Tokens, NDArray[np.uint64]]]
"""Returns the tokens and sentence offsets of a split."""


def baseline_losses(load: Load, vocab_size: int, training: TrainingConfig, advance: Advance) -> dict[str, float]:
    """Losses of the baseline in nats per token, by `baseline_key`, in the run's data mode.

    Args:
        advance: called with the number of tokens just processed, of at most `COUNTED_TOKENS` training
            tokens and all evaluated tokens.
    """

    def pairs(split: Split, limit: int | None = None) -> Iterator[Pairs]:
        tokens, offsets = load(split)
        sentences = training.data_mode == "sentences"
        for before, after in sentence_pairs(tokens, offsets, training.context_length, limit) if sentences else stream_pairs(tokens, limit):
            yield before, after
            advance(len(after))

    model = BigramModel(pairs("train", COUNTED_TOKENS), vocab_size)
    return {baseline_key(split, training.data_mode, training.context_length): model.loss(pairs(split)) for split in EVALUATED}
