"""The app as the user starts it, on all kinds of terminals: colours, ASCII and mouse."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def welcomed(home: Path, *options: str, **variables: str) -> Iterator[Terminal]:
    """The app on its first screen, which is left at the end."""
    with opened(home, *options, **variables) as terminal:
        terminal.wait_for(WELCOME, DEADLINE)
        yield terminal
        terminal.send("q")
        assert terminal.wait(DEADLINE) == 0


def kinds_of_colour(raw: bytes) -> set[str]:
    """How colours were asked for: by value, by number of the 256, of the 16; empty where none
    was."""
    kinds = {"value" if b"8;2;" in one else "256" for one in MANY.findall(raw)}
    return kinds | ({"16"} if SIXTEEN.search(MANY.sub(b"", raw)) else set())


TERMINALS: tuple[tuple[dict[str, str], tuple[str, ...], set[str], bool], ...] = (
    ({"COLORTERM": "truecolor"}, ("--ascii", "--no-mouse"), {"value"}, True),
    ({"TERM": "linux"}, (), {"16"}, True),
    ({"NO_COLOR": "1"}, (), set(), False),
    ({"LANG": "C", "LC_ALL": "C"}, ("--no-ascii",), {"256"}, False),
)
"""Environment, options, how colours are asked for, and whether all is ASCII."""


def test_every_terminal_gets_the_colours_and_signs_that_it_has(tmp_path: Path) -> None:
    for variables, options, kinds, is_ascii in TERMINALS:
        with welcomed(tmp_path, *options, **variables) as terminal:
            assert kinds_of_colour(bytes(terminal.raw)) == kinds
            assert terminal.text.isascii() is is_ascii
            assert (b"\x1b[?1000h" in terminal.raw) is ("--no-mouse" not in options)


def test_a_terminal_without_a_cursor_and_an_unknown_theme_are_rejected(tmp_path: Path) -> None:
    valid = "must be auto, dark, light, ansi-dark, ansi-light or none"
    for options, variables, words in (
        ((), {"TERM": "dumb"}, 'TERM="dumb"'),
        (("--theme", "mauve"), {}, valid),
    ):
        with opened(tmp_path, *options, **variables) as terminal:
            assert terminal.wait(DEADLINE) != 0
            assert words in " ".join(terminal.text.split())


def test_the_users_keymap_is_read_and_a_theme_is_chosen_for_this_start(tmp_path: Path) -> None:
    light, dark = b"48;5;255m", b"48;5;233m"
    (tmp_path / "keymap.toml").write_text('new_run = "Z"\nleaf = "x"\n')
    with welcomed(tmp_path, "--theme", "light") as terminal:
        terminal.wait_for("keymap.toml line 2", DEADLINE)
        terminal.send("x")  # the user is present: the keys are shown again
        terminal.wait_for("Z New", DEADLINE)
        terminal.send("Z")
        terminal.wait_for("Estimate", DEADLINE)
        assert light in terminal.raw
        assert dark not in terminal.raw
        terminal.send("r")
        terminal.wait_for(WELCOME, DEADLINE)
