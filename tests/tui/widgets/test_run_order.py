"""The list of runs can be sorted by each column, either way."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.summary import EvaluationFigures, ModelFigures
from rnnlm_tui.tui.views.runs import SORT_KEYS, SortKey, rises, sorted_runs
from tests.tui.fakes import make_summary

ELMAN, LSTM = (
    ModelFigures(cell_type=cell, num_layers=2, hidden_size=192, tie_weights=True)
    for cell in ("elman", "lstm")
)


RUNS = [
    make_summary(
        "b",
        "failed",
        400,
        validation=EvaluationFigures(best_perplexity=60.0),
        updated=3_000.0,
        tokens_per_second=10.0,
        active_seconds=5.0,
        model=LSTM,
        tags=("z",),
    ),
    make_summary(
        "a",
        "running",
        200,
        validation=EvaluationFigures(),
        updated=1_000.0,
        tokens_per_second=None,
        active_seconds=0.0,
        max_steps=None,
        model=ELMAN,
    ),
    make_summary(
        "c",
        "finished",
        4_754,
        validation=EvaluationFigures(best_perplexity=50.0),
        updated=2_000.0,
        tokens_per_second=30.0,
        active_seconds=9.0,
        model=ELMAN,
        tags=("demo",),
    ),
]
BEST = {"b": 50.0, "c": 50.0}


@pytest.mark.parametrize(
    ("key", "forwards", "backwards"),
    [
        ("age", "abc", "cba"),
        ("perplexity", "cba", "bca"),
        ("name", "abc", "cba"),
        ("status", "abc", "cba"),
        ("progress", "cba", "bca"),
        ("Δ best", "cba", "bca"),
        ("tok/s", "cba", "bca"),
        ("time", "cba", "bca"),
        ("model", "acb", "bac"),
        ("tags", "cba", "bca"),
    ],
)
def test_each_column_sorts_both_ways_with_missing_values_last(
    key: SortKey, forwards: str, backwards: str
) -> None:
    assert "".join(run.run for run in sorted_runs(RUNS, key, best=BEST)) == forwards
    assert (
        "".join(run.run for run in sorted_runs(RUNS, key, backwards=True, best=BEST)) == backwards
    )


@pytest.mark.parametrize("key", SORT_KEYS)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_pinned_run_stays_on_top_of_every_order(key: SortKey, backwards: bool) -> None:
    for pinned in RUNS:
        runs = [run.model_copy(update={"pinned": run is pinned}) for run in RUNS]
        assert sorted_runs(runs, key, backwards=backwards, best=BEST)[0].run == pinned.run


@pytest.mark.parametrize(
    ("key", "up"),
    [("age", True), ("perplexity", True), ("name", True), ("progress", False), ("tok/s", False)],
)
def test_the_arrow_goes_up_where_the_values_grow_downwards(key: SortKey, up: bool) -> None:
    assert rises(key) is up
    assert rises(key, backwards=True) is not up
