"""The verb `compare`."""

from __future__ import annotations

import json
import re

import pytest

from rnnlm_tui.cli.main import run
from rnnlm_tui.schema.config import RunConfig, TrainingConfig
from rnnlm_tui.schema.metrics import EvaluationRow
from rnnlm_tui.store.log import RunLog
from tests.unit.cli.test_runs import trained_run


def evaluated(name: str, loss: float) -> None:
    """A finished run whose last evaluation has this loss."""
    with RunLog(trained_run(name), 1) as log:
        log.append(EvaluationRow(1, 3, "validation", "validation", loss, 1000, 1.7, 0.5, 1_003.0))


def test_compare_shows_differing_settings_and_the_best_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained_run("brisk-heron")
    trained_run("plain-otter", RunConfig(training=TrainingConfig(seed=7)))
    assert run(["compare", "brisk", "plain"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:2] == [
        ["differing", "settings", "A", "brisk-heron", "B", "plain-otter"],
        ["training.seed", "42", "7"],
    ]
    assert ["best", "val", "ppl", "60.3", "60.3"] in lines
    assert run(["compare", "brisk", "plain", "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert [
        (item["letter"], item["run"], item["summary"]["status"]) for item in reported["runs"]
    ] == [
        ("A", "brisk-heron", "finished"),
        ("B", "plain-otter", "finished"),
    ]
    assert reported["settings"] == {"training.seed": [42, 7]}
    assert reported["figures"]["best val ppl"]["best"] is None


def test_a_narrow_terminal_gets_the_best_run_without_differences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate("abcd"):
        evaluated(f"run-{name}", 4.1 + number)
    compare = ["compare", *(f"run-{name}" for name in "abcd")]
    assert run(compare) == 0
    assert "(+103.7)" in capsys.readouterr().out
    monkeypatch.setattr("rnnlm_tui.cli.output.columns", lambda stream: 72)
    monkeypatch.setattr("rnnlm_tui.cli.runs.columns", lambda stream: 72)
    assert run(compare) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 72
    assert "60.3 ★" in "".join(lines)


def test_of_two_runs_whose_figures_are_written_alike_the_better_one_has_the_star(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, loss in (("run-a", 4.1), ("run-b", 4.0999), ("run-c", 5.0)):
        evaluated(name, loss)
    assert run(["compare", "run-a", "run-b", "run-c"]) == 0
    row = next(
        line for line in capsys.readouterr().out.splitlines() if line.startswith("best val ppl")
    )
    assert re.split(" {2,}", row.strip()) == ["best val ppl", "60.3", "60.3 ★", "148.4 (+88.1)"]


@pytest.mark.parametrize(
    "arguments", [["compare"], ["compare", "brisk", "brisk"], ["compare", "brisk", "other"]]
)
def test_runs_that_cannot_be_compared_are_rejected(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    trained_run("brisk-heron")
    assert run(arguments) == 2
    assert capsys.readouterr().out == ""
