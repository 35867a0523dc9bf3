"""Evaluation: token-weighted, over all tokens, and without side effects."""

from __future__ import annotations

from itertools import repeat

import pytest
import torch
from torch.nn import functional as F

from rnnlm_tui.engine.batches import (
    SentenceBatches,
    StreamBatches,
    evaluation_batches,
    stream_evaluation,
)
from rnnlm_tui.engine.evaluate import evaluate
from rnnlm_tui.engine.generation import lay_out_weights
from rnnlm_tui.engine.inspection import trace
from rnnlm_tui.engine.loss import has_onednn
from rnnlm_tui.engine.trainer import Trainer
from rnnlm_tui.schema.estimates import Schedule

from .builders import sentences, small_model, text


def test_stream_score_equals_one_pass_over_the_whole_text() -> None:
    model, tokens = small_model(), text(3_000)
    ids = torch.from_numpy(tokens.astype("int64")).unsqueeze(0)
    with torch.no_grad():
        logits, _ = model(ids[:, :-1], model.initial_state(1))
    exact = F.cross_entropy(logits[0].double(), ids[0, 1:])
    score = evaluate(model, stream_evaluation(tokens, streams=5, window=64, warm_up=64))
    assert score.tokens == 2_999
    assert score.loss == pytest.approx(exact.item(), rel=1e-6)


def test_sentence_score_weights_tokens_not_batches() -> None:
    model = small_model()
    tokens, offsets = sentences(30)
    total, count = 0.0, 0
    for start, end in zip(offsets[:-1].astype(int), offsets[1:].astype(int), strict=True):
        ids = torch.from_numpy(tokens[start : min(end, start + 7)].astype("int64")).unsqueeze(0)
        with torch.no_grad():
            logits, _ = model(ids[:, :-1], model.initial_state(1))
        total, count = (
            total + F.cross_entropy(logits[0], ids[0, 1:], reduction="sum").item(),
            count + ids.shape[1] - 1,
        )
    for batch_size in (1, 7, 100):
        batches = SentenceBatches(tokens, offsets, batch_size, 7, 0, shuffle=False)
        score = evaluate(model, map(batches.batch, repeat(0), range(batches.steps_per_epoch)))
        assert score.tokens == count
        assert score.loss == pytest.approx(total / count, rel=1e-6)


def test_evaluation_is_without_dropout_and_restores_mode_and_generators() -> None:
    model, tokens = small_model(dropout=0.5).train(), text(300)
    before = torch.get_rng_state()
    first, second = (evaluate(model, stream_evaluation(tokens)) for _ in range(2))
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert first.loss == second.loss


def test_unknown_targets_are_counted() -> None:
    model, tokens = small_model(), text(3_000)
    score = evaluate(
        model, stream_evaluation(tokens, streams=5, window=64, warm_up=64), unknown_id=3
    )
    assert score.unknown == int((tokens[1:] == 3).sum()) > 0
    some, offsets = sentences(30)
    scored = [
        token
        for start, end in zip(offsets[:-1].astype(int), offsets[1:].astype(int), strict=True)
        for token in some[start + 1 : min(end, start + 7)]
    ]
    batches = evaluation_batches(some, offsets, data_mode="sentences", context_length=7, pad_id=0)
    assert evaluate(model, batches, unknown_id=3).unknown == scored.count(3)
    assert evaluate(model, stream_evaluation(tokens)).unknown == 0


@pytest.mark.skipif(not has_onednn(), reason="oneDNN isn't in this torch")
@pytest.mark.parametrize("vocab_size", [934, 1_000, 1_008, 1_024, 2_100])
def test_no_size_of_the_vocabulary_is_computed_by_onednns_reference_code(
    vocab_size: int, capfd: pytest.CaptureFixture[str]
) -> None:
    tokens = text(600, vocab_size=vocab_size)
    plain, laid_out = (small_model(vocab_size=vocab_size) for _ in range(2))
    lay_out_weights(laid_out)
    batches = StreamBatches(tokens, batch_size=4, bptt=10)
    with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):  # type: ignore[no-untyped-call]
        scored, evaluated = (evaluate(one, stream_evaluation(tokens)) for one in (laid_out, plain))
        trace(laid_out, tokens[:50].tolist())
        Trainer(plain, batches, max_steps=1, schedule=Schedule(0.01)).train_step()
    done = [line for line in capfd.readouterr().out.splitlines() if ",exec," in line]
    assert done
    assert not [line for line in done if ",ref" in line]
    assert scored.loss == evaluated.loss  # bit for bit
