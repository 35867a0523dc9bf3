r"""Write texts with line breaks in one line, with `\n`, `\t` and `\\`."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WRITTEN = {"\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_MEANT = {"n": "\n", "t": "\t"}
BETWEEN = "|"
"""Separates several texts in one line; inside a text it is written with a backslash."""


def escaped(text: str) -> str:
    """The text in one line, with escape sequences."""
    return "".join(_WRITTEN.get(character, character) for character in text)


def unescaped(line: str) -> str:
    """Reverse `escaped`; a backslash before any other character stays as it is."""
    return re.sub(r"\\([nt\\|])", lambda found: _MEANT.get(found[1], found[1]), line)


def escaped_list(texts: Sequence[str]) -> str:
    r"""Several texts in one line: `\n|The end`."""
    return BETWEEN.join(escaped(text).replace(BETWEEN, f"\\{BETWEEN}") for text in texts)


def unescaped_list(line: str) -> list[str]:
    """Reverse `escaped_list`; empty texts are left out."""
    parts = re.findall(r"(?:\\.|[^\\|]|\\$)+", line)
    return [unescaped(part) for part in parts]
