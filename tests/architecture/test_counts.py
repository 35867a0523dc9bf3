"""Counts are written by one function, `counted`, so that no text says "1 steps"."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PRODUCT = Path(__file__).parents[2] / "rnnlm_tui"
NOUNS = [
    "attempt",
    "character",
    "checkpoint",
    "continuation",
    "core",
    "corpora",
    "corpus",
    "epoch",
    "evaluation",
    "file",
    "layer",
    "line",
    "parameter",
    "point",
    "problem",
    "prompt",
    "row",
    "run",
    "sample",
    "seed",
    "sentence",
    "step",
    "tag",
    "text",
    "thread",
    "token",
    "update",
    "warning",
    "window",
    "word",
]
FORMATTING = ("figures.py", "formatting.py")
"""Where `counted` is defined."""
_OWN_PLURAL = re.compile(
    r"""['"]s['"] if \w[^:]* (!=|>) 1 else ['"]['"]|['"]['"] if [^:]* == 1 else ['"]s['"]"""
)
_NOUN = re.compile(rf" (?:[a-z]+ )?(?:{'|'.join(NOUNS)})s\b")


def formatted_counts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each f-string in which a formatted number or a length precedes a plural
    noun."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, after in zip(node.values, node.values[1:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(after, ast.Constant):
                continue
            number = ast.unparse(value.value)
            grouped = value.format_spec is not None and ast.unparse(value.format_spec).endswith(
                ",'"
            )
            if number.isupper() or not (grouped or number.startswith("len(")):
                continue
            found = _NOUN.match(str(after.value))
            if found is not None:
                yield node.lineno, f"{{{number}}}{found[0]}"


def test_counts_are_written_by_one_function() -> None:
    found = []
    for path in sorted(PRODUCT.rglob("*.py")):
        source, name = path.read_text(encoding="utf-8"), path.relative_to(PRODUCT)
        found += [f"{name}:{line}: {text}" for line, text in formatted_counts(source)]
        if path.name not in (*FORMATTING, "errors.py"):  # errors.py must not import anything
            found += [f"{name}: {match[0]}" for match in _OWN_PLURAL.finditer(source)]
    assert not found, "use counted(…) instead"
