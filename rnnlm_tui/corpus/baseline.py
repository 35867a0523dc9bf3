"""What the bigram baseline scores on a prepared corpus, at exactly the positions a model is evaluated at."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from rnnlm_tui.contract.config import TrainingConfig
from rnnlm_tui.contract.corpora import Split, baseline_key
from rnnlm_tui.corpus.ngram import BigramModel, Pairs, Tokens, sentence_pairs, stream_pairs
from rnnlm_tui.corpus.sources import Advance

COUNTED_TOKENS = 1 << 25
"""The baseline is estimated from the first so many training tokens at most, so that its memory does not grow with the corpus.

About one in eighteen of the news sentences' tokens. On drawn text of 32,011 types it held 300 MB and took 20 s on one core.
A bigram model gains little from more: on text that it never saw the frequent pairs decide.
"""

EVALUATED: tuple[Split, ...] = ("validation", "test")

Load = Callable[[Split], tuple[Tokens, NDArray[np.uint64]]]
"""Tokens and sentence offsets of a split."""


def baseline_losses(load: Load, vocab_size: int, training: TrainingConfig, advance: Advance) -> dict[str, float]:
    """Losses in nats per token by `baseline_key`, for the data mode that the run trains and is evaluated in.

    Args:
        advance: told how many more tokens were looked at, of `COUNTED_TOKENS` at most for training and all that are evaluated.
    """

    def pairs(split: Split, limit: int | None = None) -> Iterator[Pairs]:
        tokens, offsets = load(split)
        sentences = training.data_mode == "sentences"
        for before, after in sentence_pairs(tokens, offsets, training.context_length, limit) if sentences else stream_pairs(tokens, limit):
            yield before, after
            advance(len(after))

    model = BigramModel(pairs("train", COUNTED_TOKENS), vocab_size)
    return {baseline_key(split, training.data_mode, training.context_length): model.loss(pairs(split)) for split in EVALUATED}
