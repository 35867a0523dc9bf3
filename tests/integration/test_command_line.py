"""The command line from end to end: real processes, a real worker, a small real corpus."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rnnlm_tui.schema.memory import WORKER_BYTES
from tests.faults.workers import Workers
from tests.integration.runs import settings

COMMAND = (sys.executable, "-m", "rnnlm_tui")
"""For what a terminal or a session does to a command; other commands start as forks."""
SMALL = (
    *("--preset", "elman"),
    *settings(
        "corpus.sentences=600",
        "model.embedding_dim=16",
        "model.hidden_size=16",
        "training.batch_size=8",
        "schedule.warmup_steps=10",
        "evaluation.every=30",
        "checkpoint.every=30",
        "training.threads=1",
    ),
)
"""Options of a run with steps of some milliseconds."""
ENDLESS = (
    *SMALL,
    *settings("training.max_steps=1000000", "evaluation.every=0", "checkpoint.every=0"),
)


class Machine:
    """A data home and the command line on it."""

    def __init__(self, home: Path, python: Path) -> None:
        self.home = home
        self.python = python
        self.environment = {
            **os.environ,
            "RNNLM_TUI_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command that must exit with `code` and show no traceback."""
        done = subprocess.run(
            [self.python, "-m", "rnnlm_tui", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == code, f"{arguments}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr + done.stdout
        return done

    def json(self, *arguments: str) -> Any:
        """The output of a command with --json."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def until(self, run: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the condition holds for the run's summary; the summary."""
        deadline = time.monotonic() + 60
        while not condition(summary := self.json("show", run)):
            assert time.monotonic() < deadline, summary
            assert summary["status"] not in ("failed", "crashed"), summary
        assert isinstance(summary, dict)
        return summary


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> Iterator[Machine]:
    """One home for this module; workers still running at the end are killed."""
    found = Machine(tmp_path_factory.mktemp("machine") / "home", workers.python)
    yield found
    for summary in found.json("runs"):
        if summary["pid"] is not None:
            os.kill(summary["pid"], signal.SIGKILL)


def test_a_detached_run_outlives_its_session_and_resumes_after_a_stop(machine: Machine) -> None:
    command = (*COMMAND, "train", *ENDLESS, "--name", "lasting", "--detach")
    shell = subprocess.Popen(
        ["sh", "-c", '"$@"; sleep 600', "sh", *command],
        stdout=subprocess.PIPE,
        text=True,
        env=machine.environment,
        start_new_session=True,
    )
    assert shell.stdout is not None
    assert shell.stdout.readline() == "lasting\n"
    os.killpg(shell.pid, signal.SIGKILL)
    shell.wait()
    shell.stdout.close()
    first = machine.until("lasting", lambda summary: summary["step"] > 0)
    machine.until("lasting", lambda summary: summary["step"] > first["step"])
    drawn = machine.json(
        "sample", "lasting@now", "the boys", "--seed", "1", "--max-new-tokens", "5"
    )
    assert (drawn["tokens"], drawn["checkpoint"] >= first["step"]) == (5, True)
    evaluated = machine.json("evaluate", "lasting")
    assert f"{evaluated['validation']['perplexity']:,.2f}" in evaluated["text"]
    stopped = machine.json("stop", "lasting")
    assert (machine.home / "runs" / "lasting" / stopped["checkpoint"] / "manifest.json").exists()
    summary, step = machine.json("show", "lasting"), stopped["step"]
    found = (stopped["status"], summary["status"], summary["step"], summary["checkpoints"]["last"])
    assert found == ("stopped", "stopped", step, step)
    assert machine.json("resume", "lasting")["attempt"] == 2
    going = machine.until("lasting", lambda summary: summary["step"] > step)
    assert going["attempt"] == 2
    machine.run("stop", "lasting")


def test_ctrl_c_only_ends_following_and_a_stop_ends_the_run(machine: Machine) -> None:
    following = subprocess.Popen(
        [*COMMAND, "train", *ENDLESS, "--name", "watched", "--follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=machine.environment,
    )
    assert following.stdout is not None
    while "running" not in (line := following.stdout.readline()):
        assert line, following.communicate()
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=30)
    assert following.returncode == 130
    assert "watched keeps running" in err
    summary = machine.json("show", "watched")
    assert summary["status"] == "running"
    machine.until("watched", lambda later: later["step"] > summary["step"])
    machine.run("stop", "watched")


def test_tune_suggests_a_peak_and_how_to_train_with_it(home: Path, workers: Workers) -> None:
    machine = Machine(home, workers.python)
    found = machine.json("tune", *SMALL, "--steps", "50")
    assert found.keys() == {"rates", "losses", "smoothed", "suggestion", "reason"}
    done = machine.run("tune", *SMALL, "--steps", "50")
    assert done.stdout.splitlines()[-1] == found["reason"]
    assert ("★" in done.stdout, "1e-3" in done.stdout.splitlines()[-2]) == (True, True)
    assert f"--set=optimizer.learning_rate={found['suggestion']:g}` trains with it" in done.stderr
    low = machine.run("tune", *SMALL, "--to", "2e-5", "--steps", "20", "--json", code=1)
    assert json.loads(low.stdout)["suggestion"] is None
    assert "no learning rate can be suggested" in low.stderr
    wrong = machine.run("tune", *SMALL, "--from", "2", "--steps", "1", code=2).stderr
    assert re.search("--from is 2, must be .*--steps is 1, must be", wrong)
    assert [path.name for path in home.iterdir()] == ["corpora"]


def test_a_probe_measures_and_later_estimates_use_it(home: Path, workers: Workers) -> None:
    machine = Machine(home, workers.python)
    before = machine.json("estimate", *SMALL)
    assert (
        before["memory_measured"],
        before["calibrated_by"],
        before["seconds"],
        before["probe"],
    ) == (False, None, None, None)
    done = machine.run("estimate", *SMALL, "--probe", "--json")
    found = json.loads(done.stdout)
    probe = found["probe"]
    assert probe["steps"] == 20
    assert probe["device"] == "cpu"
    assert probe["tokens_per_second"] > 0
    assert probe["step_seconds"] > 0

    assert sorted(path.name for path in machine.home.iterdir()) == [
        "calibration.json",
        "corpora",
    ], "no run"
    assert not [path for path in (machine.home / "corpora").glob("*") if path.name.startswith(".")]
    after = machine.json("estimate", *SMALL)
    assert after == {**found, "probe": None, "memory_free": after["memory_free"]}
    assert (after["memory_measured"], after["calibrated_by"], after["calibrated_run"]) == (
        True,
        "probe",
        None,
    )
    saving = after["memory_parts"]["saving"]
    assert after["memory_bytes"] == probe["memory_bytes"] + WORKER_BYTES + saving
    assert after["seconds"] == pytest.approx(after["steps"] * probe["step_seconds"], rel=0.1), (
        "the last step of a pass is shorter"
    )
    other = machine.json("estimate", *SMALL, "--set", "training.batch_size=10")
    assert (other["memory_measured"], other["calibrated_by"]) == (False, "probe")
    words = machine.run("estimate", *SMALL).stdout
    assert "at the speed of the probe" in words
    assert "measured" in words
