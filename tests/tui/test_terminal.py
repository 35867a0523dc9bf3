"""The app on a real pseudo-terminal: what it sends, and that it leaves with the terminal."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path
from time import monotonic

import pytest

from rnnlm_tui.tui.actions import Pane
from tests.terminal import Terminal

DEADLINE = 60.0
"""The longest wait for anything, on a slow machine."""
FIRST_PAINT_BYTES = 32 * 1024
STILL_LOOKS = 10
"""Polls of the run without a byte sent, after which everything has arrived."""

PROGRAM = """
import os, sys
from rnnlm_tui.tui.app import RnnlmApp
from tests.tui.fakes import FakeMonitor, FakeServices, make_snapshot

status, pane, polls = sys.argv[1:]
snapshot = make_snapshot(status, 4_754 if status == "finished" else 3_751)

class Counted(FakeMonitor):
    count = 0

    def poll(self):
        Counted.count += 1
        os.pwrite(file, str(Counted.count).encode(), 0)
        return super().poll()

class Counting(FakeServices):
    def monitor(self, run, **_):
        return Counted(self, run.name)

file = os.open(polls, os.O_WRONLY | os.O_CREAT)
services = Counting(snapshot)
with services.installed():
    sys.exit(RnnlmApp(services.run("plain-otter"), pane, fps=20.0).run())
"""
SHOWS = {"r": "val ppl", "1": "frozen", "3": "★ best", "2": "Perplexity, log", "4": "@best"}
"""The key of each pane, and a text on it."""


class AppTerminal(Terminal):
    """The app on invented runs; it counts its polls of the run in a file."""

    def __init__(
        self,
        polls: Path,
        status: str = "finished",
        pane: Pane = "train",
        size: tuple[int, int] = (80, 24),
    ) -> None:
        super().__init__(
            [sys.executable, "-c", PROGRAM, status, pane, str(polls)],
            columns=size[0],
            rows=size[1],
        )
        self._looks = polls

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


@pytest.mark.parametrize("pane", ["train", "runs"])
def test_first_paint_is_small_and_an_idle_app_sends_nothing(pane: Pane, polls: Path) -> None:
    with AppTerminal(polls, pane=pane, size=(120, 40)) as opened:
        opened.wait_for("plain-otter ✓ finished" if pane != "runs" else "1 run", DEADLINE)
        opened.wait_until_still()
        assert opened.received < FIRST_PAINT_BYTES
        for key, text in SHOWS.items() if pane == "train" else ():
            opened.send(key)
            opened.wait_for(text, DEADLINE)
            opened.wait_until_still()
            assert opened.bytes_of_polls(3 * STILL_LOOKS) == 0, key


def test_a_key_sends_only_the_cells_that_it_changes_and_q_leaves_the_terminal_as_it_was(
    polls: Path,
) -> None:
    with AppTerminal(polls) as opened:
        opened.wait_for("plain-otter ✓ finished", DEADLINE)
        opened.wait_until_still()
        opened.send("x")
        opened.wait_for("tokens ─╯", DEADLINE)
        opened.wait_until_still()
        before = opened.received
        opened.send("\t")
        opened.wait_for(lambda: opened.received > before, DEADLINE)
        opened.wait_until_still()
        assert opened.received - before < 4_000
        opened.send("q")
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


def test_hanging_up_ends_the_app(polls: Path) -> None:
    with AppTerminal(polls, "running") as opened:
        opened.wait_for("plain-otter ● running", DEADLINE)
        os.kill(opened.pid, signal.SIGHUP)
        assert opened.wait(DEADLINE) == 0


def test_closing_the_terminal_ends_the_app(polls: Path) -> None:
    with AppTerminal(polls, "running") as opened:
        opened.wait_for("plain-otter ● running", DEADLINE)
        os.close(opened.descriptor)
        opened.descriptor = -1
        end = monotonic() + DEADLINE
        while (ended := os.waitpid(opened.pid, os.WNOHANG)) == (0, 0):
            assert monotonic() < end, "the app does not leave"
            select.select([], [], [], 0.02)
        opened.exit_code = os.waitstatus_to_exitcode(ended[1])
        assert opened.exit_code == 0
