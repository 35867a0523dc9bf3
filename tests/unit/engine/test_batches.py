"""Batches: every target at its place, the same in every process, and in the number that was
estimated."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from rnnlm_tui.engine import batches
from rnnlm_tui.engine.batches import Batch, Batches, SentenceBatches, StreamBatches
from rnnlm_tui.engine.loss import IGNORED
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import RunConfig, TrainingConfig
from rnnlm_tui.schema.estimates import steps_per_epoch

from .builders import batches_of, sentences, text


def one_pass(batches: Batches, epoch: int = 0) -> list[Batch]:
    return [batches.batch(epoch, index) for index in range(batches.steps_per_epoch)]


def counted(batches: list[Batch]) -> list[int]:
    return sorted(
        int(target)
        for batch in batches
        for target in batch.targets_BT.flatten()
        if target != IGNORED
    )


@pytest.mark.parametrize(
    ("length", "streams", "bptt"), [(101, 4, 5), (200, 4, 10), (57, 7, 100), (9, 8, 1)]
)
def test_streams_hold_contiguous_text_with_every_target_once(
    length: int, streams: int, bptt: int
) -> None:
    tokens = np.arange(length, dtype=np.uint16)
    windows = one_pass(StreamBatches(tokens, streams, bptt))
    config = RunConfig(training=TrainingConfig(batch_size=streams, bptt=bptt))
    assert len(windows) == steps_per_epoch(config, length, 1)
    inputs, targets = (
        torch.cat(parts, dim=1)
        for parts in ([w.inputs_BT for w in windows], [w.targets_BT for w in windows])
    )
    per_stream = (length - 1) // streams
    assert torch.equal(inputs.flatten(), torch.arange(streams * per_stream))
    assert torch.equal(targets, inputs + 1)
    assert sum(window.tokens for window in windows) == streams * per_stream
    assert [window.continues for window in windows] == [False] + [True] * (len(windows) - 1)


@pytest.mark.parametrize("batch_size", [1, 8, 37, 100])
def test_sentence_steps_are_those_estimated(batch_size: int) -> None:
    tokens, offsets = sentences(37)
    config = RunConfig(training=TrainingConfig(data_mode="sentences", batch_size=batch_size))
    assert SentenceBatches(tokens, offsets, batch_size, 7, 0).steps_per_epoch == steps_per_epoch(
        config, len(tokens), 37
    )


def test_sentences_are_cut_padded_on_the_right_and_in_file_order_without_shuffle() -> None:
    tokens = np.array([5, 6, 7, 8, 9, 1, 2, 3], dtype=np.uint16)
    (batch,) = one_pass(
        SentenceBatches(
            tokens, np.array([0, 5, 6, 8], dtype=np.uint64), 4, 4, pad_id=0, shuffle=False
        )
    )
    # The sentence of one token is skipped; the first is cut at four.
    assert batch.inputs_BT.tolist() == [[5, 6, 7], [2, 0, 0]]
    assert batch.targets_BT.tolist() == [[6, 7, 8], [3, IGNORED, IGNORED]]
    assert batch.tokens == 4
    assert not batch.continues
    assert batch.rows_N is not None
    assert batch.targets_BT.t().flatten()[batch.rows_N].tolist() == [6, 3, 7, 8]


def test_shuffling_changes_the_order_each_pass_and_keeps_every_target() -> None:
    batches = batches_of("sentences")
    first, second = one_pass(batches, 0), one_pass(batches, 1)
    assert counted(first) == counted(second)
    assert first[0].inputs_BT.tolist() != second[0].inputs_BT.tolist()
    tokens, offsets = sentences(37)
    assert counted(first) == counted(
        one_pass(SentenceBatches(tokens, offsets, 8, 7, 0, shuffle=False))
    )


@pytest.mark.parametrize("data_mode", ["stream", "sentences"])
def test_batches_do_not_depend_on_the_order_of_requests(data_mode: str) -> None:
    straight = [batch for epoch in range(3) for batch in one_pass(batches_of(data_mode), epoch)]
    seeking = batches_of(data_mode)
    for place in (14, 3, 9, 0, 7):
        batch = seeking.batch(*divmod(place, seeking.steps_per_epoch))
        assert torch.equal(batch.inputs_BT, straight[place].inputs_BT)
        assert torch.equal(batch.targets_BT, straight[place].targets_BT)


def test_too_short_a_text_is_refused_with_its_length() -> None:
    with pytest.raises(CorpusError, match="has 20 tokens, 20 streams need at least 21"):
        StreamBatches(text(20), 20, 35)
    with pytest.raises(CorpusError, match="two tokens"):
        SentenceBatches(text(2), np.array([0, 1, 2], dtype=np.uint64), 4, 30, 0)


@pytest.mark.parametrize("with_end", [True, False])
def test_sentences_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch, with_end: bool) -> None:
    """And a block that ends anywhere among them changes nothing."""
    lengths = np.array([5, 1, 9, 2, 0, 3, 12, 1, 4, 7], np.int64)
    ends = np.cumsum(lengths)
    offsets = np.concatenate([[0], ends if with_end else ends[:-1]]).astype(np.uint64)
    expected = [
        (int(end - length), min(int(length), 6))
        for end, length in zip(ends, lengths, strict=True)
        if length >= 2
    ]
    for block in range(1, 12):
        monkeypatch.setattr(batches, "_BLOCK_SENTENCES", block)
        made = SentenceBatches(
            np.arange(ends[-1]).astype(np.uint16), offsets, 1, 6, 0, shuffle=False
        )
        found = [
            (int(batch.inputs_BT[0, 0]), batch.inputs_BT.shape[1] + 1) for batch in one_pass(made)
        ]
        assert found == expected


def test_millions_of_sentences_take_few_bytes_each() -> None:
    count = 2_000_000
    offsets = np.arange(0, 20 * count + 1, 20).astype(np.uint64)
    tokens = np.zeros(20 * count, np.uint16)
    tracemalloc.start()
    try:
        SentenceBatches(tokens, offsets, 128, 30, 0, shuffle=False)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 0.5 * count  # it was thrown away
    assert peak < 32 * count
