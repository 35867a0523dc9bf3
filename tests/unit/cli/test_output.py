"""stdout is for what was asked, stderr for the rest, and neither is steered by what it shows."""

from __future__ import annotations

import json
import math
import os

import pytest

from rnnlm_tui.cli import output
from rnnlm_tui.cli.start import check_terminal
from rnnlm_tui.errors import TerminalError


def test_json_has_no_figure_that_json_lacks() -> None:
    text = output.json_text({"a": [math.nan, 1.5, {"b": math.inf}], "c": (1, None)})
    assert json.loads(text) == {"a": [None, 1.5, {"b": None}], "c": [1, None]}


def test_json_is_ascii_so_that_every_pipe_takes_it() -> None:
    assert output.json_text({"text": "“ü” \x1b\u2028"}).isascii()


def test_no_control_byte_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    output.line("a\x1b]52;c;x\x07 \u202e b")
    output.note("c\x9b31m")
    output.table(["na\x1bme"], [["x\r\x08"]])
    out, err = capfd.readouterr()
    for character in ("\x1b", "\x07", "\u202e", "\x9b", "\r", "\x08"):
        assert character not in out + err


def test_notes_do_not_mix_with_what_was_asked(capfd: pytest.CaptureFixture[str]) -> None:
    output.note("progress")
    output.line("answer")
    assert capfd.readouterr() == ("answer\n", "progress\n")


def test_columns_stand_in_line(capfd: pytest.CaptureFixture[str]) -> None:
    output.table(("name", "step"), [("a", "1,000"), ("longer", "7")], right=[1])
    assert capfd.readouterr().out.splitlines() == ["name     step", "a       1,000", "longer      7"]


def test_facts_without_a_value_are_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    output.facts([("run", "a"), ("device", ""), ("step", "3")])
    assert capfd.readouterr().out.splitlines() == ["run   a", "step  3"]


def test_a_terminal_without_unicode_gets_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr("sys.stdout", Ascii())
    assert output.encodable("★ 2×192 – “ü” ≈ 3 s…") == '* 2x192 - "\\xfc" ~ 3 s...'


class Stream:
    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("stdin", "stdout", "term", "size", "words"),
    [
        (False, True, "xterm", (80, 24), "its input is none"),
        (True, False, "xterm", (80, 24), "its output is none"),
        (True, True, "dumb", (80, 24), 'TERM="dumb"'),
        (True, True, "", (80, 24), 'TERM=""'),
        (True, True, "xterm", (59, 24), "59×24 cells"),
        (True, True, "xterm", (80, 14), "80×14 cells"),
    ],
)
def test_the_app_says_why_it_can_not_open(monkeypatch: pytest.MonkeyPatch, stdin: bool, stdout: bool, term: str, size: tuple[int, int], words: str) -> None:
    monkeypatch.setattr("sys.stdin", Stream(stdin))
    monkeypatch.setattr("sys.stdout", Stream(stdout))
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size(size))
    monkeypatch.setenv("TERM", term)
    with pytest.raises(TerminalError, match=words) as caught:
        check_terminal()
    assert "--help" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_terminal_of_the_smallest_size_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Stream(True))
    monkeypatch.setattr("sys.stdout", Stream(True))
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 15)))
    monkeypatch.setenv("TERM", "xterm-256color")
    check_terminal()
    assert output.interactive()
