"""What the app writes to a terminal and takes from the cores is within the budgets.

`python -m tests.benchmarks.terminal_cost` measures more, times too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from tests.benchmarks.terminal_cost import (
    LINK,
    LIST_STILL_SECONDS,
    PATIENCE,
    most_behind,
    painted,
    react,
    read_until_still,
    settle,
    watch,
)
from tests.fakes.long_run import build_many
from tests.terminal import Terminal

STEPS = 100_000
SECONDS = 2.0
RUNS = 4


@pytest.fixture(autouse=True)
def vanishing_cache() -> None:
    """The cache stays: to make an index again takes the processor's time, which is measured."""


@contextmanager
def app(*words: str) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "rnnlm_tui", *words]
    with Terminal(command, columns=120, rows=40) as terminal:
        yield terminal


def test_a_list_sends_nothing_while_idle_and_little_for_a_cursor_move() -> None:
    build_many(RUNS, 3_000)
    began = monotonic()
    with app() as terminal:
        paint = painted(terminal, began, lambda shown: shown.wait_for(f"{RUNS} runs", PATIENCE))
        assert paint.size <= LINK
        settle(terminal)
        read_until_still(terminal)
        assert watch(terminal, SECONDS).rate == 0
        react(terminal, "j")  # draws the small chart for the first time
        read_until_still(terminal, LIST_STILL_SECONDS)
        size = terminal.received
        react(terminal, "k")
        read_until_still(terminal, LIST_STILL_SECONDS)
        assert terminal.received - size <= 4_000  # of about 20,000 for the whole screen


def test_the_dashboard_of_a_training_run_sends_little_and_leaves_the_cores_to_it(
    home: Path,
) -> None:
    trains = [sys.executable, "-m", "tests.fakes.long_run", str(home), "otter", str(STEPS)]
    with subprocess.Popen([*trains, "--live"], stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline()
            began = monotonic()
            with app("open", "otter") as terminal:
                assert painted(terminal, began).size <= LINK
                settle(terminal)
                watched = watch(terminal, SECONDS)
        finally:
            worker.kill()
    assert 0 < watched.rate <= 2_048 * 2
    assert watched.processor <= 3 * 4


def test_a_slow_link_buffers_output() -> None:
    assert most_behind([(0.0, LINK), (0.5, LINK // 2)]) == pytest.approx(1.0)
    assert most_behind([(0.0, LINK // 4), (2.0, LINK // 8)]) == pytest.approx(0.25)
