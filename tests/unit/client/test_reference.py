"""The reference stands beside runs that followed its protocol from the first step on."""

from __future__ import annotations

import json

import pytest

from rnnlm_tui.client.summary import reference_figures
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.presets import BOOK
from rnnlm_tui.schema.protocol import SETTINGS_KEY


def test_the_evaluation_nearest_in_sentences_stands_beside_the_newest_own_one() -> None:
    found = reference_figures(BOOK, {}, 1_563 * 15)
    assert found is not None
    assert (found.sentences, found.perplexity, found.reference_sentences) == (
        3_000_960,
        92.16,
        3_000_960,
    )


def test_before_the_first_evaluation_there_is_a_reference_without_figures() -> None:
    found = reference_figures(BOOK, {}, None)
    assert found is not None
    assert found.perplexity is None


@pytest.mark.parametrize(
    ("step", "compared"), [(171_804, True), (171_805, False), (2 * 171_804, False)]
)
def test_after_the_first_epoch_nothing_of_the_reference_stands_beside_a_run(
    step: int, compared: bool
) -> None:
    found = reference_figures(BOOK, {}, step, steps_per_epoch=171_804.0)
    assert found is not None
    assert (found.perplexity is not None, found.reference_sentences is not None) == (
        compared,
        compared,
    )
    assert found.sentences == step * 128


def test_a_run_that_saw_more_sentences_than_the_reference_is_compared_with_nothing_even_before_its_epoch_is_known() -> (
    None
):
    found = reference_figures(BOOK, {}, 172_149)
    assert found is not None
    assert found.perplexity is None


def test_another_config_other_weights_or_another_rate_have_no_reference() -> None:
    assert reference_figures(RunConfig(), {}, 1_563) is None
    assert reference_figures(BOOK, {"parent": "plain-otter@last"}, 1_563) is None
    assert (
        reference_figures(
            BOOK, {SETTINGS_KEY: json.dumps({"optimizer.learning_rate": 1e-4})}, 1_563
        )
        is None
    )


def test_other_settings_and_unreadable_ones_change_nothing() -> None:
    assert (
        reference_figures(BOOK, {SETTINGS_KEY: json.dumps({"evaluation.every": 100})}, 1_563)
        is not None
    )
    assert reference_figures(BOOK, {SETTINGS_KEY: "{"}, 1_563) is not None
