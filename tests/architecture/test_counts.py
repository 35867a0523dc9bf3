"""Counts are written by one function, so that nothing says "1 steps"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PRODUCT = Path(__file__).parents[2] / "rnnlm_tui"
NOUNS = [
    "step",
    "checkpoint",
    "evaluation",
    "run",
    "token",
    "character",
    "file",
    "sentence",
    "line",
    "problem",
    "point",
    "parameter",
    "sample",
    "prompt",
    "thread",
    "core",
    "layer",
    "row",
    "update",
    "continuation",
    "window",
    "text",
    "tag",
    "epoch",
    "attempt",
    "warning",
    "word",
    "corpora",
    "corpus",
    "run",
    "seed",
]
_NOUN = re.compile(rf" (?:[a-z]+ )?(?:{'|'.join(NOUNS)})s\b")


def formatted_counts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each f-string in which a number with thousands separators, or a length, stands before a noun in the plural."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, after in zip(node.values, node.values[1:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(after, ast.Constant):
                continue
            number = ast.unparse(value.value)
            grouped = value.format_spec is not None and ast.unparse(value.format_spec).endswith(",'")
            if number.isupper() or not (grouped or number.startswith("len(")):
                continue
            found = _NOUN.match(str(after.value))
            if found is not None:
                yield node.lineno, f"{{{number}}}{found[0]}"


@pytest.mark.parametrize("path", sorted(PRODUCT.rglob("*.py")), ids=lambda path: str(path.relative_to(PRODUCT)))
def test_a_count_is_written_with_its_plural_by_one_function(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    found = [f"line {line}: {text}" for line, text in formatted_counts(source)]
    assert not found, f"write counted(…) of rnnlm_tui.contract.figures instead: {found}"
    if path.name not in ("figures.py", "errors.py"):  # errors stand below everything
        assert not re.search(r"""['"]s['"] if \w[^:]* (!=|>) 1 else ['"]['"]|['"]['"] if [^:]* == 1 else ['"]s['"]""", source), (
            "a plural of its own: write counted(…)"
        )
