"""The proof for a GPU runs from its first part to its last, also without most packages."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rnnlm_tui.schema.validation import parse_config
from tests.gpu import parts
from tests.gpu.__main__ import install, main
from tests.gpu.parts import (
    Forked,
    Part,
    Process,
    Report,
    Result,
    Row,
    Setting,
    judge,
    run_part,
    serve_part,
)
from tests.gpu.processes import ROOT, gpu_test_files, run_tests
from tests.gpu.proof import BOOK, FILES, PARTS, columns, summary, table
from tests.gpu.speed import SPEED_FACT, judge_epoch, measure_book

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
FAKE = (sys.executable, "-m", "tests.fakes.bench_child", "plain")


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
    answer = proof("--dry-run", "--bench-command", shlex.join(FAKE), blocked=tmp_path)
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
    assert tests["files"] == f"{len(gpu_test_files())} files"
    assert tests["skipped"] > 50
    assert tests["passed"] == tests["failed"] == 0
    resumed = dict(zip(parts["resume"]["columns"], parts["resume"]["rows"][0], strict=True))
    assert resumed["weights"] == resumed["losses"] == "bit-equal"


def test_a_part_starts_as_a_program_of_its_own_and_three_files_are_kept(tmp_path: Path) -> None:
    answer = proof("--dry-run", "--fresh", "--only", "machine", "--out", str(tmp_path))
    assert answer.returncode == 0, answer.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    table, logs, line = ((tmp_path / name).read_text() for name in FILES)
    assert answer.stdout == table + line
    assert [part["name"] for part in json.loads(line)["parts"]] == ["machine"]
    assert logs.startswith("--- machine")


def test_a_case_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    where = setting(tmp_path)
    arguments = ("--until", repr(time.monotonic() + 100), "--setting", where.encoded())
    assert main(["--part", "waits", "--case", "gru", *arguments]) == 0
    found = (tmp_path / "waits" / "gru" / "found.jsonl").read_text().splitlines()
    rows = [line["row"] for line in map(json.loads, found) if "row" in line]
    assert [row["way"] for row in rows] == ["gru, sentences", "gru, stream"]


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
    parse_config({"model": {"hidden_size": -1}})


def by_case(report: Report) -> None:
    for case in report.cases:
        report.did("cases")
        report.row(case=case)
        if case == "bad":
            crash(report)


def test_a_part_that_takes_too_long_is_cut_and_keeps_its_rows(tmp_path: Path) -> None:
    result = run_part(Part("slow", "", 1, sleep), setting(tmp_path), 0.3, fork=True)
    assert (result.status, result.rows, result.failed) == ("cut", [{"step": 1}], [])
    assert result.is_bad


def test_a_part_that_crashes_keeps_its_rows(tmp_path: Path) -> None:
    result = run_part(Part("crash", "", 1, crash), setting(tmp_path), 5, fork=True)
    assert (result.status, result.rows) == ("failed", [{"step": 1}])
    assert result.failed == ["its process ended with exit code -9"]


def test_an_exception_is_one_line_of_the_part_with_our_last_line(tmp_path: Path) -> None:
    result = run_part(Part("bad", "", 1, refuse), setting(tmp_path), 5, fork=True)
    assert len(result.failed) == 1
    assert re.fullmatch(r".*model\.hidden_size: .*\(validation\.py:\d+\)", result.failed[0])
    assert "Traceback" in "".join(result.tail)


def test_a_case_that_crashes_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = Part("cases", "", 1, by_case, lambda: ("good", "bad", "last, too"))

    def forked(part: Part, setting: Setting, until: float, case: str, log: Path) -> Process:
        return Forked(lambda: serve_part(part, setting, until, case), log)

    monkeypatch.setattr(parts, "_started", forked)
    result = run_part(part, setting(tmp_path), 20, fork=False)
    assert result.rows == [{"case": "good"}, {"case": "bad"}, {"step": 1}, {"case": "last, too"}]
    assert result.failed == ["bad: its process ended with exit code -9"]
    assert result.did == ["cases"]


TESTS = """
import os, time
import pytest
pytestmark = pytest.mark.gpu
def test_fine(): pass
def test_that_kills_its_process(): os._exit(3)
def test_that_fails(): raise ValueError("no such\\nthing")
def test_that_hangs(): time.sleep(60)
@pytest.mark.skip
def test_left_out(): pass
def test_fine_too(): pass
"""


def test_a_test_that_dies_or_hangs_costs_no_other(tmp_path: Path) -> None:
    (file := tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    report = Report(setting(tmp_path), Part("tests", "", 1, crash), time.monotonic() + 100)
    assert run_tests(report, [str(file)], test_seconds=6) == {
        "passed": 2,
        "failed": 3,
        "skipped": 1,
    }
    lines = (report.folder / "found.jsonl").read_text().splitlines()
    names = ("kills_its_process", "fails", "hangs")
    reasons = "its process ended with exit code 3", "ValueError: no such thing", "took longer than"
    for line, name, reason in zip(lines, names, reasons, strict=True):
        assert f"test_that_{name}: {reason}" in json.loads(line)["failed"]


def test_settings_survive_a_command_line(tmp_path: Path) -> None:
    given = Setting("cuda:1", False, tmp_path, ("a", "b c"))
    assert Setting.decoded(given.encoded()) == given


def test_numbers_that_are_none_are_still_json(tmp_path: Path) -> None:
    part = Part("nan", "", 1, lambda report: report.row(loss=float("nan"), rate=1.23456))
    assert serve_part(part, setting(tmp_path), time.monotonic() + 1) == 0
    found = (tmp_path / "nan" / "found.jsonl").read_text()
    assert json.loads(found) == {"row": {"loss": "nan", "rate": 1.235}}


def test_a_missed_goal_is_listed_and_the_proof_holds() -> None:
    result = Result(PARTS[0], 1.0, missed=["too slow"])
    found = summary([result], dry=False, seconds=1.0)
    assert found["goals_missed"] == ["too slow"]
    assert found["ok"] is True


def found_in(folder: Path, work: Callable[[Report], None], *, dry: bool = False) -> Result:
    return judge(Part("part", "", 1, work), Setting("cuda:0", dry, folder, FAKE), work)


def test_speed_has_milliseconds_ratios_shares_and_the_epoch(tmp_path: Path) -> None:
    result = found_in(tmp_path, measure_book)
    naive, library, *engine = result.rows
    assert [naive["way"], library["way"]] == ["naive", "nn.RNN"]
    assert naive["ms"] == 400  # 40 tokens at 100 tokens a second
    assert [row["x_naive"] for row in engine] == [5.0, 5.0]
    assert all(row["x_library"] == pytest.approx(10 / 3, rel=1e-3) for row in engine)
    assert engine[0]["of_matrix"] is not None
    # 22 million sentences in batches of 128, 40 tokens each, at 500 tokens a second
    assert result.facts[SPEED_FACT] == {
        "way": engine[0]["way"],
        "times_naive": 5.0,
        "epoch_seconds": 172_148 * 40 / 500,
        "naive_epoch_seconds": 172_148 * 40 / 100,
        "steps_per_epoch": 172_148,
    }


@pytest.mark.parametrize(
    ("device", "epoch", "times", "missed"),
    [
        ("cuda:0 NVIDIA H100 80GB HBM3", 179.0, 5.1, []),
        ("cuda:0 NVIDIA H100 80GB HBM3", 181.0, 5.1, ["an epoch takes 181 s"]),
        ("cuda:0 NVIDIA A100-SXM4-80GB", 400.0, 5.1, []),
        ("cuda:0 NVIDIA A100-SXM4-80GB", 400.0, 4.9, ["4.9 times as fast"]),
    ],
)
def test_goals_are_judged_on_the_card_that_they_are_for(
    tmp_path: Path, device: str, epoch: float, times: float, missed: list[str]
) -> None:
    figures = {
        "way": "engine bf16",
        "times_naive": times,
        "epoch_seconds": epoch,
        "naive_epoch_seconds": epoch * times,
        "steps_per_epoch": 172_148,
    }
    book = Result(BOOK, 1.0, facts={SPEED_FACT: figures})
    result = found_in(tmp_path, lambda report: judge_epoch(report, book, device))
    assert len(result.missed) == len(missed)
    assert all(text.startswith(start) for text, start in zip(result.missed, missed, strict=True))
    assert bool(result.skipped) == ("H100" not in device)
    assert result.rows[0]["epoch_minutes"] == pytest.approx(epoch / 60, rel=1e-3)


def test_an_epoch_without_a_measured_speed_is_skipped(tmp_path: Path) -> None:
    result = found_in(tmp_path, lambda report: judge_epoch(report, None, "cuda:0 NVIDIA H100"))
    assert result.status == "skipped"


def test_tables_leave_out_empty_columns() -> None:
    rows: list[Row] = [{"way": "a", "ms": 1.5, "note": ""}, {"way": "bc", "ms": None, "note": ""}]
    assert columns(rows) == ["way", "ms"]
    assert table(rows) == ["way   ms", "a    1.5", "bc     -"]


def test_a_folder_without_wheels_is_refused(tmp_path: Path) -> None:
    assert install(tmp_path, tmp_path / "packages") == f"no wheels (*.whl) in {tmp_path}"
