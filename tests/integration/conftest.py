"""A text to train on, and no worker that outlives its test."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.system.locks import read_lock
from tests.faults.workers import Workers, warm_starts
from tests.integration.runs import kill, write_text


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A small text file."""
    return write_text(tmp_path / "text.txt")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One torch thread: small matmuls gain nothing from more, and sums are then reproducible."""
    import torch  # most of these tests don't need torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def warm(workers: Workers, home: Path) -> Iterator[None]:
    """Workers launched by this process start fast; for tests that aren't about a worker's start."""
    with warm_starts(workers):
        yield


@pytest.fixture(autouse=True)
def vanishing_cache(home: Path, request: pytest.FixtureRequest) -> Iterator[None]:
    """The whole cache is removed again and again, at random: no figure depends on it."""
    draw, ended = random.Random(request.node.nodeid), Event()

    def remove() -> None:
        while not ended.wait(draw.uniform(0.02, 1.0)):
            shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)

    thread = Thread(target=remove, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.fixture(autouse=True)
def no_worker_stays(home: Path) -> Iterator[None]:
    """Kill workers that a failed test left running."""
    yield
    for run in list_runs():
        if read_lock(run.lock_path).held:
            kill(run)
