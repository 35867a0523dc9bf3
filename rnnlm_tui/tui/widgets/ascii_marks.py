"""Replace the app's symbols with ASCII just before drawing, for terminals without Unicode."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

SIGNS: dict[str, str] = {
    "›": ">", "●": "*", "○": "o", "◌": "~", "◐": "%", "‖": "=", "✓": "+", "✗": "x", "■": "-", "▾": "v", "★": "*", "▸": ">", "⚑": "#", "↻": "r",
    "⇧": "^", "▌": "|", "█": "_", "━": "=", "╍": "~", "─": "-", "│": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "…": "~", "·": ".", "–": "-", "−": "-",
    "≈": "~", "×": "x", "±": "+", "Δ": "d", "→": ">", "←": "<", "↑": "^", "↓": "v", "▼": "v", "▲": "^", "¶": "|", "°": " ", "↵": "$", "␍": "r",
    "▁": " ", "▂": " ", "▃": " ", "▄": " ", "▅": " ", "▆": " ", "▇": " ",
}  # fmt: skip
"""One cell for one cell, so nothing moves. The partial blocks at a scroll bar's ends become blanks.
"""


class AsciiMarks(LineFilter):
    """A line filter for the app; letters in texts are left alone."""

    def __init__(self) -> None:
        super().__init__()
        self._table = str.maketrans(SIGNS)

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 (Textual's)
        """Replace symbols in the segments.

        A cut text ends with three dots if there is room, otherwise with `~`: a single dot would
        look
        like the end of a sentence.
        """
        return [segment if segment.text.isascii() else Segment(self._signs(segment.text), segment.style, segment.control) for segment in segments]

    def _signs(self, text: str) -> str:
        return text.replace("…   ", "... ").translate(self._table)
