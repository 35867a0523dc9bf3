"""Text that would control a terminal or Textual's markup.

`leaks` finds in a terminal's bytes what should have been escaped.
"""

from __future__ import annotations

import base64
import re

from rnnlm_tui.schema.formatting import UNSAFE, safe

CLIPBOARD = base64.b64encode(b"hostile").decode()
"""Clipboard contents that only a hostile text would set."""

TEXTS: dict[str, str] = {
    # colour, clipboard, erase, a query, reset
    "acts": f"\x9b31;7;93m\x1b]52;c;{CLIPBOARD}\x07\x1b[31;7;93m\x1b[2J\x1bPq\x1b\\\x1bc"
    # title, bidi, backspaces, NUL
    "\x9d0;pwned\x9c\x90q\x9c\u202eidib\u2066\u200f\u2028\u061c\x08\x08\r\x7f\x0e\x00",
    "markup": "[@click=app.quit]q[/] [/ [red]r[/red] [$primary ]] \\[",
}
"""Hostile texts by kind; each starts with the worst part, since narrow columns show only that."""

_OWN = re.compile(
    r"\x1b\[[0-9;:]*m"  # colours
    r"|\x1b\[[0-9;]*[HJKABCDG]"  # the cursor
    r"|\x1b\[[?>=<][0-9;]*(\$p|[hlucnpq])"  # modes and mode queries
    r"|\x1b\[[0-9;]* q|\x1b[78]|\x1b\[[0-9]*[ct]|\x1b\(B"
    r"|\x1b\]22;[a-z-]+\x07"  # the shape of the mouse's pointer
)
"""Codes that the app itself writes to a terminal."""
_OWN_IN_LINES = re.compile(
    r"\x1b\[(0|2|31|32|33|36)m"
    r"|\r(?=[^\r\n\x1b]*\x1b\[K)|\x1b\[[JK]"  # around a line of progress, and below a frame
)
_COLOUR = re.compile(r"\x1b\[([0-9;:]*)m")
_COPIED = re.compile(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07")


def leaks(raw: bytes, *, lines: bool = False) -> list[str]:
    """Return everything in a terminal's bytes that is neither visible text nor the app's own codes.

    Args:
        lines: the output of a command, which uses only a few colours.
    """
    text = raw.decode("utf-8", "backslashreplace")
    found = [f"colour {match[1]}" for match in _COLOUR.finditer(text) if "31;7;93" in match[1]]
    text = (_OWN_IN_LINES if lines else _OWN).sub("", text)
    text = text.replace("\r\n", "\n")
    found += [
        f"{match[0]!r} in {text[max(0, match.start() - 40) : match.end() + 40]!r}"
        for match in UNSAFE.finditer(text)
        if match[0] != "\n"
    ]
    return found


def copied(raw: bytes) -> list[str]:
    """Return the texts that the app copied to the clipboard."""
    return [
        base64.b64decode(match[1]).decode()
        for match in _COPIED.finditer(raw.decode("utf-8", "backslashreplace"))
    ]


def without_copied(raw: bytes) -> bytes:
    """Remove the sequences that copy a text to the clipboard."""
    return _COPIED.sub("", raw.decode("utf-8", "backslashreplace")).encode()


def seen(text: str) -> str:
    """Return a hostile text as a screen shows it."""
    return safe(text, keep="")
