"""The linters and the type checker, as tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--no-cache", "."],
        ["ruff", "format", "--no-cache", "--check", "--diff", "."],
        ["mypy"],
    ],
    ids=["ruff check", "ruff format", "mypy --strict"],
)
def test_the_linters_find_nothing(command: list[str]) -> None:
    cache = (
        ["--cache-dir", os.devnull]  # nothing is written
        if command == ["mypy"] and not (ROOT / ".mypy_cache").is_dir()
        else []
    )
    answer = subprocess.run(
        [sys.executable, "-m", *command, *cache],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=ROOT,
    )
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-6_000:]
