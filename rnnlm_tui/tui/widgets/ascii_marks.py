"""For terminals without Unicode: every sign of our own as the nearest character of ASCII, just before it is drawn."""

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
"""One cell for one cell, so that nothing moves; a scroll bar's broken ends are left out."""


class AsciiMarks(LineFilter):
    """Put among an app's line filters. Letters of texts stay what they are."""

    def __init__(self) -> None:
        super().__init__()
        self._table = str.maketrans(SIGNS)

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 (Textual's)
        """The same segments with other signs; what is cut ends with three dots where there is room for them, else with `~`: one dot would end a sentence."""
        return [segment if segment.text.isascii() else Segment(self._signs(segment.text), segment.style, segment.control) for segment in segments]

    def _signs(self, text: str) -> str:
        return text.replace("…   ", "... ").translate(self._table)
