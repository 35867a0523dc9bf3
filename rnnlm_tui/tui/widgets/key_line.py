"""The keys of an overlay, shown in the bottom edge of its panel."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from rnnlm_tui.tui.widgets import palette


def key_line(keys: Sequence[tuple[str, str]], width: int) -> Content:
    """Return `↑ ↓ scroll  esc close` for `width` cells; keys before the last are dropped first."""
    items = [Content.assemble((key, f"bold {palette.TEXT}"), (f" {word}", palette.DIM)) for key, word in keys]
    while len(items) > 1 and sum(item.cell_length + 2 for item in items) - 2 > width - 6:
        del items[-2]
    return Content("  ").join(items)
