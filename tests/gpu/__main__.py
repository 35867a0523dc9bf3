"""Run the tests marked `gpu`, each file in a process of its own: `python -m tests.gpu`.

A test that breaks CUDA for its process costs only the rest of its file. `--out FOLDER` keeps the
JUnit files, with what the tests measured as properties; the same is printed at the end. `--dry-run`
runs the same tests on the CPU with small shapes, to see that they work before a GPU is rented; one
process serves for all files there.

It needs torch, pytest and the packages of the engine; neither pytest's plugins nor the app's
packages (textual, rich, typer).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from rnnlm_tui.system.cuda import EXACT_WORKSPACE, WORKSPACE_VARIABLE
from tests.gpu import DRY_RUN

ROOT = Path(__file__).parents[2]
PROCESS_SECONDS = 240
"""A process that takes longer is ended."""
EXIT_USAGE = 2


def marked_files() -> list[Path]:
    """Files with tests marked `gpu`."""
    return sorted(
        path
        for path in (ROOT / "tests").rglob("test_*.py")
        if "ON_DEVICE" in path.read_text(encoding="utf-8")
    )


def run_files(files: Sequence[Path], report: Path, *, dry: bool) -> str:
    """Run the tests of files in one process; returns why it ended early, or an empty text."""
    command = [
        *(sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-m", "gpu", "-q"),
        *("-p", "no:cacheprovider", "-o", "addopts=--strict-markers --tb=short"),
        *("-W", "ignore::pytest.PytestConfigWarning", f"--junitxml={report}", *map(str, files)),
    ]
    variables = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        # Exact mode needs cuBLAS's workspaces of one size; they are read only once.
        WORKSPACE_VARIABLE: EXACT_WORKSPACE,
        DRY_RUN: "1" if dry else "0",
    }
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **variables}, timeout=PROCESS_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"took longer than {PROCESS_SECONDS} s"
    return "" if report.exists() else f"its process ended with exit code {done.returncode}"


def summary(report: Path) -> tuple[str, bool]:
    """Counts and properties of a JUnit file in lines, and whether nothing failed."""
    suite = next(ElementTree.parse(report).iter("testsuite"))
    failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    skipped, total = int(suite.get("skipped", 0)), int(suite.get("tests", 0))
    counts = f"{total - failed - skipped} passed, {failed} failed, {skipped} skipped"
    lines = [f"{report.stem}: {counts} in {float(suite.get('time', 0)):.1f} s"]
    lines += [
        f"  {case.get('name')}: {found.get('name')} {found.get('value')}"
        for case in suite.iter("testcase")
        for found in case.iter("property")
    ]
    return "\n".join(lines), not failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all files and print what they found; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with small shapes")
    parser.add_argument("--out", type=Path, help="folder for the JUnit files")
    parser.add_argument("files", nargs="*", type=Path, help="default: all with tests marked gpu")
    given = parser.parse_args(arguments)
    if not given.dry_run:
        import torch

        if not torch.cuda.is_available():
            sys.stderr.write(
                "error: torch finds no CUDA device\n"
                "hint: --dry-run runs the same tests on the CPU\n"
            )
            return EXIT_USAGE
    with tempfile.TemporaryDirectory() as scratch:
        out = given.out or Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        lines, fine = list[str](), True
        files = given.files or marked_files()
        together = {"dry-run": files} if given.dry_run else {file.stem: [file] for file in files}
        for name, some in together.items():
            report = out / f"{name}.xml"
            report.unlink(missing_ok=True)
            problem = run_files(some, report, dry=given.dry_run)
            text, passed = (f"{name}: {problem}", False) if problem else summary(report)
            lines.append(text)
            fine = fine and passed
    sys.stdout.write("\n" + "\n".join(lines) + "\n")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
