"""Counts are written by one function, `counted`, so that no text says "1 steps"."""

from __future__ import annotations

from tests.architecture.test_tree import SOURCES, offenders

NOUNS = (
    "attempt|character|checkpoint|continuation|core|epoch|evaluation|file|layer|line"
    "|parameter|point|problem|prompt|row|run|sample|seed|sentence|step|tag|text|thread|token|update"
    "|warning|window|word"
)
NUMBER = r"\{(?![A-Z_]+:)(len\([^{}]*\)(:,)?|[\w.()\[\]]+:,)\}"
"""A formatted number or a length, but not a constant."""
OWN_PLURAL = (
    r"""['"]s['"] if \w[^:]* (!=|>) 1 else ['"]['"]|['"]['"] if [^:]* == 1 else ['"]s['"]"""
)


def test_counts_are_written_by_one_function() -> None:
    found = offenders(SOURCES, rf"{NUMBER} ([a-z]+ )?({NOUNS})s\b")
    # errors.py must not import anything, and formatting.py defines `counted`
    others = [path for path in SOURCES if path.name not in ("errors.py", "formatting.py")]
    assert not [*found, *offenders(others, OWN_PLURAL)], "use counted(…) instead"
