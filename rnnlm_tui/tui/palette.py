"""The colours of all screens, all from xterm's 256, and the glyph and word of every status."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from rich.style import Style

if TYPE_CHECKING:
    from rnnlm_tui.schema.status import RunStatus

BACKGROUND = "#121212"
FIELD = "#262626"
SELECTED = "#303030"
BORDER = "#444444"
FOCUS = "#5fd7ff"
BRIGHT = "#ffffff"
"""Values; labels are DIM, running text is TEXT."""
NEARLY_BRIGHT = "#eeeeee"
"""Text typed by the user."""
TEXT = "#d0d0d0"
LABEL = "#a8a8a8"
"""Names of fields in a form."""
DIM = "#808080"
FAINT = "#626262"
"""Remarks between texts."""
GREY = "#4e4e4e"
"""Text below an overlay, and uncoloured bands; a blend would not be one of the 256."""
TRAIN = "#5fd7ff"
RAW = "#005f87"
"""Raw points under a smoothed curve of colour TRAIN; see `band_of` for the others."""
VALIDATION = "#ffaf5f"
THIRD = "#d787ff"
BASELINE = "#8a8a8a"
GOOD = "#87d787"
WARN = "#ffd75f"
BAD = "#ff5f5f"
MARK_COLOURS = (TRAIN, THIRD, GOOD, "#ff87af", "#5f87ff", WARN, "#00af87", "#d7af87")
"""Colours of the marked runs A to H; VALIDATION is left out, since it marks the best value."""
SIDE_BANDS = (
    ("#005f5f", "#008787", "#0087af"),
    ("#5f005f", "#870087", "#af5faf"),
    ("#005f00", "#008700", "#5f875f"),
    ("#5f0000", "#870000", "#af5f5f"),
)
"""Backgrounds of text that side A, B, C or D predicts better: by a little, more, a lot."""

SURPRISE_BITS = (2.0, 4.0, 5.0, 6.0, 7.0)
"""Surprise in bits from which a token gets each colour of SURPRISE."""
SURPRISE = (SELECTED, "#5f5f00", "#875f00", "#af5f00", "#d75f00")
"""Backgrounds of tokens by surprise; below the first step a token has none."""
DIVERGING = (
    FOCUS, "#00afd7", "#0087af", RAW, FIELD, "#875f00", "#af5f00", "#d78700", VALIDATION
)  # fmt: skip
"""Activations from the most negative to the most positive; the one in the middle is near 0."""

STATUS_GLYPHS: dict[RunStatus, tuple[str, str]] = {
    "running": ("●", TRAIN),
    "paused": ("‖", WARN),
    "preparing": ("◐", TRAIN),
    "finished": ("✓", GOOD),
    "failed": ("✗", BAD),
    "stopped": ("■", DIM),
    "crashed": ("!", BAD),
    "stalled": ("◌", WARN),
    "degraded": ("◍", WARN),
    "draft": ("○", DIM),
    "lost": ("?", WARN),
}
"""Status to glyph and colour, in the order in which the help lists them."""

STATUS_WORDS: dict[RunStatus, str] = {
    status: "lost contact" if status == "lost" else status for status in STATUS_GLYPHS
}


def band_of(colour: str) -> str:
    """Return the dim colour of the raw points under a curve of `colour`."""
    return {
        TRAIN: RAW,
        VALIDATION: "#875f00",
        THIRD: "#5f5f87",
        GOOD: "#005f00",
        WARN: "#5f5f00",
        BAD: "#5f0000",
    }.get(colour, GREY)


def surprise_step(bits: float | None) -> int:
    """Return how many of the steps in SURPRISE_BITS a surprise reaches: 0 to 5."""
    return 0 if bits is None else sum(bits >= least for least in SURPRISE_BITS)


def diverging(value: float, scale: float) -> str:
    """Return the colour of a value between -`scale` and `scale`; beyond them, that of the end."""
    share = max(-1.0, min(1.0, value / scale)) if scale > 0 else 0.0
    return DIVERGING[min(int((share + 1) / 2 * len(DIVERGING)), len(DIVERGING) - 1)]


@lru_cache(maxsize=512)
def ink(colour: str, *, bold: bool = False, background: str | None = None) -> Style:
    """Return a cached Rich style.

    Every Segment and Strip needs a style: with NO_COLOR set, Textual fails on None.
    """
    return Style(color=colour, bgcolor=background, bold=bold, reverse=False)
