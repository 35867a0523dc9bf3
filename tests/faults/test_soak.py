"""A long run holds no more at its end than near its start: memory, descriptors, threads and the
index's write-ahead log."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tests.benchmarks.soak import Held, Soaked

ROOT = Path(__file__).parents[2]
STEPS = 40_000
"""Enough to show what each step leaves behind; `python -m tests.benchmarks.soak` trains a
million."""
MEMORY_BYTES = 8 << 20
BLOCKS_A_STEP = 0.3
"""The rows of evaluations and events that a reader shows hold 0.08 to 0.1 blocks a step; a leak of
one object per step holds one."""
WAL_BYTES = 8 << 20
"""Twice the size at which SQLite checkpoints the index's write-ahead log: a reader may delay that,
but not for long."""


@pytest.fixture(scope="module")
def soaked() -> Soaked:
    """The figures of one long run."""
    command = [sys.executable, "-m", "tests.benchmarks.soak", f"--steps={STEPS}", "--json"]
    answer = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stderr
    return TypeAdapter(Soaked).validate_json(answer.stdout)


def test_a_long_run_ends_with_every_step_stored(soaked: Soaked) -> None:
    assert (soaked.status, soaked.rows) == ("finished", STEPS)
    assert soaked.log < 200 * STEPS


@pytest.mark.parametrize("process", ["worker", "reader"])
def test_memory_descriptors_threads_and_log_stay_flat_over_a_long_run(
    soaked: Soaked, process: str
) -> None:
    marks: tuple[Held, ...] = getattr(soaked, process)
    early, late = (
        [mark for mark in marks if mark.step <= STEPS // 2],
        [mark for mark in marks if mark.step > STEPS * 3 // 4],
    )
    assert min(len(early), len(late)) >= 5
    start, steps = early[len(early) // 2], late[-1].step - early[len(early) // 2].step
    assert late[-1].memory - start.memory < MEMORY_BYTES
    assert late[-1].blocks - start.blocks < BLOCKS_A_STEP * steps
    assert (
        max(mark.descriptors for mark in late) <= max(mark.descriptors for mark in early) + 2
    )  # a file being read
    assert min(mark.threads for mark in late) <= min(mark.threads for mark in early) + 1, (
        "on a slow disk every mark may find the thread of a save; those that stay become many"
    )
    assert max(mark.wal for mark in marks) < WAL_BYTES
