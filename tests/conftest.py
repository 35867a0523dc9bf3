"""What every test has: a home of its own, no network, one thread for torch."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Ctrl-C reaches what the tests start, even where whoever started them in the background had it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty RNNLM_TUI_HOME, inherited by every process that the test starts."""
    path = tmp_path / "home"
    monkeypatch.setenv("RNNLM_TUI_HOME", str(path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return path
