"""Fixtures of every test: an empty data home, no network, one torch thread."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.faults.workers import Workers


os.environ.update(
    HF_HUB_OFFLINE="1",
    OMP_NUM_THREADS="1",
    RNNLM_TUI_NICENESS="0",  # a test's workers need their share beside other tests
)
# Children keep what they compile: else each of them compiles the package, in a third of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Neither in a fixture nor in a hook: libraries read them when they are imported, as they are by
# the conftest.py of a folder that is named on the command line.


def pytest_configure() -> None:
    """Let Ctrl-C reach child processes even if the tests run in the background.

    An example of Hypothesis may take any time, since other tests share the processor. Other
    examples are drawn in each run.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    settings.register_profile("tests", deadline=None, max_examples=50)
    settings.load_profile("tests")


def pytest_collection_finish() -> None:
    """Leave all that is imported by now out of garbage collections, and collect seldom.

    With every test's modules in memory they take a sixth of the time of a test of the app, and as
    often as by default another sixth.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty RNNLM_TUI_HOME and cache, inherited by every process that the test starts."""
    path = tmp_path / "home"
    monkeypatch.setenv("RNNLM_TUI_HOME", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return path


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """Workers that start fast, as forks of one process that has imported torch."""
    from tests.faults.workers import Workers  # most tests need no worker

    with Workers() as started:
        yield started
