"""The verb `compare`."""

from __future__ import annotations

import re

import pytest

from rnnlm_tui.schema.config import RunConfig, TrainingConfig
from rnnlm_tui.schema.metrics import EvaluationRow
from rnnlm_tui.store.log import RunLog
from tests.unit.cli.calls import Verbs
from tests.unit.cli.test_runs import trained_run


def evaluated(name: str, loss: float) -> None:
    """A finished run whose last evaluation has this loss."""
    with RunLog(trained_run(name), 1) as log:
        log.append(EvaluationRow(1, 3, "validation", "validation", loss, 1000, 1.7, 0.5, 1_003.0))


def test_compare_shows_differing_settings_and_the_best_run(verb: Verbs) -> None:
    trained_run("brisk-heron")
    trained_run("plain-otter", RunConfig(training=TrainingConfig(seed=7)))
    rows = verb("compare brisk plain").rows
    assert rows[:2] == [
        ["differing", "settings", "A", "brisk-heron", "B", "plain-otter"],
        ["training.seed", "42", "7"],
    ]
    assert ["best", "val", "ppl", "60.3", "60.3"] in rows
    found = verb.json("compare brisk plain")
    assert [(one["letter"], one["run"], one["summary"]["status"]) for one in found["runs"]] == [
        ("A", "brisk-heron", "finished"),
        ("B", "plain-otter", "finished"),
    ]
    assert found["settings"] == {"training.seed": [42, 7]}
    assert found["figures"]["best val ppl"]["best"] is None
    assert found["remark"] is None
    assert found["equal"] == ["tokens", "time"]
    assert "equal within 5 %: tokens, time\n" in verb("compare brisk plain").out
    assert "equal" not in verb("compare brisk").out


def test_a_narrow_terminal_gets_the_best_run_without_differences(
    monkeypatch: pytest.MonkeyPatch, verb: Verbs
) -> None:
    names = [f"run-{letter}" for letter in "abcd"]
    for number, name in enumerate(names):
        evaluated(name, 4.1 + number)
    assert "(+103.7)" in verb(["compare", *names]).out
    monkeypatch.setattr("rnnlm_tui.cli.output.columns", lambda stream: 72)
    monkeypatch.setattr("rnnlm_tui.cli.runs.columns", lambda stream: 72)
    out = verb(["compare", *names]).out
    assert max(map(len, out.splitlines())) <= 72
    assert "60.3 ★" in out


def test_of_two_runs_whose_figures_are_written_alike_the_better_one_has_the_star(
    verb: Verbs,
) -> None:
    for name, loss in (("run-a", 4.1), ("run-b", 4.0999), ("run-c", 5.0)):
        evaluated(name, loss)
    lines = verb("compare run-a run-b run-c").out.splitlines()
    (row,) = [line for line in lines if line.startswith("best val ppl")]
    assert re.split(" {2,}", row.strip()) == ["best val ppl", "60.3", "60.3 ★", "148.4 (+88.1)"]
    assert "the runs have the same settings" in lines
    assert "nothing to compare: name a second run" in verb("compare run-a").out


@pytest.mark.parametrize("words", ["compare", "compare brisk brisk", "compare brisk other"])
def test_runs_that_cannot_be_compared_are_rejected(words: str, verb: Verbs) -> None:
    trained_run("brisk-heron")
    assert verb(words, code=2).out == ""
