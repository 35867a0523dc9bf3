"""The one door for text from outside (prompts, generated text, corpora, names, paths, exceptions, logs): nothing in it can act on the terminal.

Textual passes ESC, OSC and DCS through to the terminal, and `[@click=…]` in a plain string is markup; here both become visible characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from rich.cells import cell_len, set_cell_size, split_graphemes
from textual.content import Content

from rnnlm_tui.contract.outside_text import safe

Newlines = Literal["keep", "space", "show"]
"""What becomes of a line's end: a line's end, a space, or the sign ␊. Tabs go the same way: four spaces, one space, the sign ␉."""


def safe_content(text: str, *, limit: int | None = None, newlines: Newlines = "keep") -> Content:
    """`text` as Content without markup, with everything that could act on a terminal made visible; at most `limit` cells, the last of them `…` when cut."""
    return Content(safe_text(text, limit=limit, newlines=newlines))


def safe_text(text: str, *, limit: int | None = None, newlines: Newlines = "keep") -> str:
    """The same as a string, for widgets that take no Content; still to be passed with `markup=False`."""
    if limit is not None and len(text) > 4 * limit + 64:
        text = text[: 4 * limit + 64]  # a novel in a table's cell: nobody sees more, combining marks included
    if newlines != "show":
        text = text.replace("\r\n", "\n").expandtabs(4) if newlines == "keep" else re.sub("\r\n|[\n\t]", " ", text)
    shown = safe(text, keep="\n" if newlines == "keep" else "")
    if limit is not None and cell_len(shown) > limit:
        shown = set_cell_size(shown, limit - 1) + "…" if limit > 0 else ""
    return shown


def graphemes(text: str) -> Iterator[tuple[str, int]]:
    """The signs of a text as a terminal shows them, each with its cells: joined emoji, flags and combining marks are one sign."""
    if text.isascii():
        yield from ((sign, 1) for sign in text)
        return
    for first, last, width in split_graphemes(text)[0]:
        yield text[first:last], width
