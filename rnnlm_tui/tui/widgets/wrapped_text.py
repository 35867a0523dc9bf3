"""Text that grows at its end, wrapped without starting over."""

from __future__ import annotations

import re

from rich.cells import cell_len

from rnnlm_tui.tui.widgets.content import graphemes

_WORD = re.compile(r"\n|[^\S\n]*[^\s]+|[^\S\n]+")


class WrappedText:
    """Wrapped text; appending costs only the last line and the new text."""

    def __init__(self, width: int, text: str = "") -> None:
        self.width = max(1, width)
        self.text = ""
        self.starts: list[int] = [0]
        """Start of each line in `text`."""
        self.append(text)

    def append(self, text: str) -> None:
        """Append text; only the last line may move."""
        if text:
            self.text += text
            last = self.starts.pop()
            self.starts += _line_starts(self.text, last, self.width)

    def fit(self, width: int) -> None:
        """Wrap to another width."""
        if width != self.width:
            self.width = max(1, width)
            self.starts = _line_starts(self.text, 0, self.width)

    def __len__(self) -> int:
        return len(self.starts)

    def span(self, line: int) -> tuple[int, int]:
        """Return start and end of a line in `text`, without the white space at the break."""
        start = self.starts[line]
        end = self.starts[line + 1] if line + 1 < len(self.starts) else len(self.text)
        broken = line + 1 < len(self.starts)
        return start, start + len(self.text[start:end].rstrip() if broken else self.text[start:end].rstrip("\n"))


def _line_starts(text: str, start: int, width: int) -> list[int]:
    starts, used, at = [start], 0, start
    for match in _WORD.finditer(text, start):
        word = match[0]
        if word == "\n":
            at = match.end()
            starts.append(at)
            used = 0
            continue
        cells = cell_len(word)
        if used + cells <= width:
            used += cells
            continue
        bare = word.lstrip()
        if not bare:
            used = width
            continue
        at = match.end() - len(bare)
        if used or len(word) - len(bare) >= width:
            starts.append(at)
            used = 0
        else:
            used = len(word) - len(bare)
        for sign, size in graphemes(bare):
            if used + size > width and used:
                starts.append(at)
                used = 0
            used += size
            at += len(sign)
    return starts
