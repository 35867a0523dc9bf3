"""Bars are readable without colour."""

from __future__ import annotations

import pytest

from rnnlm_tui.tui.widgets.bars import bar, cells, progress_line


def test_own_others_and_free_have_their_own_signs() -> None:
    assert bar(10, 0.3, 0.2).plain == "━━━╍╍─────"
    assert bar(10, 0.3, 0.2, ascii=True).plain == "===~~-----"


@pytest.mark.parametrize(("fraction", "filled"), [(0.0, 0), (None, 0), (float("nan"), 0), (0.001, 1), (0.5, 5), (0.999, 9), (1.0, 10), (7.0, 10), (-1.0, 0)])
def test_something_gets_a_cell_and_only_the_whole_fills_all(fraction: float | None, filled: int) -> None:
    assert cells(10, fraction) == filled
    assert bar(10, fraction).plain == "━" * filled + "─" * (10 - filled)


def test_little_of_others_is_seen_and_the_width_is_kept() -> None:
    assert bar(12, 0.03, 0.01).plain == "━╍──────────"
    for width in range(15):
        assert bar(width, 0.4, 0.8).cell_length == width


def test_progress_ends_with_the_time_left_at_the_right_edge() -> None:
    line = progress_line(78, 3751, 4754, 24, 3).plain
    assert line.startswith("step 3,751 / 4,754  ━━━")
    assert line.endswith("─  79 %   24 s left ±3")
    assert len(line) == 78


def test_progress_gives_up_its_bar_then_its_step() -> None:
    assert (
        progress_line(44, 3751, 4754, 24, 3).plain == "step 3,751 / 4,754    79 %   24 s left ±3".rjust(44)
        or len(progress_line(44, 3751, 4754, 24, 3).plain) == 44
    )
    assert "━" not in progress_line(44, 3751, 4754, 24, 3).plain
    assert progress_line(20, 3751, 4754, 24, 3).plain.startswith("79 %")
    assert len(progress_line(10, 3751, 4754, 24, 3).plain) == 10
    assert progress_line(0, 1, 2).plain == ""


def test_progress_without_a_known_end_tells_the_step() -> None:
    assert progress_line(60, 12, None).plain.startswith("step 12  ──")


def test_trouble_says_so_without_colour() -> None:
    assert "◌ time left unknown" in progress_line(78, 3751, 4754, trouble=True).plain
    assert progress_line(78, 3751, 4754, trouble=True, ascii=True).plain.isascii()
