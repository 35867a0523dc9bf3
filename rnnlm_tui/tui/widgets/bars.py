"""Bars that are lines and readable without colour: `━` own, `╍` others, `─` free."""

from __future__ import annotations

import math

from textual.content import Content

from rnnlm_tui.contract.figures import count, percent, time_left
from rnnlm_tui.tui.widgets.palette import BORDER, BRIGHT, DIM, FOCUS, THIRD, TRAIN, WARN

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


def progress_line(
    width: int,
    step: int,
    total: int | None,
    seconds_left: float | None = None,
    margin: float | None = None,
    *,
    unit: str = "step",
    trouble: bool = False,
    ascii: bool = False,
) -> Content:
    """`step 3,751 / 4,754  ━━━━━────  79 %   24 s left ±3` in `width` cells: the time left, the one accent, ends at the right edge; `trouble` turns bar and time to the warning colour."""
    accent = WARN if trouble else FOCUS
    fraction = step / total if total else None
    left, around = time_left(seconds_left, margin)
    if trouble:
        left = f"{'~' if ascii else '◌'} {left}"
    head = Content.assemble((f"{unit} ", DIM), (count(step), f"bold {BRIGHT}"), (f" / {count(total)}" if total else "", DIM))
    share, sign = percent(fraction).rpartition(" ")[::2] if total else ("", "")
    tail = Content.assemble((share, f"bold {BRIGHT}"), (f" {sign}   " if share else "", DIM), (left, f"bold {accent}"), (f" {around}" if around else "", DIM))
    room = width - head.cell_length - tail.cell_length - 4
    if room >= 4:
        return Content.assemble(head, "  ", bar(room, fraction, colour=accent, ascii=ascii), "  ", tail)
    gap = width - head.cell_length - tail.cell_length
    return Content.assemble(head, " " * gap, tail) if gap > 0 else tail.truncate(width, ellipsis=True) if width else Content("")


def cells(width: int, fraction: float | None) -> int:
    """How many of `width` cells stand for `fraction`: 0 only for nothing, all only for everything (half a cell's worth of rounding apart)."""
    if fraction is None or not math.isfinite(fraction) or fraction <= 0 or width <= 0:
        return 0
    if fraction >= 1:
        return width
    return min(max(round(width * fraction), 1), width - 1) if width > 1 else 0
