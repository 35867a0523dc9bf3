"""For terminals without Unicode: every sign of our own as the nearest character of ASCII, just before it is drawn."""

from __future__ import annotations

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

SIGNS: dict[str, str] = {
    "›": ">", "●": "*", "○": "o", "◌": "~", "◐": "%", "‖": "=", "✓": "+", "✗": "x", "■": "-", "▾": "v", "★": "*", "▸": ">", "⚑": "#", "↻": "r",
    "⇧": "^", "▌": "|", "█": "_", "━": "=", "╍": "~", "─": "-", "│": "|", "╭": "+", "╮": "+", "╰": "+", "╯": "+", "…": ".", "·": ".", "–": "-", "−": "-",
    "≈": "~", "×": "x", "±": "+", "Δ": "d", "→": ">", "←": "<", "↑": "^", "↓": "v", "▼": "v", "▲": "^", "¶": "|", "°": " ",
    "▁": " ", "▂": " ", "▃": " ", "▄": " ", "▅": " ", "▆": " ", "▇": " ",
}  # fmt: skip
"""One cell for one cell, so that nothing moves; a scroll bar's broken ends are left out."""


class AsciiMarks(LineFilter):
    """Put among an app's line filters. Letters of texts stay what they are."""

    def __init__(self) -> None:
        super().__init__()
        self._table = str.maketrans(SIGNS)

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 (Textual's)
        """The same segments with other signs."""
        return [segment if segment.text.isascii() else Segment(segment.text.translate(self._table), segment.style, segment.control) for segment in segments]
