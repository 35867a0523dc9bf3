"""The learning-rate range test on a small real model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.tuning import RangeDone, range_request
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.worker.build import build_batches, build_model, build_trainer
from rnnlm_tui.worker.probe import prepare, range_test

SMALL = {"corpus.sentences": 300, "model.embedding_dim": 16, "model.hidden_size": 16}


def small(batch_size: int = 8) -> RunConfig:
    """A config with steps of some milliseconds."""
    more = {"training.batch_size": batch_size, "training.threads": 1, "model.dropout": 0.3}
    return parse_config(merge(PRESETS["elman"], {**SMALL, **more}))


def range_of(config: RunConfig) -> RangeDone:
    """The test of a config, in this process."""
    corpus, _ = prepare(config, lambda *_: None)
    return range_test(range_request(config, steps=60), corpus, lambda *_: None)


def test_it_begins_as_the_run_would_and_ends_with_a_suggestion_and_no_run(home: Path) -> None:
    config = small()
    corpus, _ = prepare(config, lambda *_: None)
    trainer = build_trainer(config, build_model(config, corpus), build_batches(config, corpus))
    torch.manual_seed(config.training.seed)
    first = float(trainer.train_step().loss)
    found = range_of(config)
    assert found.losses[0] == first
    assert found.rates == range_request(config, steps=60).rates[: len(found.losses)]
    assert 1e-3 < (found.suggestion or 0) < 1e-1
    assert [path.name for path in home.iterdir()] == ["corpora"]
    torch.rand(7)
    assert range_of(config) == found, "whatever was drawn before"


def test_a_text_shorter_than_a_batch_is_refused(home: Path) -> None:
    with pytest.raises(CorpusError, match="batch"):
        range_of(small(batch_size=2_000))
