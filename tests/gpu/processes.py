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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rnnlm_tui.client.control import training_settings
from rnnlm_tui.schema.config import CellType, DataMode
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.cuda import EXACT_WORKSPACE, WORKSPACE_VARIABLE
from rnnlm_tui.system.processes import child_environment, last_lines, python_command
from rnnlm_tui.worker import train
from tests.benchmarks.exact_resume import exact_config, weights_hash
from tests.gpu.parts import CPP_STACK, Forked, Process, Report
from tests.integration.runs import write_text

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]
OUTCOMES_VARIABLE = "RNNLM_TUI_GPU_OUTCOMES"
"""Environment variable: the file in which the pytest plugin below writes JSON lines: a test's name
when it begins, and its outcome."""
SHOWN_FAILURES, SHOWN_LINES = 12, 60
TEST_SECONDS = 60.0
"""A test that takes longer is ended; most take less than a second."""
BROKEN = 75
"""Exit code of tests that left CUDA unusable."""
PYTEST_ENDS = (0, 1, 5)
"""Exit codes of pytest: all passed, some failed, no tests are left."""
CUT = "cut: the time was up"
LEFT_SECONDS = 2.0
"""Before the end of a part's time, to report what was found."""
RESUMED: Mapping[str, tuple[CellType, DataMode]] = {
    "elman": ("elman", "sentences"),
    "lstm": ("lstm", "stream"),
}
RESUMED_STEPS, GPU_STEPS = 480, 3_000
"""Some seconds: rows of steps are stored a quarter of a second late, and the worker is to be killed
well before its end. A GPU does such small steps in a millisecond."""
TRIES = 3
"""Runs that may end before they are killed, as on a busy machine."""
POLL_SECONDS = 0.02


