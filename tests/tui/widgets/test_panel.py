"""Frames: edges, and repainting only what changed."""

from __future__ import annotations

from rnnlm_tui.tui.palette import BORDER
from rnnlm_tui.tui.widgets.panel import (
    bottom_edge,
    segments_of,
    top_edge,
)


def top(width: int, title: str, legend: str) -> str:
    strip = top_edge(width, segments_of(title), segments_of(legend), BORDER)
    assert strip.cell_length == len(strip.text) == width
    return strip.text


def bottom(width: int, *labels: tuple[int, str]) -> str:
    strip = bottom_edge(width, [(column, segments_of(text)) for column, text in labels], BORDER)
    assert strip.cell_length == len(strip.text) == width
    return strip.text


def test_a_legend_that_does_not_fit_is_dropped_and_a_long_title_is_cut() -> None:
    assert top(19, "Loss", "━ 3.93") == "╭─ Loss ─ ━ 3.93 ─╮"
    assert top(18, "Loss", "━ 3.93") == "╭─ Loss ─────────╮"
    assert top(20, "", "3.93") == "╭─────────── 3.93 ─╮"
    assert top(12, "Perplexity", "") == "╭─ Perpl… ─╮"
    for width in range(12):
        top(width, "Perplexity", "legend")


def test_bottom_edge_leaves_out_labels_that_touch() -> None:
    assert bottom(20, (6, "0"), (16, "x")) == "╰──── 0 ─────── x ─╯"
    assert bottom(20, (6, "100"), (8, "200"), (14, "300")) == "╰──── 100 ─── 300 ─╯"
    assert bottom(12, (1, "a"), (9, "long")) == "╰──────────╯"
