"""Bars that are lines and readable without colour: `━` own, `╍` others, `─` free."""

from __future__ import annotations

import math

from textual.content import Content

from rnnlm_tui.tui.widgets.palette import BORDER, DIM, THIRD, TRAIN

OWN, OTHERS, FREE = "━", "╍", "─"
ASCII_SIGNS = ("=", "~", "-")


def bar(width: int, fraction: float | None, others: float = 0.0, *, colour: str = TRAIN, others_colour: str = THIRD, ascii: bool = False) -> Content:
    """`width` cells: `fraction` of them own, `others` of them others', the rest free; what is more than nothing gets a cell, and only the whole fills all.

    `fraction` None (not known) or NaN is an empty bar.
    """
    own, other, free = ASCII_SIGNS if ascii else (OWN, OTHERS, FREE)
    first = cells(width, fraction)
    both = max(first + (1 if others > 0 and first < width else 0), cells(width, (fraction or 0.0) + others)) if others > 0 else first
    return Content.assemble((own * first, colour), (other * (both - first), others_colour), (free * (width - both), BORDER if not ascii else DIM))


def cells(width: int, fraction: float | None) -> int:
    """How many of `width` cells stand for `fraction`: 0 only for nothing, all only for everything (half a cell's worth of rounding apart)."""
    if fraction is None or not math.isfinite(fraction) or fraction <= 0 or width <= 0:
        return 0
    if fraction >= 1:
        return width
    return min(max(round(width * fraction), 1), width - 1) if width > 1 else 0
