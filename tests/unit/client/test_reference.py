"""The book's reference run, compared with runs that follow its protocol."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.lineage import Parent
from rnnlm_tui.schema.presets import BOOK
from rnnlm_tui.store.summary import Evaluations, RunState, reference_figures, summarize_state


def test_the_reference_has_the_evaluation_nearest_in_sentences() -> None:
    found = reference_figures(BOOK, 1_563 * 15)
    assert found is not None
    assert (found.sentences, found.perplexity, found.reference_sentences) == (
        3_000_960,
        92.16,
        3_000_960,
    )


def test_before_the_first_evaluation_the_reference_has_no_results() -> None:
    found = reference_figures(BOOK, None)
    assert found is not None
    assert found.perplexity is None


@pytest.mark.parametrize(
    ("step", "compared"), [(171_804, True), (171_805, False), (2 * 171_804, False)]
)
def test_after_the_first_epoch_the_reference_has_no_results(step: int, compared: bool) -> None:
    found = reference_figures(BOOK, step, steps_per_epoch=171_804.0)
    assert found is not None
    assert (found.perplexity is not None, found.reference_sentences is not None) == (
        compared,
        compared,
    )
    assert found.sentences == step * 128


def test_more_sentences_than_the_reference_saw_are_not_compared() -> None:
    found = reference_figures(BOOK, 172_149)
    assert found is not None
    assert found.perplexity is None


def test_another_config_initial_weights_or_rate_have_no_reference() -> None:
    def compared(**changes: object) -> bool:
        state = RunState(
            name="plain-otter",
            config=BOOK,
            status="running",
            facts=Facts(),
            recent=[],
            evaluations=Evaluations(),
        )
        return summarize_state(replace(state, **changes)).reference is not None  # type: ignore[arg-type]

    assert compared()
    assert compared(facts=Facts(settings={"evaluation.every": 100}))
    assert not compared(facts=Facts(settings={"optimizer.learning_rate": 1e-4}))
    assert not compared(config=RunConfig())
    assert not compared(
        parent=Parent(run="plain-otter", checkpoint="40", step=40, hash="ab", created=0.0)
    )
