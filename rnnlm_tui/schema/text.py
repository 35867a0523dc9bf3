"""Make text safe to show in a terminal, and write it in one line with escape sequences."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f"  # C0 and DEL: ESC starts every sequence
    "\x80-\x9f"  # C1: CSI, OSC and DCS in one byte
    # invisible: soft hyphen, grapheme joiner, Arabic letter mark, fillers
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\uffa0"
    # zero width, line separators, bidi marks, embeddings, overrides and isolates
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb"  # interlinear marks
    "\ud800-\udfff"  # lone surrogates: can't be written as UTF-8 at all
    "\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"  # tags
    "]"
)
"""Control and invisible characters.

Variation selectors, U+200C and U+200D are allowed, because Persian, Indic scripts and joined emoji
need them.
"""


def is_joiner(character: str | None) -> bool:
    """Whether this is a zero-width joiner or non-joiner, which `str.isprintable` rejects."""
    return character in ("\u200c", "\u200d")


def safe(text: str, *, keep: str = "\n") -> str:
    """Replace control and invisible characters, except those in `keep`, by visible signs."""
    return UNSAFE.sub(lambda match: match[0] if match[0] in keep else visible(match[0]), text)


def visible(character: str) -> str:
    """The visible sign for a character: ␛ for ESC, ␡ for DEL, `‹9b›` or `‹202e›` for others."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"‹{code:02x}›"


def user_path(text: str) -> Path:
    """A path typed by the user, with `~` and `~user` expanded if the user exists."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 (Path.expanduser raises a RuntimeError there)


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
