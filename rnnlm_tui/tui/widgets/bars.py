"""Progress bars drawn as lines, readable without colour: `━` own, `╍` others, `─` free."""

from __future__ import annotations

import math

from textual.content import Content

from rnnlm_tui.tui.widgets.palette import BORDER, DIM, THIRD, TRAIN

OWN, OTHERS, FREE = "━", "╍", "─"
ASCII_SIGNS = ("=", "~", "-")


def bar(width: int, fraction: float | None, others: float = 0.0, *, colour: str = TRAIN, others_colour: str = THIRD, ascii: bool = False) -> Content:
    """Draw a bar of `width` cells: `fraction` own, `others` used by others, the rest free.

    A share above 0 gets at least one cell, and only a full share fills all. A `fraction` of None
    (unknown) or NaN gives an empty bar.
    """
    own, other, free = ASCII_SIGNS if ascii else (OWN, OTHERS, FREE)
    first = cells(width, fraction)
    both = max(first + (1 if others > 0 and first < width else 0), cells(width, (fraction or 0.0) + others)) if others > 0 else first
    return Content.assemble((own * first, colour), (other * (both - first), others_colour), (free * (width - both), BORDER if not ascii else DIM))


def cells(width: int, fraction: float | None) -> int:
    """Return how many of `width` cells show `fraction`: 0 only for nothing, all only for
    everything.
    """
    if fraction is None or not math.isfinite(fraction) or fraction <= 0 or width <= 0:
        return 0
    if fraction >= 1:
        return width
    return min(max(round(width * fraction), 1), width - 1) if width > 1 else 0
