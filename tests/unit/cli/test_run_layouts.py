"""`runs --tree` and `runs --group-by`."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.runs import create_run, rename_run
from tests.unit.cli.calls import Verbs
from tests.unit.store.rows import new_run, parent_checkpoint


@pytest.fixture(autouse=True)
def family() -> None:
    """A renamed run, a fork of it, and a run by itself."""
    parent = new_run("plain-otter")
    changed = {"optimizer.learning_rate": 1e-4, "evaluation.prompts": ["A", "B"]}
    create_run(parse_config(merge(RunConfig(), changed)), "child", parent_checkpoint(parent))
    rename_run(parent, "grown-otter")
    create_run(parse_config(merge(RunConfig(), {"model.num_layers": 3})), "alone")


def test_the_tree_shows_what_each_fork_changed(verb: Verbs) -> None:
    lines = verb("runs --tree")[0].splitlines()
    assert [line.split("  ")[0] for line in lines] == ["name", "alone", "grown-otter", "└ child"]
    assert "val ppl  Δ parent  changed" in lines[0]
    assert "plain-otter@500: learning_rate 0.003 → 0.0001, prompts" in lines[3]
    found = verb.json("runs --tree")
    places = [(one["run"]["run"], len(one["children"])) for one in found]
    assert places == [("alone", 0), ("grown-otter", 1)]
    lineage = found[1]["children"][0]["run"]["lineage"]
    assert (lineage["run"], lineage["checkpoint"]) == ("plain-otter", "500")
    rate = {"key": "optimizer.learning_rate", "before": 0.003, "after": 0.0001}
    assert lineage["changed"][0] == rate


def test_groups_are_printed_with_their_best(verb: Verbs) -> None:
    out = verb("runs --group-by layers,optimizer.learning_rate")[0]
    assert "layers 2, learning_rate 0.0001: 1 run, none yet\n" in out
    assert "layers 3, learning_rate 0.003: 1 run, none yet\n" in out
    found = verb.json("runs --group-by num_layers --filter draft")
    assert [(group["values"], len(group["runs"])) for group in found] == [
        ({"layers": "3"}, 1),
        ({"layers": "2"}, 2),
    ]


def test_a_tree_has_no_groups_and_unknown_keys_are_refused(verb: Verbs) -> None:
    err = verb("runs --tree --group-by cell", code=2)[1]
    assert "--tree and --group-by are mutually exclusive" in err
    assert 'did you mean "num_layers"' in verb("runs --group-by num_layer", code=2)[1]
