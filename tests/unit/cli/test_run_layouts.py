"""`runs --tree` and `runs --group-by`."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.runs import create_run, rename_run
from tests.unit.cli.conftest import Verb
from tests.unit.store.rows import new_run, parent_checkpoint


@pytest.fixture(autouse=True)
def family() -> None:
    """A renamed run, a fork of it, and a run by itself."""
    parent = new_run("plain-otter")
    changed = {"optimizer.learning_rate": 1e-4, "evaluation.prompts": ["A", "B"]}
    create_run(parse_config(merge(RunConfig(), changed)), "child", parent_checkpoint(parent))
    rename_run(parent, "grown-otter")
    create_run(parse_config(merge(RunConfig(), {"model.num_layers": 3})), "alone")


def test_the_tree_shows_what_each_fork_changed(verb: Verb) -> None:
    lines = verb("runs --tree").out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["name", "alone", "grown-otter", "└ child"]
    assert "val ppl  Δ parent  changed" in lines[0]
    assert "plain-otter@500: learning_rate 0.003 → 0.0001, prompts" in lines[3]
    found = verb("runs --tree --json").json
    assert [(one["run"]["run"], len(one["children"])) for one in found] == [
        ("alone", 0),
        ("grown-otter", 1),
    ]
    lineage = found[1]["children"][0]["run"]["lineage"]
    assert (lineage["run"], lineage["checkpoint"]) == ("plain-otter", "500")
    changed = {"key": "optimizer.learning_rate", "before": 0.003, "after": 0.0001}
    assert lineage["changed"][0] == changed


def test_groups_are_printed_with_their_best(verb: Verb) -> None:
    out = verb("runs --group-by layers,optimizer.learning_rate").out
    assert "layers 2, learning_rate 0.0001: 1 run, none yet\n" in out
    assert "layers 3, learning_rate 0.003: 1 run, none yet\n" in out
    found = verb("runs --group-by num_layers --json --filter draft").json
    assert [(group["values"], len(group["runs"])) for group in found] == [
        ({"layers": "3"}, 1),
        ({"layers": "2"}, 2),
    ]


def test_a_tree_has_no_groups_and_unknown_keys_are_refused(verb: Verb) -> None:
    exclusive = verb("runs --tree --group-by cell", 2).err
    assert "--tree and --group-by are mutually exclusive" in exclusive
    assert 'did you mean "num_layers"' in verb("runs --group-by num_layer", 2).err
