"""Lay out tokens in lines of cells, so that each token can be coloured and pointed at.

A word that consists of several tokens stays on one line. Every token has at least one cell: one
that adds no character is shown as `‥`, a line break as `↵`, a lone accent on `◌`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from rich.cells import cell_len

from rnnlm_tui.schema.formatting import safe
from rnnlm_tui.tui.text import WrappedText, graphemes

PART = "‥"
"""A token that is only a part of a character."""
START = "▸"
"""The end token that a text starts from."""
BREAK = "↵"
TAB = "→"
CIRCLE = "◌"
"""Carries an accent whose letter belongs to another token."""
COMBINING = 0x300
"""First character that may share a cell with the one before it."""
SPACE = "\ufdd0"
"""Stands for a space of a token that is nothing else: it never vanishes at the end of a line.
Unicode assigns no character to it."""
_BLANKS = re.compile(r"\s+|\S+")
_JOINERS = "\u200c\u200d\ufe00-\ufe0f"
_LEADING, _TRAILING = re.compile(f"^[{_JOINERS}]+"), re.compile("[\u200c\u200d]+$")


def token_signs(text: str, *, first: bool = False) -> str:
    """Return a token's text as it is drawn; `\\n` stays, for the line break."""
    if text.isascii() and text.isprintable() and text:
        return text
    shown = safe(text.replace("\t", TAB).replace("\r\n", "\n"), keep="\n")
    shown = _TRAILING.sub("", _LEADING.sub("", shown))
    if not shown:
        return START if first and not text else PART
    return shown if cell_len(shown) or "\n" in shown else CIRCLE + shown


def token_label(text: str) -> str:
    """Return a token's text in one line, with visible line breaks, for a table."""
    shown = token_signs(text).replace("\n", BREAK)
    return shown if shown.strip() else "·" * len(shown)


class TokenCells(NamedTuple):
    """Neighbouring cells of one token."""

    token: int
    column: int
    width: int
    text: str
    blank: bool
    """Spaces around a token's word, which aren't coloured."""


@dataclass(slots=True)
class TokenLines:
    """The lines of a text."""

    width: int
    lines: list[list[TokenCells]] = field(default_factory=list)
    places: list[tuple[int, int]] = field(default_factory=list)
    """For each token: its line and the column of its first coloured cell."""

    def token_at(self, line: int, column: int) -> int | None:
        """Return the token at a cell, or the nearest one on its line; None on an empty line."""
        runs = self.lines[line] if 0 <= line < len(self.lines) else []
        if not runs:
            return None
        return runs[max(0, bisect_right(runs, column, key=lambda run: run.column) - 1)].token

    def vertical(self, token: int, by: int) -> int:
        """Return the token `by` lines below, at about the same column."""
        if not self.places:
            return 0
        line, column = self.places[token]
        found = self.token_at(max(0, min(len(self.lines) - 1, line + by)), column)
        return token if found is None else found


def lay_out(texts: Sequence[str], width: int) -> TokenLines:
    """Wrap the tokens to `width` cells.

    Args:
        texts: what each token adds to the text.
    """
    pieces, before = [], ""
    for token, text in enumerate(texts):
        shown = token_signs(text, first=token == 0)
        if before and ord(shown[0]) >= COMBINING and _is_one(before, shown):
            # apart, or the terminal would draw both in the cells of one
            shown = (CIRCLE if not cell_len(shown[0]) else PART) + shown
        before = "" if shown[-1] in " \n" else shown[-8:]
        if shown.isspace() and "\n" not in shown:
            shown = SPACE * len(shown)
        pieces.append(shown.replace("\n", f"{BREAK}\n"))
    wrapped = WrappedText(width, "".join(pieces))
    result, starts, token = TokenLines(max(1, width)), [0, *accumulate(map(len, pieces))], 0
    for number in range(len(wrapped)):
        start, end = wrapped.span(number)
        runs: list[TokenCells] = []
        column = 0
        while token < len(pieces) and starts[token] < max(end, start + 1):
            part = wrapped.text[max(start, starts[token]) : min(end, starts[token + 1])]
            for piece in _BLANKS.findall(part):
                cells, blank = cell_len(piece), piece.isspace()
                if not blank and token == len(result.places):
                    result.places.append((number, column))
                runs.append(TokenCells(token, column, cells, piece.replace(SPACE, " "), blank))
                column += cells
            if starts[token + 1] > end:
                break
            token += 1
        result.lines.append(runs)
    return result


def _is_one(before: str, after: str) -> bool:
    """Whether the end of one token and the start of the next are one character as displayed."""
    signs = list(graphemes(before))
    return len(list(graphemes(before + after[0]))) == len(signs)
