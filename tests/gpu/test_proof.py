"""The proof for a GPU runs from its first part to its last, also without most packages."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.gpu.__main__ import install
from tests.gpu.parts import Part, Report, Result, Row, Setting, run_part, serve_part
from tests.gpu.processes import ROOT, gpu_test_files
from tests.gpu.proof import PARTS, columns, summary, table

MISSING = ("textual", "rich", "typer", "zstandard", "transformers", "pytest_asyncio", "xdist")
"""Packages that a rented machine may lack."""
BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MISSING!r}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Blocker())
"""
FAKE_BENCH = shlex.join([sys.executable, "-m", "tests.fakes.bench_child", "plain"])


def proof(*arguments: str, blocked: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command; with the packages in MISSING hidden, if there is a folder for the hiding."""
    environment = dict(os.environ)
    if blocked is not None:
        (blocked / "sitecustomize.py").write_text(BLOCKER, encoding="utf-8")
        environment["PYTHONPATH"] = str(blocked)
    return subprocess.run(
        [sys.executable, "-m", "tests.gpu", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_dry_run_walks_every_part_without_the_packages_of_the_app(tmp_path: Path) -> None:
    answer = proof("--dry-run", "--bench-command", FAKE_BENCH, blocked=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    *table, line = answer.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert not any(text.startswith("{") for text in table)  # one JSON line, the last
    assert found["dry_run"] is True
    assert found["ok"] is True
    assert found["device"] == "cpu, 1 thread"
    assert found["torch"] == torch.__version__
    assert found["goals_missed"] == []
    parts = {part["name"]: part for part in found["parts"]}
    assert list(parts) == [part.name for part in PARTS]
    for name, part in parts.items():
        assert part["status"] in ("passed", "skipped"), part
        assert "failed" not in part
        assert part["seconds"] <= part["budget"]
        assert all(len(row) == len(part["columns"]) for row in part["rows"])
        assert f"\n{name}: {part['status']} in" in answer.stdout
        if name != "machine":
            assert part["skipped"], name  # each says what it leaves out without a GPU
    tests = dict(zip(parts["tests"]["columns"], parts["tests"]["rows"][0], strict=True))
    assert tests["files"] == len(gpu_test_files())
    assert tests["skipped"] > 50
    assert tests["passed"] == tests["failed"] == 0
    resumed = dict(zip(parts["resume"]["columns"], parts["resume"]["rows"][0], strict=True))
    assert resumed["weights"] == resumed["losses"] == "bit-equal"


def test_a_part_starts_as_a_program_of_its_own(tmp_path: Path) -> None:
    answer = proof("--dry-run", "--fresh", "--only", "machine", "--out", str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    assert json.loads((tmp_path / "proof.json").read_text()) == json.loads(
        answer.stdout.splitlines()[-1]
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_the_error_names_the_dry_run() -> None:
    answer = proof()
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "cuda:0" in answer.stderr
    assert "--dry-run" in answer.stderr
    assert "Traceback" not in answer.stderr


def setting(folder: Path) -> Setting:
    return Setting("cpu", True, folder)


def sleep(report: Report) -> None:
    report.row(step=1)
    time.sleep(60)


def crash(report: Report) -> None:
    report.row(step=1)
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(report: Report) -> None:
    raise ValueError("no such\nthing")


def test_a_part_that_takes_too_long_is_cut_and_keeps_its_rows(tmp_path: Path) -> None:
    result = run_part(Part("slow", "", 1, sleep), setting(tmp_path), 0.3, fork=True)
    assert (result.status, result.rows, result.failed) == ("cut", [{"step": 1}], [])
    assert result.is_bad


def test_a_part_that_crashes_keeps_its_rows(tmp_path: Path) -> None:
    result = run_part(Part("crash", "", 1, crash), setting(tmp_path), 5, fork=True)
    assert (result.status, result.rows) == ("failed", [{"step": 1}])
    assert result.failed == ["its process ended with exit code -9"]


def test_an_exception_is_one_line_of_the_part(tmp_path: Path) -> None:
    result = run_part(Part("bad", "", 1, refuse), setting(tmp_path), 5, fork=True)
    assert result.failed == ["ValueError: no such thing"]
    assert "Traceback" in "".join(result.log)


def test_settings_survive_a_command_line(tmp_path: Path) -> None:
    given = Setting("cuda:1", False, tmp_path, ("a", "b c"))
    assert Setting.decoded(given.encoded()) == given


def test_numbers_that_are_none_are_still_json(tmp_path: Path) -> None:
    part = Part("nan", "", 1, lambda report: report.row(loss=float("nan"), rate=1.23456))
    assert serve_part(part, setting(tmp_path), 1) == 0
    found = (tmp_path / "nan" / "found.jsonl").read_text()
    assert json.loads(found) == {"row": {"loss": "nan", "rate": 1.235}}


def test_a_missed_goal_is_listed_and_the_proof_holds() -> None:
    result = Result(PARTS[0], 1.0, missed=["too slow"])
    found = summary([result], dry=False, seconds=1.0)
    assert found["goals_missed"] == ["too slow"]
    assert found["ok"] is True


def test_tables_leave_out_empty_columns() -> None:
    rows: list[Row] = [{"way": "a", "ms": 1.5, "note": ""}, {"way": "bc", "ms": None, "note": ""}]
    assert columns(rows) == ["way", "ms"]
    assert table(rows) == ["way   ms", "a    1.5", "bc     -"]


def test_a_folder_without_wheels_is_refused(tmp_path: Path) -> None:
    assert install(tmp_path, tmp_path / "packages") == f"no wheels (*.whl) in {tmp_path}"
