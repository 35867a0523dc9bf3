"""A data home made by an earlier version: shown, resumed and sampled by today's code without losing
a step.

`tests/data/earlier_home.tar.gz` was made by version 0.1 with `python -m tests.tools.earlier_home
CHECKOUT`; run it again with a worktree of an earlier version to make a new one. `expected.json` in
the archive holds that version's own answers.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rnnlm_tui.worker.resuming import KERNEL_VARIABLES
from tests.terminal import Terminal
from tests.tools.compare_verbs import leaves
from tests.tools.earlier_home import (
    ARCHIVE,
    DRAFT,
    FINISHED,
    KILLED,
    PAUSED,
    PROMPT,
    SAVED_EVERY,
    STEPS,
)

RUNS = (FINISHED, KILLED, PAUSED)


class Home:
    """The unpacked home, and the command line on it."""

    def __init__(self, folder: Path) -> None:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        self.path = folder / "home"
        self.expected: dict[str, Any] = json.loads((folder / "expected.json").read_text())
        # Its runs were trained without variables that select kernels, and exact mode compares them.
        own = {name: value for name, value in os.environ.items() if name not in KERNEL_VARIABLES}
        self.environment = {**own, "RNNLM_TUI_HOME": str(self.path)}
        for database in self.path.rglob("run.db"):
            self._move_to_this_host(database)

    def run(self, *arguments: str) -> str:
        """The output of a verb."""
        command = [sys.executable, "-m", "rnnlm_tui", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=180, env=self.environment, check=False
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """What a verb prints with --json."""
        return json.loads(self.run(*arguments, "--json"))

    def attempts(self, run: str) -> list[tuple[int, int]]:
        """The attempts of a run with their first steps."""
        return self._query(run, "SELECT attempt, start_step FROM attempts ORDER BY attempt")

    def rows(self, run: str) -> set[tuple[int, int, float]]:
        """Attempt, step and loss of every step in the database."""
        return set(self._query(run, "SELECT attempt, step, loss FROM steps"))

    def _query(self, run: str, query: str) -> list[Any]:
        with closing(sqlite3.connect(self.path / "runs" / run / "run.db")) as connection:
            return connection.execute(query).fetchall()

    def _move_to_this_host(self, database: Path) -> None:
        """Only the host of the last worker can tell that it is dead."""
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(
                "UPDATE meta SET value = ? WHERE key = 'host'", (socket.gethostname(),)
            )
            connection.execute("UPDATE attempts SET host = ?", (socket.gethostname(),))


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """The home, unpacked once for this module."""
    found = Home(tmp_path_factory.mktemp("earlier"))
    yield found
    for summary in found.json("runs"):
        if summary["pid"] is not None:
            os.kill(summary["pid"], signal.SIGKILL)


def differences(before: Any, now: Any) -> dict[str, tuple[Any, Any]]:
    """What the earlier version knew and today's code answers otherwise; texts, paths and sizes on
    disk may differ."""
    old, new = leaves(before), leaves(now)
    ignored = ("host", "path", "folder", "bytes", "corpus_source", "message", "hint", "title")
    return {
        name: (value, new.get(name))
        for name, value in old.items()
        if new.get(name) != value and name.rpartition(".")[2] not in ignored
    }


def test_runs_are_listed_with_their_labels_and_pins(earlier: Home) -> None:
    runs = earlier.json("runs")
    assert not differences(earlier.expected["runs"], runs)
    assert {run["run"]: run["status"] for run in runs} == {
        FINISHED: "finished",
        KILLED: "crashed",
        PAUSED: "crashed",
        DRAFT: "draft",
    }
    finished = next(run for run in runs if run["run"] == FINISHED)
    assert (finished["tags"], finished["note"], finished["pinned"]) == (
        ["paper", "small"],
        "the first one that works",
        True,
    )


@pytest.mark.parametrize("run", RUNS)
def test_metrics_and_checkpoints_are_those_of_before(earlier: Home, run: str) -> None:
    assert earlier.json("metrics", run) == earlier.expected[f"metrics {run}"]
    assert not differences(earlier.expected[f"checkpoints {run}"], earlier.json("checkpoints", run))
    assert "Traceback" not in earlier.run("verify", run)


def test_corpora_are_listed_as_before(earlier: Home) -> None:
    assert not differences(
        earlier.expected["corpus"]["prepared"], earlier.json("corpus")["prepared"]
    )


def test_the_app_remembers_its_state(earlier: Home) -> None:
    with Terminal(
        [sys.executable, "-m", "rnnlm_tui"], columns=120, rows=40, environment=earlier.environment
    ) as app:
        app.wait_for("2 marked", 60)
        app.send("\r")
        app.wait_for("Perplexity", 60)
        app.send("4")
        app.wait_for("@best", 60)
        app.send("\x1b[A")
        app.wait_for(PROMPT, 60)


def test_the_finished_run_is_sampled_as_before(earlier: Home) -> None:
    sample = earlier.json("sample", f"{FINISHED}@best", PROMPT, "--greedy")
    assert sample["text"] == earlier.expected["sample"]["text"]


def test_interrupted_runs_resume_at_their_last_checkpoint_and_lose_no_step(earlier: Home) -> None:
    before = {run: earlier.rows(run) for run in (KILLED, PAUSED)}
    straight = earlier.expected[f"metrics {FINISHED}"]
    for run in before:
        earlier.run("resume", run, "--detach")
    for run, rows in before.items():
        newest = max(step for _, step, _ in rows)
        last_saved = newest // SAVED_EVERY * SAVED_EVERY
        assert last_saved < newest
        earlier.run("follow", run)
        assert earlier.attempts(run) == [(1, 0), (2, last_saved)]
        assert rows <= earlier.rows(run)
        curve = earlier.json("metrics", run)
        assert [row["step"] for row in curve] == list(range(1, STEPS + 1))
        assert [row["tokens_seen"] for row in curve] == [row["tokens_seen"] for row in straight]
        losses = [row["loss"] for row in straight]
        assert [row["loss"] for row in curve] == pytest.approx(losses, rel=1e-4)
