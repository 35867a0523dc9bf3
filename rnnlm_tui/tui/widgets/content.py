"""The one door for text from outside (prompts, generated text, corpora, names, paths, exceptions, logs): nothing in it can act on the terminal.

Textual passes ESC, OSC and DCS through to the terminal, and `[@click=…]` in a plain string is markup; here both become visible characters.
"""

from __future__ import annotations

import re
from typing import Literal

from rich.cells import cell_len, set_cell_size
from textual.content import Content

Newlines = Literal["keep", "space", "show"]
"""What becomes of a line's end: a line's end, a space, or the sign ␊. Tabs go the same way: four spaces, one space, the sign ␉."""

UNSAFE = re.compile(
    "["
    "\x00-\x1f\x7f"  # C0 and DEL: ESC starts every sequence
    "\x80-\x9f"  # C1: CSI, OSC and DCS in one byte
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\uffa0"  # invisible: soft hyphen, joiners, Arabic letter mark, fillers
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # zero width, line separators, bidi embeddings, overrides and isolates
    "\ufe00-\ufe0f\ufff9-\ufffb"  # variation selectors (terminals disagree about the width they give), interlinear marks
    "\ud800-\udfff"  # lone surrogates: can't be written as UTF-8 at all
    "\U000e0000-\U000e0fff"  # tags and more variation selectors
    "]"
)


def from_outside(text: str, *, limit: int | None = None, newlines: Newlines = "keep") -> Content:
    """`text` as Content without markup, with everything that could act on a terminal made visible; at most `limit` cells, the last of them `…` when cut."""
    return Content(plain(text, limit=limit, newlines=newlines))


def plain(text: str, *, limit: int | None = None, newlines: Newlines = "keep") -> str:
    """The same as a string, for widgets that take no Content; still to be passed with `markup=False`."""
    if limit is not None and len(text) > 4 * limit + 64:
        text = text[: 4 * limit + 64]  # a novel in a table's cell: nobody sees more, combining marks included
    if newlines != "show":
        text = text.replace("\r\n", "\n").expandtabs(4) if newlines == "keep" else re.sub("\r\n|[\n\t]", " ", text)
    safe = UNSAFE.sub(lambda match: "\n" if match[0] == "\n" and newlines == "keep" else visible(match[0]), text)
    if limit is not None and cell_len(safe) > limit:
        safe = set_cell_size(safe, limit - 1) + "…" if limit > 0 else ""
    return safe


def visible(character: str) -> str:
    """The sign that stands for a character that would act or not be seen: ␛ for ESC, ␡ for DEL, `‹9b›` for a C1, `‹202e›` for a bidi override."""
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"‹{code:02x}›"
