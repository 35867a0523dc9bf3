"""Run a verb in this process and get what it printed."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from rnnlm_tui.cli.main import run


class Answer(io.StringIO):
    """What a user types at a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Said:
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


Verb = Callable[..., Said]


@pytest.fixture
def verb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verb:
    """A function that runs a command line, checks its exit code and returns what was printed."""

    def call(words: str | Sequence[str], code: int = 0, *, typed: str = "") -> Said:
        if typed:
            monkeypatch.setattr("sys.stdin", Answer(typed))
        capsys.readouterr()
        assert run(shlex.split(words) if isinstance(words, str) else words) == code
        said = capsys.readouterr()
        assert code != 2 or said.out == ""
        return Said(said.out, said.err)

    return call
