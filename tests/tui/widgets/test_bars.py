"""Progress bars are readable without colour."""

from __future__ import annotations

import math

from rnnlm_tui.tui.text import bar, cells


def test_any_share_gets_a_cell_and_only_a_full_share_fills_the_bar() -> None:
    for fraction, filled in (
        (0.0, 0), (None, 0), (math.nan, 0), (0.001, 1), (0.5, 5), (0.999, 9), (1.0, 10), (7.0, 10),
        (-1.0, 0),
    ):  # fmt: skip
        assert cells(10, fraction) == filled
        assert bar(10, fraction).plain == "━" * filled + "─" * (10 - filled)
