"""Make untrusted text safe to draw: prompts, generated text, corpora, names, paths, logs.

Textual passes ESC, OSC and DCS through to the terminal and reads `[@click=…]` in a plain string
as markup. Here both become visible characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from rich.cells import cell_len, set_cell_size, split_graphemes
from textual.content import Content

from rnnlm_tui.contract.outside_text import safe

Newlines = Literal["keep", "space", "show"]
"""Line breaks stay, become a space or become `␊`; tabs become four spaces, one space or `␉`."""


def safe_content(text: str, *, limit: int | None = None, newlines: Newlines = "keep") -> Content:
    """Return `text` as Content without markup, control characters visible, cut to `limit` cells."""
    return Content(safe_text(text, limit=limit, newlines=newlines))


def safe_text(text: str, *, limit: int | None = None, newlines: Newlines = "keep") -> str:
    """Return `text` sanitized as a string, for widgets that take no Content; pass `markup=False`
    too.
    """
    if limit is not None and len(text) > 4 * limit + 64:
        text = text[: 4 * limit + 64]  # bounds the work for a huge text, with room for combining marks
    if newlines != "show":
        text = text.replace("\r\n", "\n").expandtabs(4) if newlines == "keep" else re.sub("\r\n|[\n\t]", " ", text)
    shown = safe(text, keep="\n" if newlines == "keep" else "")
    if limit is not None and cell_len(shown) > limit:
        shown = set_cell_size(shown, limit - 1) + "…" if limit > 0 else ""
    return shown


def graphemes(text: str) -> Iterator[tuple[str, int]]:
    """Split a text into characters as displayed, each with its cells; joined emoji and flags are
    one.
    """
    if text.isascii():
        yield from ((sign, 1) for sign in text)
        return
    for first, last, width in split_graphemes(text)[0]:
        yield text[first:last], width
