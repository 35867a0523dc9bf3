"""Runs as a tree of forks and in groups: each run once, whatever the files say about parents."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm_tui.client.arrangement import (
    ArrangedRun,
    changed_words,
    group_runs,
    grouped_rows,
    parse_group_keys,
    tree_of,
)
from rnnlm_tui.errors import InputError
from rnnlm_tui.schema.presets import PRESETS
from rnnlm_tui.schema.summary import (
    ChangedField,
    EvaluationFigures,
    LineageFigures,
    ModelFigures,
    RunSummary,
)


def run(
    name: str,
    created: float | None = 0.0,
    parent: tuple[str, float] | None = None,
    *,
    ppl: float | None = None,
    text: str = "text",
    cell: str = "elman",
) -> RunSummary:
    """A run's figures.

    Args:
        parent: its name and when it was created.
    """
    lineage = None
    if parent is not None:
        lineage = LineageFigures(
            run=parent[0],
            checkpoint="500",
            step=500,
            created=parent[1],
            optimizer="fresh",
            perplexity=70.0,
            corpus_hash="text",
            changed=(
                ChangedField(key="optimizer.learning_rate", before=3e-3, after=1e-4),
                ChangedField(key="training.shuffle", before=True, after=False),
            ),
        )
    return RunSummary(
        run=name,
        status="finished",
        model=ModelFigures(cell_type=cell, num_layers=2, hidden_size=192, tie_weights=True),
        created=created,
        parent=f"{parent[0]}@500" if parent is not None else None,
        lineage=lineage,
        corpus_hash=text,
        validation=EvaluationFigures(best_perplexity=ppl),
    )


def drawn(rows: Sequence[ArrangedRun]) -> list[str]:
    return [f"{row.lead}{row.run.run}" for row in rows]


FAMILY = [
    run("young", 40, ("child", 20), ppl=55.0),
    run("other", 30, ("old", 10), ppl=80.0, text="other text"),
    run("child", 20, ("old", 10), ppl=60.0),
    run("old", 10, ppl=65.0),
    run("alone", 5),
]


def test_children_stand_below_their_parents_with_the_difference_to_their_best() -> None:
    rows = tree_of(FAMILY)
    assert drawn(rows) == ["old", "├ other", "└ child", "  └ young", "alone"]
    assert [row.delta for row in rows] == [None, None, -5.0, -5.0, None]
    assert changed_words(FAMILY[0]) == "learning_rate 0.003 → 0.0001, shuffle yes → no"


def test_a_folded_run_hides_all_below_it() -> None:
    rows = tree_of(FAMILY, {"old", "alone"})
    assert drawn(rows) == ["old", "alone"]
    assert [row.hidden for row in rows] == [3, 0]


def test_a_parent_is_its_creation_time_and_not_its_name() -> None:
    renamed = [run("child", 20, ("old", 10)), run("grown", 10), run("old", 15)]
    assert drawn(tree_of(renamed)) == ["grown", "└ child", "old"]
    gone = [run("child", 20, ("old", 10), ppl=60.0), run("old", 15)]
    rows = tree_of(gone)
    assert drawn(rows) == ["child", "old"]
    assert rows[0].delta == -10.0  # against the checkpoint it started from


SMALL = st.integers(0, 5)


@given(st.lists(st.tuples(SMALL, st.none() | st.tuples(SMALL, SMALL), st.booleans()), max_size=12))
def test_every_run_is_listed_once_even_if_the_files_claim_a_cycle(
    made: list[tuple[int, tuple[int, int] | None, bool]],
) -> None:
    runs = [
        run(f"run-{at}", created * 3.0, parent and (f"run-{parent[0]}", parent[1] * 3.0))
        for at, (created, parent, _) in enumerate(made)
    ]
    rows = tree_of(runs)
    assert sorted(row.run.run for row in rows) == sorted(one.run for one in runs)
    for above, row in pairwise(rows):
        assert len(row.lead) <= len(above.lead) + 2
    folded = tree_of(runs, {f"run-{at}" for at, (_, _, folds) in enumerate(made) if folds})
    assert len(folded) + sum(row.hidden for row in folded) == len(runs)


def test_a_long_line_of_forks_needs_no_recursion() -> None:
    runs = [run("run-0", 0.0)]
    runs += [
        run(f"run-{at}", at * 9.0, (f"run-{at - 1}", (at - 1) * 9.0)) for at in range(1, 2_000)
    ]
    assert len(tree_of(runs)[-1].lead) == 2 * 1_999


def test_groups_have_their_best_and_the_best_group_is_first() -> None:
    runs = [run("a", ppl=60.0), run("b", cell="gru", ppl=50.0), run("c", ppl=55.0), run("d")]
    groups = group_runs(runs, parse_group_keys("cell"), lambda _: None)
    assert [(group.label, group.best.run) for group in groups] == [
        ("cell GRU", "b"),
        ("cell Elman", "c"),
    ]
    assert drawn(grouped_rows(groups)) == ["b", "  b", "c", "  a", "  c", "  d"]
    rows = grouped_rows(groups, {"group cell Elman"})
    assert [(row.id, row.hidden) for row in rows] == [
        ("group cell GRU", 0),
        ("b", 0),
        ("group cell Elman", 3),
    ]


def test_runs_are_grouped_by_config_keys_of_each_type() -> None:
    configs = {"a": PRESETS["demo"], "b": PRESETS["elman"]}
    keys = parse_group_keys(" dropout , tie_weights,evaluation.prompts, test_source")
    groups = group_runs([run("a"), run("b"), run("c")], keys, configs.get)
    labels = [group.label for group in groups]
    assert labels[0].startswith("dropout 0.1, tie_weights yes, prompts The state of the Union; My")
    assert labels[-1] == "dropout none, tie_weights none, prompts none, test_source none"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no key to group by"),
        ("hiden_size", 'unknown key "hiden_size"'),
        ("seed", "is ambiguous"),
        ("cell,preset,dropout,layers,epochs", "5 keys to group by: at most 4"),
    ],
)
def test_keys_that_cant_group_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_group_keys(text)
