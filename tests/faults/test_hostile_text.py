"""Text that would control a terminal is escaped in every view of the app and by every verb."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.faults.hostile import TEXTS, copied, leaks, seen, without_copied
from tests.faults.workers import Workers
from tests.terminal import Terminal

pytestmark = pytest.mark.fault("text contains control bytes, escape sequences or markup")

DEADLINE = 60.0
ESCAPE, UP, RIGHT = "\x1b", "\x1b[A", "\x1b[C"


class Tour:
    """A walk through the app on a real pseudo-terminal."""

    def __init__(self, opened: Terminal, text: str) -> None:
        self.opened = opened
        self.beginning = seen(text)[:5]
        """The start of the hostile text as shown on the screen."""

    def go(self, keys: str, until: str, *, shown: bool = True) -> None:
        """Type, wait for a word and, if `shown`, for the hostile text."""
        self.opened.send(keys)
        self.opened.wait_for(until, DEADLINE)
        if shown:
            self.opened.wait_for(lambda: self.beginning in self.opened.text, DEADLINE)

    def gone(self, keys: str, words: str) -> None:
        """Type, and wait until the words disappear."""
        self.opened.send(keys)
        self.opened.wait_for(lambda: words not in self.opened.text, DEADLINE)

    def click_everywhere(self) -> None:
        """Click on each hostile text, except in notices, which end, and the lines of keys and
        fields at the top and bottom."""
        for y, row in enumerate(self.opened.screen.display[2:-6], start=3):
            x = row.find(self.beginning)
            if x >= 0 and "█" not in row:
                self.opened.send(f"\x1b[<0;{x + 3};{y}M\x1b[<0;{x + 3};{y}m")


@pytest.mark.parametrize("kind", TEXTS)
def test_hostile_text_is_shown_literally_on_every_pane(kind: str) -> None:
    command = [sys.executable, "-m", "tests.faults.hostile_app", kind]
    with Terminal(command, columns=120, rows=40) as opened:
        walk(Tour(opened, TEXTS[kind]))
        opened.send("\x11")  # ctrl+q: beside a text box, q is text
        opened.wait_for("Leave rnnlm-tui?", DEADLINE)
        opened.send("\r")
        assert opened.wait(DEADLINE) == 0, opened.text
    assert leaks(without_copied(bytes(opened.raw))) == []
    for text in copied(bytes(opened.raw)):
        assert seen(text.replace("\n", "")) == text.replace("\n", ""), (
            "the clipboard got control characters"
        )


def walk(tour: Tour) -> None:
    """Look at every pane and most overlays."""
    tour.go("", "● running")
    tour.click_everywhere()
    tour.go("s", "refused")  # an error's message and hint
    tour.go("h", "step by step")
    tour.gone(ESCAPE, "step by step")
    tour.go("L", "follows")
    tour.gone(ESCAPE, "follows")
    tour.go("3", "★ best")
    tour.go("4", "@best")
    tour.go("go\r", "stopped at")
    tour.click_everywhere()
    tour.go("\x19", "copied ", shown=False)  # to the clipboard
    tour.go("x", "gox")  # into the box: ctrl+u acts there alone, and a click took the focus
    tour.go("\x15fail\r", "✗ failed")
    tour.go("\x15" + UP * 3, "an old", shown=False)  # without control characters
    tour.go("\x15\x1b[200~pasted\x9b31m\u202e\x1b[201~", "from the paste")
    tour.go("\x1b[18~", "enter reuse")  # the kept samples
    tour.gone(ESCAPE, "enter reuse")
    tour.go("\x1b[19~", "initial state")  # the kept states
    tour.gone(ESCAPE, "initial state")
    tour.go(ESCAPE, "q Leave", shown=False)
    tour.go("1", "frozen")
    tour.go("n", "draft, not started")
    tour.go("\rzzz", "zzz", shown=False)  # a text field
    tour.gone(ESCAPE, "zzz")
    tour.go("r", "▴ age")
    for name in ("left-run", "bad-run", "done-run"):
        tour.go("j", f"╭─ {name} ─")
    tour.go("t", "Tags of done-run", shown=False)
    tour.gone(ESCAPE, "Tags of done-run")
    tour.go("?", "Keys: Runs", shown=False)
    tour.gone("q", "Keys: Runs")
    tour.go("\x10open", "Open left-run", shown=False)
    tour.gone(ESCAPE, "Open left-run")


def test_a_hostile_path_is_shown_literally_at_the_first_launch(tmp_path: Path) -> None:
    home = tmp_path / TEXTS["acts"].replace("\0", "")
    command = [sys.executable, "-m", "rnnlm_tui"]
    with Terminal(
        command,
        columns=120,
        rows=40,
        environment={"RNNLM_TUI_HOME": str(home), "CUDA_VISIBLE_DEVICES": ""},
    ) as opened:
        opened.wait_for("no runs yet", DEADLINE)
        opened.wait_for("free in", DEADLINE)
        opened.send("q")
        assert opened.wait(DEADLINE) == 0, opened.text
    assert leaks(bytes(opened.raw)) == []


def test_no_verb_lets_hostile_text_reach_the_terminal(tmp_path: Path, workers: Workers) -> None:
    module, config = "tests.faults.hostile_home", str(tmp_path / "config.toml")
    with Terminal(
        [str(workers.python), "-m", module, "acts", config], columns=160, rows=24
    ) as opened:
        opened.wait_for(", codes [", 4 * DEADLINE)  # some hundred commands
        assert opened.wait(DEADLINE) == 0, opened.text
    assert leaks(bytes(opened.raw), lines=True) == []
    assert bytes(opened.raw).count(seen(TEXTS["acts"])[:5].encode()) > 50
    assert b"internal error" not in opened.raw
