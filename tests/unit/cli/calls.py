"""Verbs called in the tests' own process."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from rnnlm_tui.cli.main import run


class Verbs:
    """Runs command lines and returns what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, line: str, *more: str, code: int = 0) -> tuple[str, str]:
        """Stdout and stderr of a command that must exit with this code."""
        self._capsys.readouterr()
        ended = run([*shlex.split(line), *more])
        out, err = self._capsys.readouterr()
        assert ended == code, (line, ended, err)
        return out, err

    def json(self, line: str, *more: str) -> Any:
        """The JSON that a command prints."""
        return json.loads(self(line, *more, "--json")[0])
