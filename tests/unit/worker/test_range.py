"""The learning-rate range test on a small real model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rnnlm_tui.corpus.corpus import PreparedCorpus
from rnnlm_tui.engine.model import RecurrentLanguageModel
from rnnlm_tui.errors import CorpusError, RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.tuning import DIVERGED, RangeDone, range_request
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.worker.build import build_batches, build_model, build_trainer
from rnnlm_tui.worker.probe import prepare, range_test

SMALL = {
    "corpus.sentences": 300,
    "model.embedding_dim": 16,
    "model.hidden_size": 16,
    "training.batch_size": 8,
    "training.threads": 1,
}


def small(**changes: object) -> RunConfig:
    """A config with steps of some milliseconds."""
    others = {path.replace("__", "."): value for path, value in changes.items()}
    return parse_config(merge(PRESETS["elman"], {**SMALL, **others}))


def range_of(config: RunConfig, reported: list[int] | None = None) -> RangeDone:
    """The test of a config, in this process."""
    counts = reported if reported is not None else []
    corpus, _ = prepare(config, lambda *_: None)
    request = range_request(config, steps=60)
    return range_test(request, corpus, lambda _phase, done=0, _total=0: counts.append(done))


def test_the_rate_grows_until_the_loss_diverges_and_no_run_is_left(home: Path) -> None:
    config, reported = small(), list[int]()
    found = range_of(config, reported)
    steps = len(found.rates)
    assert reported == list(range(steps))
    assert len(found.losses) == len(found.smoothed) == steps
    assert found.rates == range_request(config, steps=60).rates[:steps]
    assert found.diverged == (found.losses[-1] > DIVERGED * min(found.losses))
    assert 1e-3 < (found.suggestion or 0) < 1e-1
    assert [path.name for path in home.iterdir()] == ["corpora"]


def test_it_begins_as_the_run_would_and_is_the_same_whatever_was_drawn_before(home: Path) -> None:
    config = small(model__dropout=0.3)
    corpus, _ = prepare(config, lambda *_: None)
    torch.manual_seed(config.training.seed)
    trainer = build_trainer(config, build_model(config, corpus), build_batches(config, corpus))
    first = float(trainer.train_step().loss)
    torch.rand(7)
    found = range_of(config)
    assert found.losses[0] == first
    assert range_of(config) == found


def test_a_short_text_and_a_loss_that_is_never_finite_are_reported(home: Path) -> None:
    with pytest.raises(CorpusError, match="batch"):
        range_of(small(corpus__sentences=100, training__batch_size=2_000))
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(RnnlmError, match="the first step is not finite: loss nan"),
    ):
        patch.setattr("rnnlm_tui.worker.build.build_model", _broken_model)
        range_of(small())


def _broken_model(config: RunConfig, corpus: PreparedCorpus) -> RecurrentLanguageModel:
    model = build_model(config, corpus)
    torch.nn.init.constant_(model.output.bias, torch.nan)
    return model
