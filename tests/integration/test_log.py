"""A run's log on its own: other programs read it as the guide says."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as run_command
from rnnlm_tui.docs import find_guide
from tests.integration.runs import (
    ENDLESS,
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


@pytest.mark.usefixtures("warm")
@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_tail_and_jq_show_the_losses_of_a_live_run(text: Path) -> None:
    run = start(tiny_config(text, {"training.max_steps": ENDLESS}))
    wait_for_step(run, 20)
    (command,) = re.findall(r"^\$ (tail .*)$", GUIDE, re.MULTILINE)
    following = subprocess.Popen(
        ["bash", "-c", command.replace("jq ", "jq --unbuffered ")],
        cwd=run.path,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    assert following.stdout is not None
    step, loss = following.stdout.readline().split()
    kill(run)
    subprocess.run(["kill", "--", f"-{following.pid}"], check=True)
    following.wait()
    lines = (run.path / "log" / "000001.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "step"]
    assert {"step": int(step), "loss": float(loss)}.items() <= next(
        row.items() for row in rows if row["step"] == int(step)
    )