def gpu_test_files() -> list[Path]:
    """Files with tests marked `gpu`, relative to the root; those of the app need textual and hold
    none."""
    return sorted(
        path.relative_to(ROOT)
        for path in (ROOT / "tests").rglob("test_*.py")
        if "mark.gpu" in path.read_text(encoding="utf-8")
        and not {"tui", "gpu"}.intersection(path.parts[-3:-1])
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the tests that a process before this one began."""
    begun = {line["test"] for line in _outcomes()}
    items[:] = [item for item in items if item.nodeid not in begun]


def pytest_runtest_logstart(nodeid: str) -> None:
    """Write that a test begins: if the process dies, it was that one."""
    _write_outcome(test=nodeid, outcome="begun")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the outcome of a test at once: what was found survives a run that is cut."""
    if report.when == "call" or report.outcome != "passed":
        crash = getattr(report.longrepr, "reprcrash", None)
        place = f" ({Path(crash.path).name}:{crash.lineno})" if crash is not None else ""
        text = report.longreprtext
        reason = crash.message if crash is not None else text.strip().rpartition("\n")[2]
        reason = reason.partition(CPP_STACK)[0]
        _write_outcome(
            test=report.nodeid,
            outcome=report.outcome,
            reason=f"{' '.join(reason.split())[:300]}{place}" if report.failed else "",
            text=text if report.failed else "",
        )


def pytest_runtest_logfinish() -> None:
    """After a failure that broke CUDA for this process, leave the other tests to the next one."""
    lines = _outcomes()
    torch = sys.modules.get("torch")
    if not lines or lines[-1]["outcome"] != "failed" or torch is None:
        return
    if torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
        except RuntimeError:
            os._exit(BROKEN)


def _outcomes() -> list[dict[str, str]]:
    file = os.environ.get(OUTCOMES_VARIABLE)
    return _read(Path(file)) if file else []


def _read(outcomes: Path) -> list[dict[str, str]]:
    whole, _, _ = outcomes.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def _write_outcome(**values: str) -> None:
    if file := os.environ.get(OUTCOMES_VARIABLE):
        with Path(file).open("a", encoding="utf-8") as outcomes:
            outcomes.write(json.dumps(values) + "\n")


def run_marked_tests(report: Report) -> None:
    """Run `pytest -m gpu` on the case's file, or on all."""
    counts = run_tests(report, report.cases)
    files = report.cases[0] if len(report.cases) == 1 else f"{len(report.cases)} files"
    report.row(files=files, **counts)
    if counts["skipped"] and counts["skipped"] == sum(counts.values()):
        report.skipped("the tests marked gpu: they need one")
    else:
        report.did("the tests marked gpu, each file in processes of its own")


def run_tests(
    report: Report, files: Sequence[str], *, test_seconds: float = TEST_SECONDS
) -> Counter[str]:
    """Run tests without plugins but our own, which may be missing on a rented machine; returns how
    many had which outcome.

    A test that kills the process, breaks CUDA or takes too long costs the others a new start.
    """
    outcomes = report.folder / "outcomes.jsonl"
    outcomes.touch()
    command = [
        *(sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-m", "gpu", "-q"),
        *("-p", "no:cacheprovider", "-p", "tests.gpu.processes"),
        *("-o", "addopts=--strict-markers", "--tb=short"),
        *("-o", f"faulthandler_timeout={0.8 * test_seconds:g}"),
        *("-W", "ignore::pytest.PytestConfigWarning"),
        *(f"--basetemp={report.folder / 'pytest'}", *files),
    ]
    # The tests of exact mode need cuBLAS's workspaces as it wants them, which are read only once.
    variables = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        OUTCOMES_VARIABLE: str(outcomes),
        WORKSPACE_VARIABLE: EXACT_WORKSPACE,
    }
    again = True
    while again:
        known = len(_read(outcomes))
        process = subprocess.Popen(command, cwd=ROOT, env={**child_environment({}), **variables})
        ending = _watched(report, process, outcomes, test_seconds)
        lines = _read(outcomes)
        if lines and lines[-1]["outcome"] == "begun":
            found = {"test": lines[-1]["test"], "outcome": "failed", "reason": ending, "text": ""}
            with outcomes.open("a", encoding="utf-8") as file:
                file.write(json.dumps(found) + "\n")
        again = ending not in ("", CUT) and len(lines) > known
        if ending and not again:
            report.failed(f"pytest: {ending}")
    counts = Counter({"passed": 0, "failed": 0, "skipped": 0})
    for line in _read(outcomes):
        if line["outcome"] == "begun":
            continue
        counts[line["outcome"]] += 1
        if line["outcome"] == "failed" and counts["failed"] <= SHOWN_FAILURES:
            report.failed(f"{line['test']}: {line['reason']}")
            print(line["text"], flush=True)  # noqa: T201 - to the log of the part
    return counts


def _watched(
    report: Report, process: subprocess.Popen[bytes], outcomes: Path, test_seconds: float
) -> str:
    """Wait for the end of pytest, or end it; returns why the rest of the tests wasn't done."""
    read, since = 0, time.monotonic()
    while process.poll() is None:
        time.sleep(POLL_SECONDS)
        lines = _read(outcomes)
        if len(lines) != read:
            read, since = len(lines), time.monotonic()
        runs = bool(lines) and lines[-1]["outcome"] == "begun"
        late = runs and time.monotonic() - since > test_seconds
        if late or report.seconds_left < LEFT_SECONDS:
            process.kill()
            process.wait()
            return f"took longer than {test_seconds:g} s" if late else CUT
    code = process.returncode
    return "" if code in PYTEST_ENDS else f"its process ended with exit code {code}"


def prove_exact_resume(report: Report) -> None:
    """Kill a worker in exact mode at a random step, resume it, and compare with one that ran
    through: the losses of all steps and the weights, bit by bit."""
    os.environ["RNNLM_TUI_HOME"] = str(report.folder / "home")
    report.did("kill -9 of a real worker in exact mode, and its resumption")
    if report.dry:
        report.skipped("the other cell: each needs three starts of a worker")
    for case in report.cases[:1]:
        _prove_exact_resume(report, *RESUMED[case])


def _prove_exact_resume(report: Report, cell: CellType, mode: DataMode) -> None:
    steps = RESUMED_STEPS if report.dry else GPU_STEPS
    source = write_text(report.folder / "text.txt")
    changes = {"training.device": report.setting.device, "checkpoint.every": steps // 8}
    config = exact_config(source, cell, mode, steps, **changes)
    whole = create_run(config, f"{cell}-{mode}-whole")
    beside = _worker(report, whole)
    try:
        for number in range(TRIES):
            broken = create_run(config, f"{cell}-{mode}-killed-{number}")
            wanted = random.randrange(steps // 4, steps // 2)
            if (killed := _kill_at(report, broken, wanted)) is not None:
                break
        else:
            report.failed(f"{cell}, {mode}: {TRIES} runs ended before they could be killed")
            return
        _finish(report, broken, _worker(report, broken))
        _finish(report, whole, beside)
    finally:
        if beside.poll() is None:
            os.kill(beside.pid, signal.SIGKILL)
            beside.wait()
    weights = weights_hash(whole, steps) == weights_hash(broken, steps)
    losses = _losses(whole)
    same = len(losses) == steps and losses == _losses(broken)
    report.row(
        cell=cell,
        mode=mode,
        steps=steps,
        killed_at=killed,
        weights="bit-equal" if weights else "DIFFER",
        losses="bit-equal" if same else "DIFFER",
    )
    if not (weights and same):
        report.failed(f"{cell}, {mode}: killed at step {killed}, the resumed run differs")
    with RunReader(broken) as reader:
        resumed_at = reader.attempts()[-1].start_step
    if not resumed_at:
        report.failed(f"{cell}, {mode}: killed at step {killed}, nothing was resumed")


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


def _finish(report: Report, run: RunDirectory, worker: Process) -> None:
    """Wait for the end of an attempt.

    Raises:
        RuntimeError: the worker failed.
    """
    code = worker.wait(timeout=max(1.0, report.seconds_left - LEFT_SECONDS))
    if code:
        said = last_lines(report.folder / f"{run.name}.log", SHOWN_LINES)
        print(*said, sep="\n", flush=True)  # noqa: T201 - to the log of the part
        raise RuntimeError(
            f"the worker of {run.name} ended with exit code {code}: {' '.join(said[-1:])}"
        )


def _kill_at(report: Report, run: RunDirectory, step: int) -> int | None:
    """Run an attempt and kill it at or after a step; returns the last step that was recorded."""
    process = _worker(report, run)
    while process.poll() is None:
        if _newest_step(run) >= step or report.seconds_left < LEFT_SECONDS:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(POLL_SECONDS)
    return _newest_step(run) if process.wait() == -signal.SIGKILL else None


def _newest_step(run: RunDirectory) -> int:
    with RunReader(run) as reader:
        rows = reader.recent_steps(1)
    return rows[0].step if rows else 0


def _losses(run: RunDirectory) -> dict[int, float | None]:
    """Loss by step; where two attempts computed a step, the later's."""
    with RunReader(run) as reader:
        return {row.step: row.loss for row in reader.steps()}
