"""Lay out tokens in lines of cells, so that each token can be coloured and pointed at.

A word that consists of several tokens stays on one line. Every token has at least one cell: one
that adds no character is shown as `‥`, a line break as `↵`, a lone accent on `◌`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.cells import cell_len

from rnnlm_tui.schema.formatting import safe
from rnnlm_tui.tui.text import graphemes

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
_PIECES = re.compile(r"\n|[^\S\n]+|\S+")
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
    lines: list[list[TokenCells]] = field(default_factory=lambda: [[]])
    places: list[tuple[int, int]] = field(default_factory=list)
    """For each token: its line and the column of its first coloured cell."""

    def line_of(self, token: int) -> int:
        """Return the line of a token's first cell; 0 if there is no such token."""
        return self.places[token][0] if 0 <= token < len(self.places) else 0

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
        step = 1 if by > 0 else -1
        target = max(0, min(len(self.lines) - 1, line + by))
        while 0 <= target < len(self.lines):
            found = self.token_at(target, column)
            if found is not None:
                return found
            target += step
        return token


def lay_out(texts: Sequence[str], width: int) -> TokenLines:
    """Wrap the tokens to `width` cells.

    Args:
        texts: what each token adds to the text.
    """
    layout = _Layout(max(1, width))
    before = ""
    for token, text in enumerate(texts):
        shown = token_signs(text, first=token == 0)
        if before and ord(shown[0]) >= COMBINING and _is_one(before, shown):
            # apart, or the terminal would draw both in the cells of one
            shown = (CIRCLE if not cell_len(shown[0]) else PART) + shown
        layout.add(token, shown)
        before = "" if shown[-1] in " \n" else shown[-8:]
    layout.flush()
    return layout.result


def _is_one(before: str, after: str) -> bool:
    """Whether the end of one token and the start of the next are one character as displayed."""
    signs = list(graphemes(before))
    return len(list(graphemes(before + after[0]))) == len(signs)


class _Layout:
    """The state of a layout in progress."""

    def __init__(self, width: int) -> None:
        self.result = TokenLines(width)
        self._width = width
        self._used = 0
        self._word: list[tuple[int, str, int]] = []
        """The unfinished word: token, text and cells of each part."""
        self._word_cells = 0

    def add(self, token: int, shown: str) -> None:
        """Add a token's text."""
        spaces_only = not shown.strip() and "\n" not in shown
        for piece in _PIECES.findall(shown):
            if piece == "\n":
                self._append(token, BREAK, 1)
                self.flush()
                self._new_line()
            elif piece.isspace():
                self.flush()
                self._space(token, piece, blank=not spaces_only)
            else:
                cells = len(piece) if piece.isascii() else cell_len(piece)
                if cells > len(piece) and self._word:
                    self.flush()  # wide signs have no spaces between words
                self._append(token, piece, cells)
                if cells > len(piece):
                    self.flush()

    def flush(self) -> None:
        """Place the unfinished word: on this line, the next one, or over several if it is long."""
        if not self._word:
            return
        if (
            self._used
            and self._used + self._word_cells > self._width
            and (self._word_cells <= self._width)
        ):
            self._new_line()
        for token, text, cells in self._word:
            if self._used + cells <= self._width:
                self._put(token, text, cells)
            else:
                self._split(token, text)
        self._word, self._word_cells = [], 0

    def _append(self, token: int, text: str, cells: int) -> None:
        self._word.append((token, text, cells))
        self._word_cells += cells

    def _space(self, token: int, text: str, *, blank: bool) -> None:
        """Place spaces; at the end of a line those that aren't a whole token are dropped."""
        for sign, cells in graphemes(text):
            if self._used + cells > self._width:
                if blank:
                    return
                self._new_line()
            self._put(token, sign, cells, blank=blank)

    def _split(self, token: int, text: str) -> None:
        part, cells = "", 0
        for sign, size in graphemes(text):
            if self._used + cells + size > self._width and self._used + cells:
                if part:
                    self._put(token, part, cells)
                self._new_line()
                part, cells = "", 0
            part += sign
            cells += size
        self._put(token, part, cells)

    def _put(self, token: int, text: str, cells: int, *, blank: bool = False) -> None:
        line = self.result.lines[-1]
        last = line[-1] if line else None
        if last is not None and last.token == token and last.blank == blank:
            line[-1] = TokenCells(token, last.column, last.width + cells, last.text + text, blank)
        else:
            line.append(TokenCells(token, self._used, cells, text, blank))
        if not blank and token == len(self.result.places):
            self.result.places.append((len(self.result.lines) - 1, self._used))
        self._used += cells

    def _new_line(self) -> None:
        self.result.lines.append([])
        self._used = 0
