"""Where everything of the compare screen stands: the chart over the tables, and with room for it the other charts beside it."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Region, Size

from rnnlm_tui.tui.widgets.train_layout import CHART_LEAST, FULL, Places

CHART_SHARE = 3 / 7
"""The part of the rows that the tables leave the chart at least."""
TABLE_LEAST = 4
"""Rows of a table that still says something."""


def compare_arrangement(size: Size, charts: Sequence[str], chosen: str, lines: int, *, alone: bool = False) -> Places:
    """The places for a body of this size.

    Args:
        charts: ids of all charts, in order.
        chosen: the one that has the most room.
        lines: of the tables.
        alone: the chosen chart has all of it.
    """
    width, height = size
    if alone:
        return {chosen: Region(0, 0, width, height)}
    tables = min(lines + 2, height - max(CHART_LEAST, round(height * CHART_SHARE)))
    if tables < TABLE_LEAST:
        return {chosen: Region(0, 0, width, height)}
    if width >= FULL.width and height >= FULL.height:
        return _full(size, charts, chosen, min(tables, height - 4 * CHART_LEAST))
    return {chosen: Region(0, 0, width, height - tables), "compared-runs": Region(0, height - tables, width, tables)}


def _full(size: Size, charts: Sequence[str], chosen: str, tables: int) -> Places:
    """The chosen chart at the left, the others in a column beside it."""
    width, height = size
    main = height - tables
    others = [name for name in charts if name != chosen][: max(1, main // CHART_LEAST)]
    left = width * 2 // 3
    places = {chosen: Region(0, 0, left, main), "compared-runs": Region(0, main, width, tables)}
    for index, name in enumerate(others):
        top, end = main * index // len(others), main * (index + 1) // len(others)
        places[name] = Region(left, top, width - left, end - top)
    return places
