"""Output on stdout and stderr: encoding, wrapping, colours, and escaped control characters."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import termios

import pytest

from rnnlm_tui.cli import output
from rnnlm_tui.cli.start import check_terminal
from rnnlm_tui.errors import TerminalError


def test_json_has_no_nan_or_infinity() -> None:
    text = output.json_text({"a": [math.nan, 1.5, {"b": math.inf}], "c": (1, None)})
    assert json.loads(text) == {"a": [None, 1.5, {"b": None}], "c": [1, None]}


def test_json_is_ascii() -> None:
    assert output.json_text({"text": "“ü” \x1b\u2028"}).isascii()


ACTS = "a\x1b]52;c;x\x07\tü \u202e می\u200cخواهم ❤\ufe0f \x9b31m\r\x08"


def test_no_control_byte_reaches_a_terminal_and_text_is_unchanged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 200))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        monkeypatch.setattr("sys.stderr", terminal)
        output.line(ACTS)
        flow = output.TextStream()
        flow.write(ACTS)
        flow.close()
        output.table(["na\x1bme", "b"], [[ACTS, "end"]])
        output.line("the end")
        sent = read_until(ours, "the end")
    os.close(ours)
    assert sent.count("\tü ‹202e› می\u200cخواهم ❤\ufe0f ‹9b›31m␍␈") == 2, (
        "a tab is a tab, joiners and variation selectors are text"
    )
    assert "␉ü" in sent, "in a table it would move the columns"
    assert not set("\x1b\x07\u202e\x9b\x08") & set(sent)


def test_a_pipe_gets_every_character_unchanged(capfd: pytest.CaptureFixture[str]) -> None:
    output.line(ACTS)
    output.facts([("text", ACTS)])
    flow = output.TextStream()
    flow.write(ACTS[:7])
    flow.write(ACTS[7:])
    flow.close()
    assert capfd.readouterr().out.count(ACTS) == 3


def test_a_note_never_controls_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    output.note(ACTS)
    assert not set("\x1b\x07\u202e\x9b\x08\r") & set(capfd.readouterr().err)


def test_notes_go_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    output.note("progress")
    output.line("answer")
    assert capfd.readouterr() == ("answer\n", "progress\n")


def test_columns_are_aligned(capfd: pytest.CaptureFixture[str]) -> None:
    output.table(("name", "step"), [("a", "1,000"), ("longer", "7")], right=[1])
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
        output.table(("name", "step", "more"), [("a", "1,000", "x")], spare=(2, 1))
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
    output.facts([("run", "a"), ("status", ADVICE)])
    output.note(ADVICE)
    monkeypatch.setenv("NO_COLOR", "1")
    out, err = capfd.readouterr()
    assert (out.splitlines()[1], err) == (f"status  {ADVICE}", f"{ADVICE}\n")
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 60))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        output.facts([("run", "a"), ("status", ADVICE)])
        lines = read_until(ours, "at all").splitlines()
        assert lines[:2] == ["run     a", "status  a new run may do better:"]
        assert all(line.startswith("        ") for line in lines[2:])
        monkeypatch.setattr("sys.stderr", terminal)
        output.note(ADVICE)
        assert "a new run may do better:" in read_until(ours, "at all").splitlines()
    os.close(ours)


def read_until(descriptor: int, end: str) -> str:
    """What a terminal was sent."""
    found = ""
    while not found.rstrip().endswith(end):
        found += os.read(descriptor, 4096).decode()
    return found


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
    with pytest.raises(TerminalError, match=words) as caught:
        check_terminal()
    assert "--help" in caught.value.hint
    assert caught.value.exit_code == 2


def test_a_terminal_of_the_smallest_size_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Stream(True))
    monkeypatch.setattr("sys.stdout", Stream(True))
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_, **__: os.terminal_size((60, 15)))
    monkeypatch.setenv("TERM", "xterm-256color")
    check_terminal()
    assert output.interactive()


STORY = (
    "The state of the Union is strong, and internationalization goes on.\n    def"
    " indented(words):\n\treturn  two  spaces, 日本語のテキストは語の間に空白がない and on"
)


@pytest.mark.parametrize("pieces", [1, 3, 1_000])
@pytest.mark.parametrize("width", [24, 40, 80])
def test_a_streamed_text_wraps_at_words_on_a_terminal(
    width: int, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        flow = output.TextStream()
        for at in range(0, len(STORY), pieces):
            flow.write(STORY[at : at + pieces])
        flow.close()
        output.line("the end")
        lines = read_until(ours, "the end").partition("the end")[0].split("\r\n")
    os.close(ours)
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
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 10))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        flow = output.TextStream()
        flow.write("ab 0123456789abcdefghij k")
        flow.close()
        assert read_until(ours, "k") == "ab\r\n0123456789\r\nabcdefghij\r\nk\r\n"
    os.close(ours)


def drawn(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """Return what a terminal receives for a table, facts and a status."""
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **variables}.items():
        monkeypatch.setenv(name, value)
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 60))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        output.table(
            ("name", "status"),
            [("a", "failed"), ("longer", "running")],
            colours={1: {"failed": "bad", "running": "live"}},
        )
        output.facts(
            [("run", "a"), ("status", "failed: out of memory " * 4)], colours={"status": "bad"}
        )
        output.line("the end")
        sent = read_until(ours, "the end")
    os.close(ours)
    return sent


def test_a_terminal_gets_dim_labels_and_a_coloured_status(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = drawn(monkeypatch)
    assert sent.startswith(
        "\x1b[2mname\x1b[0m    \x1b[2mstatus\x1b[0m\r\na       \x1b[31mfailed\x1b[0m\r\nlonger "
        " \x1b[36mrunning\x1b[0m\r\n"
    )
    assert "\x1b[2mrun\x1b[0m     a\r\n" in sent
    assert "\x1b[2mstatus\x1b[0m  \x1b[31mfailed: out of memory" in sent
    plain = re.sub(r"\x1b\[[0-9;]*m", "", sent)
    assert plain == drawn(monkeypatch, NO_COLOR="1"), "the colours take no room"


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": ""}], ids=str)
def test_a_terminal_without_colours_gets_none(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b" not in drawn(monkeypatch, **variables)


def test_a_pipe_gets_no_colours(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    output.table(("name", "status"), [("a", "failed")], colours={1: {"failed": "bad"}})
    output.facts([("status", "failed")], colours={"status": "bad"})
    assert capfd.readouterr().out == "name  status\na     failed\nstatus  failed\n"
