"""What every test has: a home of its own, no network, one thread for torch."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Ctrl-C reaches what the tests start, even where whoever started them in the background had it
    ignored.

    No network and one thread hold from here, not from the first test: libraries read both when the
    first test module imports them.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty RNNLM_TUI_HOME, inherited by every process that the test starts."""
    path = tmp_path / "home"
    monkeypatch.setenv("RNNLM_TUI_HOME", str(path))
    monkeypatch.setenv(
        "RNNLM_TUI_NICENESS", "0"
    )  # the workers of a test have to get on beside other tests
    return path
