"""Evaluation: token-weighted, over all tokens, and without side effects."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from rnnlm_tui.engine.batches import SentenceEvaluation, StreamEvaluation
from rnnlm_tui.engine.evaluate import evaluate

from .builders import sentences, small_model, text


def test_stream_score_equals_one_pass_over_the_whole_text() -> None:
    model, tokens = small_model(), text(3_000)
    ids = torch.from_numpy(tokens.astype("int64")).unsqueeze(0)
    with torch.no_grad():
        logits, _ = model(ids[:, :-1], model.initial_state(1))
    exact = F.cross_entropy(logits[0].double(), ids[0, 1:])
    score = evaluate(model, StreamEvaluation(tokens, streams=5, window=64, warm_up=64))
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
        score = evaluate(
            model,
            SentenceEvaluation(tokens, offsets, context_length=7, pad_id=0, batch_size=batch_size),
        )
        assert score.tokens == count
        assert score.loss == pytest.approx(total / count, rel=1e-6)


def test_evaluation_is_without_dropout_and_restores_mode_and_generators() -> None:
    model, tokens = small_model(dropout=0.5).train(), text(300)
    before = torch.get_rng_state()
    first, second = (evaluate(model, StreamEvaluation(tokens)) for _ in range(2))
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert first.loss == second.loss


def test_unknown_targets_are_counted() -> None:
    model, tokens = small_model(), text(3_000)
    score = evaluate(
        model, StreamEvaluation(tokens, streams=5, window=64, warm_up=64), unknown_id=3
    )
    assert score.unknown == int((tokens[1:] == 3).sum()) > 0
    some, offsets = sentences(30)
    scored = [
        token
        for start, end in zip(offsets[:-1].astype(int), offsets[1:].astype(int), strict=True)
        for token in some[start + 1 : min(end, start + 7)]
    ]
    assert evaluate(
        model, SentenceEvaluation(some, offsets, context_length=7, pad_id=0), unknown_id=3
    ).unknown == scored.count(3)
    assert evaluate(model, StreamEvaluation(tokens)).unknown == 0
