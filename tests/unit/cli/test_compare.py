"""The verb `compare`."""

from __future__ import annotations

import json

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.contract.config import RunConfig, TrainingConfig
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


@pytest.mark.parametrize("arguments", [["compare"], ["compare", "brisk", "brisk"], ["compare", "brisk", "other"]])
def test_what_can_not_be_compared_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    trained_run("brisk-heron")
    assert run(arguments) == 2
    assert capsys.readouterr().out == ""
