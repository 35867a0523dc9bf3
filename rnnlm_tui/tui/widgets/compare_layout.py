"""Layout of the compare screen: the chart above the tables, other charts beside it if there is
room.
"""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Region, Size

from rnnlm_tui.tui.widgets.train_layout import CHART_LEAST, FULL, Places

CHART_SHARE = 3 / 7
"""Share of the rows that the tables leave to the chart at least."""
TABLE_LEAST = 4
"""Fewest rows of a useful table."""


def compare_arrangement(size: Size, charts: Sequence[str], chosen: str, lines: int, *, alone: bool = False) -> Places:
    """Return the regions for a body of this size.

    Args:
        charts: ids of all charts, in order.
        chosen: the chart with the most room.
        lines: the tables' lines.
        alone: give the chosen chart all of the room.
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
    """Place the chosen chart at the left, the others in a column beside it."""
    width, height = size
    main = height - tables
    others = [name for name in charts if name != chosen][: max(1, main // CHART_LEAST)]
    left = width * 2 // 3
    places = {chosen: Region(0, 0, left, main), "compared-runs": Region(0, main, width, tables)}
    for index, name in enumerate(others):
        top, end = main * index // len(others), main * (index + 1) // len(others)
        places[name] = Region(left, top, width - left, end - top)
    return places
