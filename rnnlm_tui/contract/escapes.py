r"""One line for texts that may hold line breaks: `\n`, `\t` and `\\` as people write them in code."""

from __future__ import annotations

import re
from collections.abc import Sequence

_WRITTEN = {"\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_MEANT = {"n": "\n", "t": "\t"}
BETWEEN = "|"
"""Between several texts in one line; one that is meant is written with a backslash."""


def escaped(text: str) -> str:
    """The text in one line."""
    return "".join(_WRITTEN.get(character, character) for character in text)


def unescaped(line: str) -> str:
    """What `escaped` wrote; a backslash before any other letter is itself."""
    return re.sub(r"\\([nt\\|])", lambda found: _MEANT.get(found[1], found[1]), line)


def escaped_list(texts: Sequence[str]) -> str:
    r"""Several texts in one line: `\n|The end`."""
    return BETWEEN.join(escaped(text).replace(BETWEEN, f"\\{BETWEEN}") for text in texts)


def unescaped_list(line: str) -> list[str]:
    """What `escaped_list` wrote; nothing between two bars, or at an end, is no text."""
    parts = re.findall(r"(?:\\.|[^\\|]|\\$)+", line)
    return [unescaped(part) for part in parts]
