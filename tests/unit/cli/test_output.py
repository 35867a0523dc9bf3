"""Output on stdout and stderr: encoding, wrapping, colours, and escaped control characters."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rnnlm_tui.cli import output
from rnnlm_tui.cli.output import cells, clipped
from rnnlm_tui.cli.start import check_terminal
from rnnlm_tui.errors import TerminalError
from rnnlm_tui.schema.protocol import Setting
from tests.unit.cli.pty import sent_to_terminal


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    cells: tuple[object, ...]


def stream(pieces: Iterable[str]) -> None:
    """Print a text as it is sampled."""
    flow = output.TextStream()
    for piece in pieces:
        flow.write(piece)
    flow.close()


def test_json_has_no_nan_or_infinity() -> None:
    text = output.json_text({"a": [math.nan, 1.5, {"b": math.inf}], "c": (1, None)})
    assert json.loads(text) == {"a": [None, 1.5, {"b": None}], "c": [1, None]}


def test_models_and_dataclasses_are_objects_in_json() -> None:
    setting, column = Setting(path="a.b", old=1, new=None), Column("x", (math.inf, Path("/tmp")))
    assert json.loads(output.json_text({"found": [setting, column]})) == {
        "found": [{"path": "a.b", "old": 1, "new": None}, {"name": "x", "cells": [None, "/tmp"]}]
    }


def test_json_is_ascii() -> None:
    assert output.json_text({"text": "“ü” \x1b\u2028"}).isascii()


ACTS = "a\x1b]52;c;x\x07\tü \u202e می\u200cخواهم ❤\ufe0f \x9b31m\r\x08"


def test_no_control_byte_reaches_a_terminal_and_text_is_unchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    def act() -> None:
        output.line(ACTS)
        stream([ACTS])
        output.table(["na\x1bme", "b"], [[ACTS, "end"]])
        output.note(ACTS)

    sent = sent_to_terminal(monkeypatch, 200, act)
    assert sent.count("\tü ‹202e› می\u200cخواهم ❤\ufe0f ‹9b›31m␍␈") == 2, (
        "a tab is a tab, joiners and variation selectors are text"
    )
    assert "␉ü" in sent, "in a table it would move the columns"
    assert not set("\x1b\x07\u202e\x9b\x08\r") & set(sent)


def test_a_pipe_gets_every_character_of_results_unchanged_and_notes_are_on_stderr(
    capfd: pytest.CaptureFixture[str],
) -> None:
    output.line(ACTS)
    output.facts([("text", ACTS)])
    stream([ACTS[:7], ACTS[7:]])
    output.note(f"progress{ACTS}")
    out, err = capfd.readouterr()
    assert out.count(ACTS) == 3
    assert "progress" in err
    assert "progress" not in out
    assert not set("\x1b\x07\u202e\x9b\x08\r") & set(err)


def test_columns_are_aligned(capfd: pytest.CaptureFixture[str]) -> None:
    output.table(("name", ">step"), [("a", "1,000"), ("longer", "7")])
    assert capfd.readouterr().out.splitlines() == [
        "name     step",
        "a       1,000",
        "longer      7",
    ]


def test_a_narrow_terminal_drops_the_spare_columns(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for width, shown in ((17, "a 1,000 x"), (16, "a 1,000"), (4, "a")):
        monkeypatch.setattr(output, "columns", lambda stream, width=width: width)
        head, rows = ("name", "step", "more"), [("a", "1,000", "x")]
        output.table(head, rows, spare=(2, 1))
        assert output.fits(head, rows) == (width == 17)
        assert capfd.readouterr().out.splitlines()[1].split() == shown.split()


def test_facts_without_a_value_are_left_out(capfd: pytest.CaptureFixture[str]) -> None:
    output.facts([("run", "a"), ("device", ""), ("step", "3")])
    assert capfd.readouterr().out.splitlines() == ["run   a", "step  3"]


ADVICE = (
    "a new run may do better: `rnnlm-tui train --config"
    " /home/ada/.local/share/rnnlm-tui/runs/div/config.toml --set optimizer.max_grad_norm=1`, if"
    " at all"
)


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 200])
def test_long_text_wraps_at_spaces_and_commands_can_be_copied(width: int) -> None:
    lines = output.wrapped(ADVICE, width, indent=4).split("\n")
    assert all(len(line) <= width - 4 or len(line.split()) <= 2 for line in lines[:1])
    assert all(line.startswith("    ") for line in lines[1:])
    assert all(
        len(line) <= width or len(line.removesuffix(" \\").split()) == 1 for line in lines[1:]
    )
    whole = "\n".join(lines)
    command = whole[whole.index("`") + 1 : whole.rindex("`")]
    assert shlex.split(command.replace("\\\n", "")) == shlex.split(ADVICE.split("`")[1])
    assert whole.replace(" \\\n", " ").split() == ADVICE.split()


def test_a_command_that_fits_on_a_line_is_not_split() -> None:
    assert (
        output.wrapped("goes on with `rnnlm-tui resume plain-otter` from step 10", 40)
        == "goes on with\n`rnnlm-tui resume plain-otter` from step\n10"
    )


def test_separate_lines_keep_their_indent() -> None:
    assert (
        output.wrapped("2 problems:\n  one two three four five six", 20)
        == "2 problems:\n  one two three four\n  five six"
    )


def test_a_pipe_gets_long_lines_and_a_terminal_wrapped_ones(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    def act() -> None:
        output.facts([("run", "a"), ("status", ADVICE)])
        output.note(ADVICE)

    act()
    out, err = capfd.readouterr()
    assert (out.splitlines()[1], err) == (f"status  {ADVICE}", f"{ADVICE}\n")
    lines = sent_to_terminal(monkeypatch, 60, act).splitlines()
    note = lines.index("a new run may do better:")
    assert lines[:2] == ["run     a", "status  a new run may do better:"]
    assert all(line.startswith("        ") for line in lines[2:note])


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
        (False, True, "xterm", (80, 24), "standard input is not one"),
        (True, False, "xterm", (80, 24), "standard output is not one"),
        (True, True, "dumb", (80, 24), 'TERM="dumb"'),
        (True, True, "", (80, 24), 'TERM=""'),
        (True, True, "xterm", (59, 24), "59×24 cells"),
        (True, True, "xterm", (80, 14), "80×14 cells"),
        (True, True, "xterm", (60, 15), ""),
    ],
)
def test_the_app_says_why_it_cannot_open(
    monkeypatch: pytest.MonkeyPatch,
    stdin: bool,
    stdout: bool,
    term: str,
    size: tuple[int, int],
    words: str,
) -> None:
    monkeypatch.setattr("sys.stdin", Stream(stdin))
    monkeypatch.setattr("sys.stdout", Stream(stdout))
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_, **__: os.terminal_size(size))
    monkeypatch.setenv("TERM", term)
    assert output.interactive() is (stdin and stdout and term == "xterm")
    if not words:
        check_terminal()
        return
    with pytest.raises(TerminalError, match=words) as caught:
        check_terminal()
    assert "--help" in caught.value.hint
    assert caught.value.exit_code == 2


STORY = (
    "The state of the Union is strong, and internationalization goes on.\n    def"
    " indented(words):\n\treturn  two  spaces, 日本語のテキストは語の間に空白がない and on"
)


@pytest.mark.parametrize("pieces", [1, 3, 1_000])
@pytest.mark.parametrize("width", [24, 40, 80])
def test_a_streamed_text_wraps_at_words_on_a_terminal(
    width: int, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = [STORY[at : at + pieces] for at in range(0, len(STORY), pieces)]
    lines = sent_to_terminal(monkeypatch, width, lambda: stream(story)).split("\n")
    assert all(output.cells(line.expandtabs(8)) <= width for line in lines)
    words = re.findall(r"[a-zA-Z(),.:]+|[^ -~\s]", STORY)
    assert re.findall(r"[a-zA-Z(),.:]+|[^ -~\s]", "\n".join(lines)) == words, (
        "no word is broken and none is lost"
    )
    assert "    def indented(words):" in lines, "white space at the beginning stays"
    assert any(line.startswith("\treturn  two") for line in lines)


def test_a_word_longer_than_a_line_is_split_at_the_line_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = ["ab 0123456789abcdefghij k"]
    sent = sent_to_terminal(monkeypatch, 10, lambda: stream(long))
    assert sent == "ab\n0123456789\nabcdefghij\nk\n"


def draw() -> None:
    """Print a table, facts and a status."""
    output.table(
        ("name", "status"),
        [("a", "failed"), ("longer", "running")],
        colours={1: {"failed": "bad", "running": "live"}},
    )
    status = "failed: out of memory " * 4
    output.facts([("run", "a"), ("status", status)], colours={"status": "bad"})


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}], ids=str)
def test_colours_take_no_room_and_a_terminal_without_them_gets_none(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    sent = sent_to_terminal(monkeypatch, 60, draw)
    assert sent.startswith(
        "\x1b[2mname\x1b[0m    \x1b[2mstatus\x1b[0m\na       \x1b[31mfailed\x1b[0m\nlonger "
        " \x1b[36mrunning\x1b[0m\n"
    )
    assert "\x1b[2mrun\x1b[0m     a\n" in sent
    assert "\x1b[2mstatus\x1b[0m  \x1b[31mfailed: out of memory" in sent
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert sent_to_terminal(monkeypatch, 60, draw) == re.sub(r"\x1b\[[0-9;]*m", "", sent)


def test_a_pipe_gets_no_colours(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    output.table(("name", "status"), [("a", "failed")], colours={1: {"failed": "bad"}})
    output.facts([("status", "failed")], colours={"status": "bad"})
    assert capfd.readouterr().out == "name  status\na     failed\nstatus  failed\n"


@pytest.mark.parametrize(
    ("text", "taken", "width", "cut"),
    [
        ("abc", 3, 3, "abc"),
        ("日本語", 6, 4, "日…"),
        ("e\u0301", 1, 1, "e\u0301"),
        ("❤\ufe0f" * 11, 22, 20, "❤\ufe0f" * 9 + "…"),
        ("👩\u200d👧" * 10, 20, 20, "👩\u200d👧" * 10),
    ],
)
def test_wide_and_joined_characters_are_measured_and_clipped_as_terminals_do(
    text: str, taken: int, width: int, cut: str
) -> None:
    assert cells(text) == taken
    assert clipped(text, width) == cut
