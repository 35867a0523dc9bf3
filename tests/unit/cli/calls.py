"""Verbs called in the tests' own process."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from rnnlm_tui.cli.main import run


class Said(NamedTuple):
    """What a verb printed."""

    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The words of each line."""
        return [line.split() for line in self.out.splitlines()]

    @property
    def firsts(self) -> list[str]:
        """The first word of each row below the heads of a table."""
        return [row[0] for row in self.rows[1:]]


class Typed(io.StringIO):
    """What a user types at a terminal."""

    def isatty(self) -> bool:
        return True


class Verbs:
    """Runs command lines and returns what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(
        self, line: str | Sequence[str], *more: str, code: int = 0, typed: str = ""
    ) -> Said:
        """Stdout and stderr of a command that must exit with this code.

        Args:
            line: split as a shell does, or a list of words.
            typed: at a terminal; empty: standard input stays as it is.
        """
        if typed:
            self._monkeypatch.setattr("sys.stdin", Typed(typed))
        self._capsys.readouterr()
        words = shlex.split(line) if isinstance(line, str) else line
        ended = run([*words, *more])
        said = Said(*self._capsys.readouterr())
        assert ended == code, (line, ended, said.err)
        return said

    def json(self, line: str, *more: str) -> Any:
        """The JSON that a command prints."""
        return self(line, *more, "--json").json
