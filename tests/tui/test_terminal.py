"""The app on a real pseudo-terminal: what it sends, and that it leaves with the terminal."""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from time import monotonic

import pytest

from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.tui.actions import Pane
from tests.terminal import Terminal
from tests.tui.demo_run import MOST, demo_run

DEADLINE = 60.0
"""The longest wait for anything, on a slow machine."""
FIRST_PAINT_BYTES = 32 * 1024
STILL_LOOKS = 10
"""Polls of the run without a byte sent, after which everything has arrived."""

PROGRAM = """
import os, sys
from pytest import MonkeyPatch
from rnnlm_tui.client.monitor import RunMonitor
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.tui.app import RnnlmApp
from tests.tui.demo_run import stand_still

pane, polls = sys.argv[1:]
file, poll, count = os.open(polls, os.O_WRONLY | os.O_CREAT), RunMonitor.poll, 0

def counted(monitor):
    global count
    count += 1
    os.pwrite(file, str(count).encode(), 0)
    return poll(monitor)

RunMonitor.poll = counted
stand_still(MonkeyPatch())
sys.exit(RnnlmApp(find_run("plain-otter"), pane, fps=20.0).run())
"""
SHOWS = {"r": "val ppl", "1": "frozen", "3": "★ best", "2": "Perplexity, log", "4": "@best"}
"""The key of each pane, and a text on it."""


class AppTerminal(Terminal):
    """The app on a demo run; it counts its polls of the run in a file."""

    def __init__(
        self,
        polls: Path,
        status: RunStatus = "finished",
        pane: Pane = "train",
        size: tuple[int, int] = (80, 24),
    ) -> None:
        self._run = ExitStack()
        step = MOST if status == "finished" else 3_751
        self._run.enter_context(demo_run(status, step))
        command = [sys.executable, "-c", PROGRAM, pane, str(polls)]
        super().__init__(command, columns=size[0], rows=size[1])
        self._looks = polls

    def close(self) -> None:
        super().close()
        self._run.close()

    def __enter__(self) -> AppTerminal:
        return self

    @property
    def polls(self) -> int:
        """How often the app has polled the run."""
        return int(self._looks.read_text() or 0) if self._looks.exists() else 0

    def bytes_of_polls(self, count: int) -> int:
        """The bytes sent during this many more polls."""
        before, wanted = self.received, self.polls + count
        self.wait_for(lambda: self.polls >= wanted, DEADLINE)
        return self.received - before

    def wait_until_still(self) -> None:
        """Wait until everything that was sent has arrived."""
        end = monotonic() + DEADLINE
        while self.bytes_of_polls(STILL_LOOKS):
            assert monotonic() < end, "the app never stops sending"


@pytest.fixture
def polls(tmp_path: Path) -> Path:
    """The file in which the app counts its polls."""
    return tmp_path / "polls"


def test_an_app_sends_only_what_changes_and_leaves_the_terminal_as_it_was(polls: Path) -> None:
    with AppTerminal(polls, size=(120, 40)) as opened:
        opened.wait_for("plain-otter ✓ finished", DEADLINE)
        opened.wait_until_still()
        assert opened.received < FIRST_PAINT_BYTES
        opened.send("x")
        opened.wait_for("tokens ─╯", DEADLINE)
        opened.wait_until_still()
        before = opened.received
        opened.send("\t")
        opened.wait_for(lambda: opened.received > before, DEADLINE)
        opened.wait_until_still()
        assert opened.received - before < 4_000
        for key, text in SHOWS.items():
            opened.send(key)
            opened.wait_for(text, DEADLINE)
            opened.wait_until_still()
            assert opened.bytes_of_polls(3 * STILL_LOOKS) == 0, key
        opened.send("\x11")
        assert opened.wait(DEADLINE) == 0
        assert b"\x1b[?1049l" in opened.raw
        assert b"\x1b[?25h" in opened.raw


def test_the_screen_is_the_same_after_narrow_updates_as_after_a_whole_repaint(polls: Path) -> None:
    with AppTerminal(polls, "running") as opened:
        opened.wait_for("Perplexity, log", DEADLINE)
        opened.send("x")
        opened.wait_for("tokens ─╯", DEADLINE)
        opened.send("xxxx")
        opened.wait_for("step ─╯", DEADLINE)
        opened.wait_until_still()
        narrow = list(opened.screen.display)
        opened.send("?")
        opened.wait_for("Keys: Train", DEADLINE)
        opened.send("q")
        opened.wait_for("tok/s", DEADLINE)
        opened.wait_until_still()
        assert list(opened.screen.display) == narrow
        opened.send("3")
        opened.wait_for("★ best", DEADLINE)
        opened.send("2")
        opened.wait_for("tok/s", DEADLINE)
        opened.wait_until_still()
        assert list(opened.screen.display) == narrow


@pytest.mark.parametrize("closed", [False, True], ids=["hung up", "closed"])
def test_an_app_ends_with_its_terminal(polls: Path, closed: bool) -> None:
    with AppTerminal(polls, "running") as opened:
        opened.wait_for("plain-otter ● running", DEADLINE)
        if closed:
            os.close(opened.descriptor)
            opened.descriptor = -1
        else:
            os.kill(opened.pid, signal.SIGHUP)
        end = monotonic() + DEADLINE
        while (ended := os.waitpid(opened.pid, os.WNOHANG)) == (0, 0):
            assert monotonic() < end, "the app does not leave"
            select.select([], [], [], 0.02)
        opened.exit_code = os.waitstatus_to_exitcode(ended[1])
        # on a busy machine it is ended before it has left by itself
        assert opened.exit_code in (0, 128 + signal.SIGHUP)
