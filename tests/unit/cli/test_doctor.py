"""The output of `doctor`: wrapped at words on a terminal, unwrapped in a pipe."""

from __future__ import annotations

import os
import re
import termios

import pytest

from rnnlm_tui.cli.doctor import CheckResult
from rnnlm_tui.cli.main import run

FOUND = [
    CheckResult("rnnlm-tui", "ok", "0.1.0 on Python 3.11, /usr/bin/python"),
    CheckResult(
        "logging out",
        "note",
        "a run that is started here ends when its user logs out, since systemd kills it",
        "run `loginctl enable-linger` to keep it running",
    ),
    CheckResult(
        "disk", "bad", "12 MB free", "free some, or set RNNLM_TUI_HOME to a folder on another disk"
    ),
]


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the checks by three results, one per verdict."""
    monkeypatch.setattr("rnnlm_tui.cli.doctor.run_checks", lambda: FOUND)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_doctor_wraps_at_words_on_a_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, width))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert run(["doctor"]) == 1
        print("the end", file=terminal, flush=True)
        sent = b""
        while b"the end" not in sent:
            sent += os.read(ours, 65_536)
    os.close(ours)
    text = sent.decode()
    lines = re.sub(r"\x1b\[\d+m", "", text).partition("the end")[0].split("\r\n")
    assert all(len(line) <= width for line in lines)
    words = [
        word
        for result in FOUND
        for word in (
            result.verdict,
            *result.check.split(),
            *result.fact.split(),
            *result.hint.split(),
        )
    ]
    assert [word for line in lines for word in line.split() if word != "\\"] == words
    assert all(line.startswith(("ok", "note", "bad", " " * 19)) for line in lines if line)
    for colour, verdict in ((32, "ok"), (33, "note"), (31, "bad")):
        assert f"\x1b[{colour}m{verdict:<4}\x1b[0m" in text


def test_doctor_does_not_wrap_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[1] == f"note  logging out  {FOUND[1].fact}"
    assert lines[2] == f"{'':19}{FOUND[1].hint}"
