"""The app on a real pseudo-terminal: what it sends, and how it leaves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.terminal import Terminal
from tests.tui.demo_run import MOST, demo_run

DEADLINE = 60.0
"""The longest wait for anything, on a slow machine."""
FIRST_PAINT_BYTES = 32 * 1024
STILL_LOOKS = 20
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


def test_an_app_sends_only_what_changes_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    polls = tmp_path / "polls"  # the number of the app's polls
    command = [sys.executable, "-c", PROGRAM, str(polls)]
    with demo_run("finished", MOST), Terminal(command, columns=120, rows=40) as opened:

        def sent(keys: str, words: str | Callable[[], bool]) -> list[str]:
            """The screen after these keys, once it shows the words and nothing more is sent."""
            opened.send(keys)
            opened.wait_for(words, DEADLINE)
            last = (opened.received, int(polls.read_text()))  # bytes, and polls by then

            def still() -> bool:
                nonlocal last
                if opened.received != last[0]:
                    last = (opened.received, int(polls.read_text()))
                return int(polls.read_text()) >= last[1] + STILL_LOOKS

            opened.wait_for(still, DEADLINE)
            return list(opened.screen.display)

        sent("", "plain-otter ✓ finished")
        assert opened.received < FIRST_PAINT_BYTES
        sent("x", "tokens ─╯")
        before = opened.received
        sent("\t", lambda: opened.received > before)
        assert opened.received - before < 4_000
        narrow = sent("xxxx", "step ─╯")
        sent("?", "Keys: Train")
        assert sent("q", "tok/s") == narrow, "the same after narrow updates and a whole repaint"
        shown = {key: sent(key, text) for key, text in SHOWS.items()}
        assert shown["2"] == narrow
        opened.send("\x11")
        assert opened.wait(DEADLINE) == 0
        assert b"\x1b[?1049l" in opened.raw
        assert b"\x1b[?25h" in opened.raw
