"""The app on a real pseudo-terminal: what it sends, and how it leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.terminal import Terminal
from tests.tui.demo_run import MOST, demo_run

DEADLINE = 60.0
"""The longest wait for anything, on a slow machine."""
FIRST_PAINT_BYTES = 32 * 1024
STILL_LOOKS = 12
"""Polls of the run without a byte sent, after which everything has arrived."""

PROGRAM = """
import os, sys
from pytest import MonkeyPatch
from rnnlm_tui.client.monitor import RunMonitor
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.tui.app import RnnlmApp
from tests.tui.demo_run import stand_still

file, poll, count = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), RunMonitor.poll, 0

def counted(monitor):
    global count
    count += 1
    os.pwrite(file, str(count).encode(), 0)
    return poll(monitor)

RunMonitor.poll = counted
stand_still(MonkeyPatch())
sys.exit(RnnlmApp(find_run("plain-otter"), "train", fps=20.0).run())
"""
SHOWS = {"r": "val ppl", "1": "frozen", "3": "★ best", "2": "Perplexity, log", "4": "@best"}
"""The key of each pane, and a text on it."""


class AppTerminal(Terminal):
    """The app on a finished demo run; it counts its polls of the run in a file."""

    def __init__(self, polls: Path) -> None:
        self._run, self._polls = ExitStack(), polls
        self._run.enter_context(demo_run("finished", MOST))
        command = [sys.executable, "-c", PROGRAM, str(polls)]
        super().__init__(command, columns=120, rows=40)

    def __enter__(self) -> AppTerminal:
        return self

    def close(self) -> None:
        super().close()
        self._run.close()

    def after(self, keys: str, words: str | Callable[[], bool]) -> list[str]:
        """The screen after these keys, once it shows the words and nothing more is sent."""
        self.send(keys)
        self.wait_for(words, DEADLINE)
        received, polled = self.received, int(self._polls.read_text())

        def still() -> bool:
            nonlocal received, polled
            polls = int(self._polls.read_text())
            if self.received != received:
                received, polled = self.received, polls
            return polls >= polled + STILL_LOOKS

        self.wait_for(still, DEADLINE)
        return list(self.screen.display)


def test_an_app_sends_only_what_changes_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    with AppTerminal(tmp_path / "polls") as opened:
        opened.after("", "plain-otter ✓ finished")
        assert opened.received < FIRST_PAINT_BYTES
        opened.after("x", "tokens ─╯")
        before = opened.received
        opened.after("\t", lambda: opened.received > before)
        assert opened.received - before < 4_000
        narrow = opened.after("xxxx", "step ─╯")
        opened.after("?", "Keys: Train")
        assert opened.after("q", "tok/s") == narrow, "as after a whole repaint"
        shown = {key: opened.after(key, text) for key, text in SHOWS.items()}
        assert shown["2"] == narrow
        opened.send("\x11")
        assert opened.wait(DEADLINE) == 0
        assert b"\x1b[?1049l" in opened.raw
        assert b"\x1b[?25h" in opened.raw
