"""Every fault has a test, and `pytest -m faults` runs every test in this folder."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.rows import ROWS, Row

pytestmark = pytest.mark.faults

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("test_*.py"))


def names_in(path: Path) -> set[str]:
    """The test functions of a file."""
    return {
        node.name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.fault[:40])
def test_a_fault_has_its_tests(row: Row) -> None:
    assert row.tests
    for name in row.tests:
        file, _, test = name.partition("::")
        assert test in names_in(FOLDER / f"{file}.py"), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_here_is_run_by_the_marker(path: Path) -> None:
    marks = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "pytestmark"
        and "pytest.mark.faults" in ast.unparse(node.value)
    ]
    assert len(marks) == 1


def test_no_fault_is_listed_twice() -> None:
    assert len({row.fault for row in ROWS}) == len(ROWS)
