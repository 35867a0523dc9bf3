"""Parts that start other programs: the tests marked `gpu`, and a worker that is killed and
resumed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from rnnlm_tui.client.control import training_settings
from rnnlm_tui.schema.config import CellType, DataMode
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.cuda import EXACT_WORKSPACE, WORKSPACE_VARIABLE
from rnnlm_tui.system.processes import child_environment, last_lines, python_command
from rnnlm_tui.worker import train
from tests.benchmarks.exact_resume import exact_config, weights_hash
from tests.gpu.parts import Forked, Process, Report
from tests.integration.runs import write_text

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
OUTCOMES_VARIABLE = "RNNLM_TUI_GPU_OUTCOMES"
"""Environment variable: the file in which the pytest plugin below writes one JSON line a test."""
SHOWN_FAILURES = 12
RESUMED: tuple[tuple[CellType, DataMode], ...] = (("elman", "sentences"), ("lstm", "stream"))
RESUMED_STEPS = 480
"""Some seconds: rows of steps are stored a quarter of a second late, and the worker is to be killed
well before its end."""
TRIES = 3
"""Runs that may end before they are killed, as on a busy machine."""
POLL_SECONDS = 0.02


def gpu_test_files() -> list[Path]:
    """Files with tests marked `gpu`, relative to the root; those of the app need textual and hold
    none."""
    return sorted(
        path.relative_to(ROOT)
        for path in (ROOT / "tests").rglob("test_*.py")
        if "mark.gpu" in path.read_text(encoding="utf-8") and "tui" not in path.parts[-3:-1]
    )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the outcome of a test at once: what was found survives a run that is cut."""
    counts = report.when == "call" or report.outcome != "passed"
    file = os.environ.get(OUTCOMES_VARIABLE)
    if not (counts and file):
        return
    reason = report.longreprtext.strip().splitlines()[-1:] if report.failed else []
    line = {"test": report.nodeid, "outcome": report.outcome, "reason": " ".join(reason)[:200]}
    with Path(file).open("a", encoding="utf-8") as outcomes:
        outcomes.write(json.dumps(line) + "\n")


def run_marked_tests(report: Report) -> None:
    """Run `pytest -m gpu` without plugins but our own, which may be missing on a rented machine."""
    outcomes = report.folder / "outcomes.jsonl"
    outcomes.touch()
    files = gpu_test_files()
    command = [
        *(sys.executable, "-m", "pytest", "-m", "gpu", "-q"),
        *("-p", "no:cacheprovider", "-p", "tests.gpu.processes"),
        *("-o", "addopts=--strict-markers", "--tb=short"),
        *("-W", "ignore::pytest.PytestConfigWarning"),
        *(f"--basetemp={report.folder / 'pytest'}", *map(str, files)),
    ]
    # The tests of exact mode need cuBLAS's workspaces as it wants them, which are read only once.
    variables = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        OUTCOMES_VARIABLE: str(outcomes),
        WORKSPACE_VARIABLE: EXACT_WORKSPACE,
    }
    process = subprocess.Popen(command, cwd=ROOT, env={**child_environment({}), **variables})
    seen = 0
    counts = Counter({"passed": 0, "failed": 0, "skipped": 0})
    reported: set[str] = set()
    while True:
        ended = process.poll() is not None or report.seconds_left < 2
        lines = outcomes.read_text(encoding="utf-8").splitlines()
        for line in lines[seen:]:
            found = json.loads(line)
            counts[found["outcome"]] += 1
            if found["outcome"] == "failed" and found["test"] not in reported:
                reported.add(found["test"])
                if len(reported) <= SHOWN_FAILURES:
                    report.failed(f"{found['test']}: {found['reason']}")
        seen = len(lines)
        if ended:
            break
        time.sleep(POLL_SECONDS)
    cut = process.poll() is None
    if cut:
        process.kill()
    code = process.wait()
    report.row(files=len(files), **counts)
    if cut:
        report.failed(f"cut after {seen} tests")
    elif code not in (0, 1):
        report.failed(f"pytest ended with exit code {code}")
    if seen == counts["skipped"]:
        report.skipped(f"all {seen} tests: they need a GPU")
    else:
        report.did(f"{seen} tests in {len(files)} files")


