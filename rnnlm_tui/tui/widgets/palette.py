"""The colours of all screens, each exactly one of the 256 of xterm, and the glyph and word of every status."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from rich.style import Style

if TYPE_CHECKING:
    from rnnlm_tui.contract.status import RunStatus

BACKGROUND = "#121212"
FIELD = "#262626"
SELECTED = "#303030"
BORDER = "#444444"
FOCUS = "#5fd7ff"
BRIGHT = "#ffffff"
"""Values; labels are DIM, running text is TEXT."""
NEARLY_BRIGHT = "#eeeeee"
"""What a person types."""
TEXT = "#d0d0d0"
LABEL = "#a8a8a8"
"""Names of fields in a form."""
DIM = "#808080"
FAINT = "#626262"
"""What is said about a text, between texts."""
GREY = "#4e4e4e"
"""What lies below an overlay, and bands of no colour of their own: one of the 256, for a blend would fall beside them."""
TRAIN = "#5fd7ff"
RAW = "#005f87"
"""The band of raw points under a smoothed curve of colour TRAIN; `band_of` gives the band of the others."""
VALIDATION = "#ffaf5f"
THIRD = "#d787ff"
BASELINE = "#8a8a8a"
GOOD = "#87d787"
WARN = "#ffd75f"
BAD = "#ff5f5f"
MARK_COLOURS = (TRAIN, THIRD, GOOD, "#ff87af", "#5f87ff", WARN, "#00af87", "#d7af87")
"""Of the runs that are marked to compare, by letter: A to H; VALIDATION is not among them, since it marks the best figure in their table."""

STATUS_GLYPHS: dict[RunStatus, tuple[str, str, str]] = {
    "draft": ("○", "o", DIM),
    "preparing": ("◐", "%", TRAIN),
    "running": ("●", "*", TRAIN),
    "paused": ("‖", "=", WARN),
    "stopped": ("■", "-", DIM),
    "finished": ("✓", "+", GOOD),
    "failed": ("✗", "x", BAD),
    "crashed": ("!", "!", BAD),
    "stalled": ("◌", "~", WARN),
    "degraded": ("◍", "&", WARN),
    "lost": ("?", "?", WARN),
}
"""Status → glyph, glyph in ASCII, colour."""

STATUS_WORDS: dict[RunStatus, str] = {status: "lost contact" if status == "lost" else status for status in STATUS_GLYPHS}


def glyph(status: RunStatus, ascii: bool = False) -> tuple[str, str]:
    """The sign of a status and its colour."""
    sign, plain, colour = STATUS_GLYPHS[status]
    return (plain if ascii else sign), colour


def word_colour(status: RunStatus) -> str:
    """The colour of a status's word: only trouble is loud."""
    return BAD if status in ("failed", "crashed") else TEXT


def band_of(colour: str) -> str:
    """The dim colour of the raw points under a curve of `colour`."""
    return {TRAIN: RAW, VALIDATION: "#875f00", THIRD: "#5f5f87", GOOD: "#005f00", WARN: "#5f5f00", BAD: "#5f0000"}.get(colour, GREY)


@lru_cache(maxsize=512)
def ink(colour: str, *, bold: bool = False, reverse: bool = False, background: str | None = None) -> Style:
    """A Rich style, the same object for the same arguments. Every Segment and Strip needs one: with NO_COLOR set, Textual fails on a style of None."""
    return Style(color=colour, bgcolor=background, bold=bold, reverse=reverse)
