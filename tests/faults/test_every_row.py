"""Every row of the guide's tables of faults has a test that names it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
GUIDE = TESTS.parent / "rnnlm_tui" / "docs" / "reliability.md"


def test_each_row_of_the_reliability_guide_is_the_marker_of_a_test_and_each_marker_a_row() -> None:
    rows = re.findall(r"^\| (?!what goes wrong|---)(.+?) \| ", GUIDE.read_text(), re.M)
    marked = {
        ast.literal_eval(node.args[0])
        for path in TESTS.rglob("test_*.py")
        if "mark.fault(" in (source := path.read_text())
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault"
    }
    assert sorted(marked) == sorted(rows)