def prove_exact_resume(report: Report) -> None:
    """Kill a worker in exact mode at a random step, resume it, and compare with one that ran
    through: the losses of all steps and the weights, bit by bit."""
    os.environ["RNNLM_TUI_HOME"] = str(report.folder / "home")
    source = write_text(report.folder / "text.txt")
    draw = random.Random()
    for cell, mode in RESUMED[:1] if report.dry else RESUMED:
        changes = {"training.device": report.setting.device, "checkpoint.every": RESUMED_STEPS // 8}
        config = exact_config(source, cell, mode, RESUMED_STEPS, **changes)
        whole = create_run(config, f"{cell}-{mode}-whole")
        _finish(report, whole)
        for number in range(TRIES):
            broken = create_run(config, f"{cell}-{mode}-killed-{number}")
            wanted = draw.randrange(RESUMED_STEPS // 8, RESUMED_STEPS // 2)
            if (killed := _kill_at(report, broken, wanted)) is not None:
                break
        else:
            report.failed(f"{cell}, {mode}: {TRIES} runs ended before they could be killed")
            continue
        _finish(report, broken)
        weights = weights_hash(whole, RESUMED_STEPS) == weights_hash(broken, RESUMED_STEPS)
        losses = _losses(whole)
        same = len(losses) == RESUMED_STEPS and losses == _losses(broken)
        report.row(
            cell=cell,
            mode=mode,
            steps=RESUMED_STEPS,
            killed_at=killed,
            weights="bit-equal" if weights else "DIFFER",
            losses="bit-equal" if same else "DIFFER",
        )
        if not (weights and same):
            report.failed(f"{cell}, {mode}: killed at step {killed}, the resumed run differs")
    report.did("kill -9 of a real worker in exact mode, and its resumption")
    if report.dry:
        report.skipped("the other cells: each needs three starts of a worker")


def _worker(report: Report, run: RunDirectory) -> Process:
    """Start a worker; without a GPU as a fork, which saves the imports."""
    log = report.folder / f"{run.name}.log"
    if report.dry:
        return Forked(lambda: train.main([str(run.path)]), log)
    with log.open("ab") as file:
        return subprocess.Popen(
            python_command("rnnlm_tui.worker.train", str(run.path)),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=child_environment(training_settings(run.read_config())),
        )


def _finish(report: Report, run: RunDirectory) -> None:
    """Run an attempt to its end.

    Raises:
        RuntimeError: the worker failed.
    """
    code = _worker(report, run).wait(timeout=max(1.0, report.seconds_left))
    if code:
        said = " ".join(last_lines(report.folder / f"{run.name}.log", 1))
        raise RuntimeError(f"the worker of {run.name} ended with exit code {code}: {said}")


def _kill_at(report: Report, run: RunDirectory, step: int) -> int | None:
    """Run an attempt and kill it at or after a step; returns the last step that was recorded."""
    process = _worker(report, run)
    while process.poll() is None and report.seconds_left > 0:
        if _newest_step(run) >= step:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(POLL_SECONDS)
    for child in psutil.Process(os.getpid()).children(recursive=True):
        child.kill()  # also the worker itself, if the time is up
    return _newest_step(run) if process.wait() == -signal.SIGKILL else None


def _newest_step(run: RunDirectory) -> int:
    with RunReader(run) as reader:
        rows = reader.recent_steps(1)
    return rows[0].step if rows else 0


def _losses(run: RunDirectory) -> dict[int, float | None]:
    """Loss by step; where two attempts computed a step, the later's."""
    with RunReader(run) as reader:
        return {row.step: row.loss for row in reader.steps_since()}
