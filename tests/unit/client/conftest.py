"""Runs with a fake worker: a process with the same protocol, without torch."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run, list_runs
from rnnlm_tui.system.locks import read_lock
from tests.fakes import sampler, worker

FAKE_SAMPLER = (sys.executable, str(Path(sampler.__file__)))


@pytest.fixture
def run(home: Path) -> RunDirectory:
    """A new run."""
    return create_run(RunConfig(), "plain-otter")


@pytest.fixture(autouse=True)
def fake_worker(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Callable[[str], None]]:
    """Make all launched workers fake; call it to choose their behaviour. They end with the test."""

    def behave(behaviour: str) -> None:
        command = [sys.executable, str(Path(worker.__file__)), behaviour]
        monkeypatch.setattr(
            "rnnlm_tui.client.control.python_command", lambda module, path: [*command, path]
        )

    behave("serves")
    yield behave
    for left in list_runs():
        state = read_lock(left.lock_path)
        if state.held and state.pid is not None and state.pid != os.getpid():
            os.kill(state.pid, signal.SIGKILL)
