"""A run's log on its own: other programs read it as the guide says."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as run_command
from rnnlm_tui.docs import find_guide
from tests.integration.runs import (
    kill,
    start,
    tiny_config,
    wait_for_step,
    wait_until_ended,
)

GUIDE = find_guide("runs").text()


@pytest.mark.usefixtures("warm")
def test_the_guides_line_of_pandas_reads_what_metrics_prints(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pandas")
    run = start(tiny_config(text, {"training.max_steps": 150}))
    wait_for_step(run, 70)
    kill(run)
    assert run_command(["resume", run.name, "--detach"]) == 0
    assert wait_until_ended(run).status == "finished"
    (example,) = re.findall(r"^```python\n(import pathlib.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    monkeypatch.chdir(run.path)
    exec(example, names)
    capsys.readouterr()
    assert run_command(["metrics", run.name, "--csv"]) == 0
    printed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["step"]) for row in printed] == list(range(1, 151))
    steps = names["steps"]
    (keys,) = re.findall(r"^\| `step` \| step \| (.*)", GUIDE, re.MULTILINE)
    for name, key in zip(list(printed[0])[1:], re.findall(r"`(\w+)`", keys), strict=True):
        column = steps[key].tolist()  # type: ignore[index]
        assert column == [float(row[name]) for row in printed], name
