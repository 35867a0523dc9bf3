"""What stands where, how long a file may be, and what no file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

import rnnlm_tui

ROOT = Path(__file__).parents[2]
PACKAGE = Path(rnnlm_tui.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
EVERYTHING = sorted([*SOURCES, *(ROOT / "tests").rglob("*.py")])
TOP = {"pyproject.toml", "README.md", "CHANGELOG.md", "rnnlm_tui", "tests"}
LONGEST = 500


def named(path: Path) -> str:
    """A path as a test's id."""
    return path.relative_to(ROOT).as_posix()


def test_nothing_else_stands_at_the_top() -> None:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=False, cwd=ROOT)
    names = {line.partition("/")[0] for line in listed.stdout.splitlines()} if listed.returncode == 0 else {path.name for path in ROOT.iterdir()} & TOP
    assert {name for name in names if not name.startswith(".")} == TOP


def test_every_room_of_the_house_is_there_and_no_other() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == {"contract", "store", "corpus", "engine", "worker", "supervisor", "tui", "cli"}
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}
    assert (PACKAGE / "py.typed").exists()


def test_no_room_is_a_lumber_room() -> None:
    banned = {"utils", "util", "common", "core", "helpers", "helper", "misc"}
    assert not {named(path) for path in EVERYTHING if {path.stem, path.parent.name} & banned}


@pytest.mark.parametrize("path", EVERYTHING, ids=named)
def test_a_file_has_one_subject_and_ends(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < LONGEST
    if text.strip():
        first = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
        assert first, "the first line of a module says what it provides"
        assert len(first) > 15


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nothing_is_left_for_later_or_swallowed(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError", text)
    assert not re.search(r"except( Exception| BaseException)?:\s*\n?\s*pass\b", text)


def test_the_package_imports_nothing_of_the_tests() -> None:
    assert not [named(path) for path in SOURCES if re.search(r"^(from|import) tests\b", path.read_text(), re.MULTILINE)]


def test_test_modules_have_names_of_their_own() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders)
