"""The words and bars of a test of differences."""

from __future__ import annotations

import pytest

from rnnlm_tui.schema.significance import HALF_BAR
from tests.fakes.outcome import compared, outcome


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (
            (-0.05, -0.012),
            "B is better than A by 0.031 bits per byte, 95 % interval 0.012 to 0.050",
        ),
        ((0.012, 0.05), "A is better than B by 0.031 bits per byte, 95 % interval 0.012 to 0.050"),
        (
            (-0.01, 0.016),
            "no clear difference between A and B: +0.003 bits per byte,"
            " 95 % interval −0.010 to +0.016",
        ),
    ],
)
def test_a_verdict_says_which_is_better_and_by_how_much(
    ends: tuple[float, float], words: str
) -> None:
    done = outcome(compared("B", *ends), unit="bits per byte")
    assert done.verdict(done.models[1]) == words


def bar(low: float, high: float, most: float = 0.12) -> str:
    drawn = compared("B", low, high).bar(most)
    assert len(drawn) == 2 * HALF_BAR + 1
    return drawn.strip()


def test_a_bar_shows_on_which_side_of_zero_the_interval_is() -> None:
    assert bar(-0.08, -0.02) == "├──●──┤ │"
    assert bar(0.02, 0.08) == "│ ├──●──┤"
    assert bar(-0.02, 0.06) == "├─┼─●───┤"
    assert bar(-0.12, 0.12) == "├───────────●───────────┤"
    assert bar(0.0001, 0.0002) == "│●"  # not on zero, however small
    assert bar(0.0, 0.0) == "●"


def test_equal_models_have_lines_too() -> None:
    assert any("●" in line for line in outcome(compared("B", 0.0, 0.0)).lines())
