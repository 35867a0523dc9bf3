"""A worker that holds its run without training is shown as stalled, and as running once it
continues."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.schema import status
from rnnlm_tui.store import summaries
from rnnlm_tui.system.locks import read_lock
from tests.integration.runs import ENDLESS, start, tiny_config, wait_for, wait_for_step

pytestmark = [pytest.mark.usefixtures("warm"), pytest.mark.fault("no step ends for a long time")]

SOON = 3.0
"""Seconds instead of the minute: three heartbeats."""


def test_a_worker_without_progress_is_stalled_and_running_again_when_it_continues(
    text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(
        tiny_config(
            text, {"training.max_steps": ENDLESS, "evaluation.every": 0, "checkpoint.every": 0}
        ),
        "still",
    )
    wait_for_step(run, 5)
    pid = read_lock(run.lock_path).pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        assert summarize(run).status == "running"  # less than a minute has passed
        for module in (status, summaries):
            monkeypatch.setattr(module, "STALE_SECONDS", SOON)
        wait_for(lambda: summarize(run).status == "stalled", "a stall")
        message = str(summarize(run).message)
        assert f"the process (pid {pid}) still holds the run" in message
        assert "`rnnlm-tui stop still`" in message
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: summarize(run).status == "running", "a step after the stall")
