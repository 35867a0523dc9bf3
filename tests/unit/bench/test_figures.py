"""Quartiles, ratios within rounds, and the cores that others hold."""

from __future__ import annotations

import pytest

from rnnlm_tui.bench.report import Spread, ratio, spread


def test_quartiles_are_interpolated_and_one_value_is_its_own() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0]) == Spread(low=1.75, median=2.5, high=3.25)
    assert spread([7.0]) == Spread(low=7.0, median=7.0, high=7.0)


def test_slow_rounds_cancel_out_in_ratios() -> None:
    assert ratio([10.0, 1.0, 6.0], [5.0, 0.5, 3.0]).median == 2.0


def test_ratios_need_equally_many_turns() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0], [])
