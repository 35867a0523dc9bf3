"""The tests for a GPU run on the CPU, also without the packages of the app."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from tests.gpu.__main__ import EXIT_USAGE, ROOT, main, marked_files

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


def test_every_marked_test_runs_on_the_cpu_without_the_packages_of_the_app(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER, encoding="utf-8")
    out = tmp_path / "out"
    answer = subprocess.run(
        [sys.executable, "-m", "tests.gpu", "--dry-run", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    cases = list(ElementTree.parse(out / "dry-run.xml").iter("testcase"))
    files = {case.get("classname", "").rpartition(".")[2] for case in cases}
    assert files == {file.stem for file in marked_files()}
    ran = {case.get("name", "").partition("[")[0] for case in cases if case.find("skipped") is None}
    assert "test_a_run_that_was_killed_resumes_bit_equal" in ran
    assert "test_the_losses_of_training_are_the_cpus" in ran
    assert "[book]: mean difference 0" in answer.stdout
    assert ": engine " in answer.stdout, "what was measured is printed"


TESTS = """
import os
import pytest
pytestmark = pytest.mark.gpu
def test_that_kills_its_process(): os._exit(3)
"""


def test_a_process_that_dies_is_a_failure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (dying := tmp_path / "test_dying.py").write_text(TESTS, encoding="utf-8")
    assert main(["--dry-run", str(dying)]) == 1
    assert "dry-run: its process ended with exit code 3" in capfd.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_the_error_names_the_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == EXIT_USAGE
    assert "--dry-run" in capsys.readouterr().err
