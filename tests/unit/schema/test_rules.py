"""Fields that depend on each other, and the adjustments that solve their problems."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rnnlm_tui.errors import Adjustment, ConfigError, Place, Problem
from rnnlm_tui.schema.cells import CELLS
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.rules import RULES, TEXT_RULE, dependent_fields, text_problems
from rnnlm_tui.schema.validation import fields, merge, parse_assignments, parse_config

CONTRADICTIONS: dict[str, dict[str, object]] = {
    "tied widths": {"model.embedding_dim": 64},
    "heads": {"model.cell_type": "mlstm", "model.num_heads": 7},
    "more heads than units": {
        "model.cell_type": "slstm",
        "model.num_heads": 1_000,
        "model.hidden_size": 7,
        "model.tie_weights": False,
    },
    "transformer widths": {
        "model.cell_type": "transformer",
        "model.embedding_dim": 64,
        "model.tie_weights": False,
    },
    "window of a stream": {"model.cell_type": "transformer", "training.bptt": 300},
    "window of a sentence": {
        "model.cell_type": "transformer",
        "model.attention_window": 30,
        "training.data_mode": "sentences",
        "training.context_length": 32,
    },
    "weight dropout": {"model.cell_type": "mingru", "model.weight_dropout": 0.5},
    "stream dropout": {"training.data_mode": "sentences", "model.embedding_dropout": 0.1},
    "variational": {"training.data_mode": "sentences", "model.variational_dropout": True},
    "rate": {"optimizer.learning_rate": 7.0},
    "layout": {"corpus.layout": "raw"},
    "exact mode": {"training.deterministic": True, "training.matmul": "medium"},
    "tokenizer": {"tokenizer.kind": "pretrained"},
    "bpe": {"tokenizer.vocab_size": 100},
    "word": {"tokenizer.kind": "word", "tokenizer.vocab_size": 2},
    "precision": {"training.precision": "bf16", "training.device": "cpu"},
    "shares": {"distributed.processes": 8, "training.accumulate": 3},
    "parts": {"training.accumulate": 30},
    "one GPU": {"distributed.processes": 2, "training.device": "cuda:1"},
}


def problems_of(raw: dict[str, object]) -> tuple[Problem, ...]:
    try:
        parse_config(raw)
    except ConfigError as error:
        return error.problems
    return ()


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_each_adjustment_of_a_contradiction_solves_it(name: str) -> None:
    raw = merge(RunConfig(), CONTRADICTIONS[name])
    found = problems_of(raw)
    assert len(found) == 1
    assert found[0].adjustments
    for adjustment in found[0].adjustments:
        assert problems_of(merge(raw, dict(adjustment.changes))) == (), adjustment


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_an_adjustment_is_printed_as_options_that_mean_the_same(name: str) -> None:
    (found,) = problems_of(merge(RunConfig(), CONTRADICTIONS[name]))
    for adjustment in found.adjustments:
        assert str(adjustment) in str(found)
        assignments = str(adjustment).removeprefix("--set ").split(" --set ")
        assert parse_assignments(assignments) == dict(adjustment.changes)


@given(st.sets(st.sampled_from(sorted(CONTRADICTIONS)), min_size=4, max_size=4))
def test_several_contradictions_are_solved_one_after_the_other(some: set[str]) -> None:
    changes = {path: value for name in sorted(some) for path, value in CONTRADICTIONS[name].items()}
    raw = merge(RunConfig(), changes)
    for _ in range(12):
        if found := problems_of(raw):
            raw = merge(raw, dict(found[0].adjustments[0].changes))
    assert not problems_of(raw)


@given(st.integers(1, 1_024), st.integers(1, 65_536))
@example(1_024, 1)
@example(3, 65_536)
def test_heads_and_width_are_adjusted_to_each_other_for_any_values(heads: int, width: int) -> None:
    changes = {"model.cell_type": "mlstm", "model.num_heads": heads}
    widths = {"model.hidden_size": width, "model.embedding_dim": width}
    raw = merge(RunConfig(), {**changes, **widths})
    for problem in problems_of(raw):
        assert problem.path == "model.num_heads"
        for adjustment in problem.adjustments:
            assert problems_of(merge(raw, dict(adjustment.changes))) == ()


def test_a_context_longer_than_a_transformers_window_is_refused_with_both_values() -> None:
    for name, path, values in (
        ("window of a stream", "training.bptt", ("300", "256")),
        ("window of a sentence", "training.context_length", ("32", "30", "31")),
    ):
        (found,) = problems_of(merge(RunConfig(), CONTRADICTIONS[name]))
        assert found.path == path
        assert "model.attention_window" in found.message
        assert all(value in f"{found.message} {found.hint}" for value in values)
    fits = {**CONTRADICTIONS["window of a sentence"], "training.context_length": 31}
    assert problems_of(merge(RunConfig(), fits)) == ()


def test_fields_name_those_that_they_depend_on() -> None:
    assert set(dependent_fields("model.hidden_size")) == {
        "model.tie_weights",
        "model.embedding_dim",
        "model.num_heads",
        "model.cell_type",
    }
    assert "training.batch_size" in dependent_fields("corpus.source")
    assert dependent_fields("sampling.top_k") == ()
    named = {path for fields in (*(fields for fields, _ in RULES), TEXT_RULE) for path in fields}
    assert named <= set(fields())


@pytest.mark.parametrize(
    ("changes", "tokens", "sentences"),
    [
        ({"training.batch_size": 4_000}, 5_000, 100),
        ({"training.batch_size": 65_536}, 60_000, 100),
        ({"training.data_mode": "sentences", "training.batch_size": 128}, 5_000, 100),
        ({"training.data_mode": "sentences", "training.batch_size": 2}, 5_000, 1),
    ],
)
def test_a_batch_larger_than_the_text_is_adjusted(
    changes: dict[str, object], tokens: int, sentences: int
) -> None:
    config = parse_config(merge(RunConfig(), changes))
    (found,) = text_problems(config, tokens=tokens, sentences=sentences)
    assert found.path == "training.batch_size"
    assert found.adjustments
    for adjustment in found.adjustments:
        smaller = parse_config(merge(config, dict(adjustment.changes)))
        assert "training.batch_size" not in {
            problem.path for problem in text_problems(smaller, tokens=tokens, sentences=sentences)
        }


def test_a_text_without_a_batch_has_no_adjustment() -> None:
    (found,) = text_problems(RunConfig(), tokens=1, sentences=1)
    assert found.adjustments == ()
    assert text_problems(RunConfig(), tokens=None, sentences=None) == ()


def test_a_problem_names_its_place_first() -> None:
    problem = Problem("a.b", "is 1", place=Place("my.toml", 3, 5))
    assert str(problem) == "my.toml:3:5: a.b: is 1"
    assert str(Place("RNNLM_TUI_A__B")) == "RNNLM_TUI_A__B"
    change = Adjustment.of({"a.b": True, "a.c": None, "a.d": 1e-5})
    assert str(change) == "--set a.b=true --set a.c= --set a.d=1e-05"


def test_every_cell_has_a_config_without_problems() -> None:
    for cell in CELLS:
        assert problems_of(merge(RunConfig(), {"model.cell_type": cell})) == ()
