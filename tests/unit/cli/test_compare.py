"""The verb `compare`."""

from __future__ import annotations

import json

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.contract.config import RunConfig, TrainingConfig
from rnnlm_tui.contract.metrics import EvaluationRow
from rnnlm_tui.store.database import RunDatabase
from tests.unit.cli.test_runs import trained_run


def test_runs_stand_side_by_side_with_what_differs_and_who_is_best(capsys: pytest.CaptureFixture[str]) -> None:
    trained_run("brisk-heron")
    trained_run("plain-otter", RunConfig(training=TrainingConfig(seed=7)))
    assert run(["compare", "brisk", "plain"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [["differing", "settings", "A", "brisk-heron", "B", "plain-otter"], ["training.seed", "42", "7"]]
    assert ["best", "val", "ppl", "60.3", "60.3"] in lines
    assert run(["compare", "brisk", "plain", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(item["letter"], item["run"], item["summary"]["status"]) for item in told["runs"]] == [
        ("A", "brisk-heron", "finished"),
        ("B", "plain-otter", "finished"),
    ]
    assert told["settings"] == {"training.seed": [42, 7]}
    assert told["figures"]["best val ppl"]["best"] is None


def test_a_narrow_terminal_is_told_who_is_best_and_not_how_far_the_others_are(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate("abcd"):
        with RunDatabase(trained_run(f"run-{name}").database_path) as database:
            database.add_evaluation(EvaluationRow(1, 3, "validation", "validation", 4.1 + number, 1000, 1.7, 0.5, 1_003.0))
    compare = ["compare", *(f"run-{name}" for name in "abcd")]
    assert run(compare) == 0
    assert "(+103.7)" in capsys.readouterr().out
    monkeypatch.setattr("rnnlm_tui.cli.output.columns", lambda stream: 72)
    assert run(compare) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 72
    assert "60.3 ★" in "".join(lines)


@pytest.mark.parametrize("arguments", [["compare"], ["compare", "brisk", "brisk"], ["compare", "brisk", "other"]])
def test_what_can_not_be_compared_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    trained_run("brisk-heron")
    assert run(arguments) == 2
    assert capsys.readouterr().out == ""
