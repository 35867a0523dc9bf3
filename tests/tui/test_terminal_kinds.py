"""The app as the user starts it, on all kinds of terminals: colours, ASCII and mouse."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tests.terminal import Terminal

DEADLINE = 60.0
WELCOME = "start the demo"
"""A text on the first screen of an empty home."""
MANY = re.compile(rb"[34]8;(?:5;\d+|2;\d+;\d+;\d+)")
SIXTEEN = re.compile(rb"\x1b\[(?:\d*;)*(?:3|4|9|10)[0-7][;m]")


def opened(home: Path, *options: str, **variables: str) -> Terminal:
    """The app on an empty home."""
    environment = {"RNNLM_TUI_HOME": str(home), **variables}
    return Terminal(
        [sys.executable, "-m", "rnnlm_tui", *options], columns=80, rows=24, environment=environment
    )


def kinds_of_colour(raw: bytes) -> set[str]:
    """How colours were asked for: by value, by number of the 256, of the 16; empty where none
    was."""
    kinds = {"value" if b"8;2;" in one else "256" for one in MANY.findall(raw)}
    return kinds | ({"16"} if SIXTEEN.search(MANY.sub(b"", raw)) else set())


TERMINALS: tuple[tuple[dict[str, str], tuple[str, ...], set[str], bool], ...] = (
    ({"COLORTERM": "truecolor"}, ("--ascii", "--no-mouse"), {"value"}, True),
    ({"TERM": "linux"}, (), {"16"}, True),
    ({"NO_COLOR": "1", "LANG": "C", "LC_ALL": "C"}, ("--no-ascii",), set(), False),
)
"""Environment, options, how colours are asked for, and whether all is ASCII."""


def test_every_terminal_gets_the_colours_and_signs_that_it_has(tmp_path: Path) -> None:
    for variables, options, kinds, is_ascii in TERMINALS:
        with opened(tmp_path, *options, **variables) as terminal:
            terminal.wait_for(WELCOME, DEADLINE)
            assert kinds_of_colour(bytes(terminal.raw)) == kinds
            assert terminal.text.isascii() is is_ascii
            assert (b"\x1b[?1000h" in terminal.raw) is ("--no-mouse" not in options)
            terminal.send("q")
            assert terminal.wait(DEADLINE) == 0


def test_an_unknown_theme_is_rejected(tmp_path: Path) -> None:
    with opened(tmp_path, "--theme", "mauve") as terminal:
        assert terminal.wait(DEADLINE) != 0
        valid = "must be one of auto, dark, light, ansi-dark, ansi-light, none"
        assert valid in " ".join(terminal.text.split())


def test_the_users_keymap_and_theme_are_used(tmp_path: Path) -> None:
    (tmp_path / "keymap.toml").write_text('new_run = "Z"\nleaf = "x"\n')
    with opened(tmp_path, "--theme", "light") as terminal:
        terminal.wait_for("keymap.toml line 2", DEADLINE)
        terminal.send("x")  # the user is present: the keys are shown again
        terminal.wait_for("Z New", DEADLINE)
        terminal.send("Z")
        terminal.wait_for("Estimate", DEADLINE)
        assert kinds_of_colour(bytes(terminal.raw)) == {"256"}
        assert b"48;5;255m" in terminal.raw
        assert b"48;5;233m" not in terminal.raw, "the background of the dark theme"
