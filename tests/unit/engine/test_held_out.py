"""Held-out text in batches: every target once, after the tokens before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rnnlm_tui.engine.batches import evaluation_batches, stream_evaluation
from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.errors import CorpusError

from .builders import sentences, text


def test_one_token_is_too_few_to_evaluate() -> None:
    with pytest.raises(CorpusError, match="too few"):
        list(stream_evaluation(text(1)))


@pytest.mark.parametrize(
    ("length", "streams", "window", "warm_up"),
    [(2, 4, 3, 2), (50, 4, 7, 3), (101, 16, 128, 4), (997, 5, 16, 0)],
)
def test_stream_evaluation_counts_every_target_once_after_the_tokens_before_it(
    length: int, streams: int, window: int, warm_up: int
) -> None:
    batches = list(
        stream_evaluation(
            np.arange(length, dtype=np.uint16), streams=streams, window=window, warm_up=warm_up
        )
    )
    assert sorted(
        int(target) for batch in batches for target in batch.targets_BT[batch.targets_BT != IGNORED]
    ) == list(range(1, length))
    for batch in batches:
        inside = batch.targets_BT != IGNORED
        assert torch.equal(batch.inputs_BT[inside] + 1, batch.targets_BT[inside])
        assert batch.tokens == int(inside.sum())
    if warm_up:
        # A stream that does not begin the text reads `warm_up` tokens before it counts one.
        first = batches[0]
        assert all(
            int((row == IGNORED).int().argmin()) == min(warm_up, int(start))
            for row, start in zip(first.targets_BT, first.inputs_BT[:, 0], strict=True)
        )


def test_evaluation_of_the_first_sentences_stops_after_them() -> None:
    tokens, offsets = sentences(20)
    end = int(offsets[6])
    for data_mode, expected in (("stream", end - 1), ("sentences", end - 6)):
        batches = evaluation_batches(
            tokens, offsets, data_mode=data_mode, context_length=30, pad_id=0, max_sentences=6
        )
        assert sum(batch.tokens for batch in batches) == expected
        whole = evaluation_batches(
            tokens, offsets, data_mode=data_mode, context_length=30, pad_id=0
        )
        assert sum(batch.tokens for batch in whole) == len(tokens) - (
            1 if data_mode == "stream" else 20
        )
