"""The book's reference run, compared with runs that follow its protocol."""

from __future__ import annotations

import json

import pytest

from rnnlm_tui.client.summary import reference_figures
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import BOOK
from rnnlm_tui.schema.protocol import SETTINGS_KEY


def test_the_reference_has_the_evaluation_nearest_in_sentences() -> None:
    found = reference_figures(BOOK, {}, 1_563 * 15)
    assert found is not None
    assert (found.sentences, found.perplexity, found.reference_sentences) == (
        3_000_960,
        92.16,
        3_000_960,
    )


def test_before_the_first_evaluation_the_reference_has_no_results() -> None:
    found = reference_figures(BOOK, {}, None)
    assert found is not None
    assert found.perplexity is None


@pytest.mark.parametrize(
    ("step", "compared"), [(171_804, True), (171_805, False), (2 * 171_804, False)]
)
def test_after_the_first_epoch_the_reference_has_no_results(step: int, compared: bool) -> None:
    found = reference_figures(BOOK, {}, step, steps_per_epoch=171_804.0)
    assert found is not None
    assert (found.perplexity is not None, found.reference_sentences is not None) == (
        compared,
        compared,
    )
    assert found.sentences == step * 128


def test_more_sentences_than_the_reference_saw_are_not_compared() -> None:
    found = reference_figures(BOOK, {}, 172_149)
    assert found is not None
    assert found.perplexity is None


def test_another_config_initial_weights_or_rate_have_no_reference() -> None:
    assert reference_figures(RunConfig(), {}, 1_563) is None
    assert reference_figures(BOOK, {"parent": "plain-otter@last"}, 1_563) is None
    assert (
        reference_figures(
            BOOK, {SETTINGS_KEY: json.dumps({"optimizer.learning_rate": 1e-4})}, 1_563
        )
        is None
    )


def test_other_changed_settings_keep_the_reference() -> None:
    assert (
        reference_figures(BOOK, {SETTINGS_KEY: json.dumps({"evaluation.every": 100})}, 1_563)
        is not None
    )
    assert reference_figures(BOOK, {SETTINGS_KEY: "{"}, 1_563) is not None
