"""In tmux, by keys only: start the demo, kill the tmux server, reopen the run, sample from it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from rnnlm_tui.client.control import send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.store.runs import list_runs

DEADLINE = 240.0
"""Seconds for each wait: a corpus is built and torch imported twice."""


class Tmux:
    """A separate tmux server with one session."""

    def __init__(self, home: Path) -> None:
        self._socket = f"rnnlm-tui-test-{os.getpid()}"
        self._home = home

    def start(self) -> None:
        """The app in a new server."""
        environment = [
            f"{name}={os.environ[name]}"
            for name in ("RNNLM_TUI_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "PATH")
        ]
        command = ["env", "-u", "COLORTERM", *environment, sys.executable, "-m", "rnnlm_tui"]
        self._run(
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-s",
            "app",
            "-x",
            "80",
            "-y",
            "24",
            *command,
            ";",
            "set",
            "-g",
            "status",
            "off",
        )
        self._run("resize-window", "-t", "app", "-x", "80", "-y", "24")

    def press(self, *keys: str) -> None:
        self._run("send-keys", "-t", "app", *keys)

    def type(self, text: str) -> None:
        self._run("send-keys", "-t", "app", "-l", text)

    def screen(self) -> str:
        return self._run("capture-pane", "-p", "-t", "app")

    def wait_for(self, condition: Callable[[str], object]) -> str:
        """Wait until the condition holds for the screen; the screen."""
        end = monotonic() + DEADLINE
        while not condition(shown := self.screen()):
            assert monotonic() < end, shown
            threading.Event().wait(0.2)
        return shown

    def kill(self) -> None:
        subprocess.run(
            ["tmux", "-L", self._socket, "kill-server"], check=False, capture_output=True
        )

    def _run(self, *arguments: str) -> str:
        return subprocess.run(
            ["tmux", "-L", self._socket, *arguments], check=True, capture_output=True, text=True
        ).stdout


@pytest.fixture
def tmux(home: Path) -> Iterator[Tmux]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    server = Tmux(home)
    try:
        yield server
    finally:
        server.kill()
        for run in list_runs():
            if summarize(run).status in ("running", "preparing", "paused"):
                send(run, "stop")


def step_of(screen: str) -> int:
    """The step on the screen; 0 before the first."""
    found = re.search(r"step\s+([\d,]+) /", screen)
    return int(found[1].replace(",", "")) if found else 0


@pytest.mark.timeout(900)
def test_a_run_outlives_its_terminal_and_is_sampled_by_keys(tmux: Tmux) -> None:
    tmux.start()
    tmux.wait_for(lambda screen: "start the demo" in screen)
    tmux.press("Enter")
    first = tmux.wait_for(lambda screen: step_of(screen) >= 20)
    later = tmux.wait_for(lambda screen: step_of(screen) > step_of(first))
    assert "Perplexity, log" in later
    tmux.press("c")
    tmux.wait_for(lambda screen: "checkpoint saved at step" in screen)
    (run,) = list_runs()
    tmux.kill()
    assert summarize(run).status == "running"
    step = summarize(run).step

    tmux.start()
    again = tmux.wait_for(lambda screen: step_of(screen) >= step)
    assert run.name in again
    assert not re.search("no points", again)
    tmux.press("4")
    tmux.wait_for(lambda screen: "Generate" in screen)
    tmux.type("The President")
    tmux.wait_for(lambda screen: "The President" in screen)
    tmux.press("Enter")
    tmux.wait_for(lambda screen: "100 of 100 tokens" in screen)
