"""Frames: edges, and repainting only what changed."""

from __future__ import annotations

import pytest
from textual.app import App, ComposeResult
from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip

from rnnlm_tui.tui.palette import BORDER, TEXT
from rnnlm_tui.tui.widgets.panel import (
    Panel,
    ScrolledPanel,
    bottom_edge,
    padded,
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


class Numbers(Panel):
    """Shows some numbers."""

    numbers = ("one", "two", "three")

    def content_line(self, y: int, width: int) -> Strip:
        return padded(segments_of(self.numbers[y] if y < len(self.numbers) else "", TEXT), width)


class Shown(App[None]):
    def compose(self) -> ComposeResult:
        yield Numbers(title="Numbers, all", legend="3")


def shown(app: App[None]) -> list[str]:
    return [strip.text for strip in app.screen._compositor.render_strips()]


async def test_a_panel_draws_its_frame_and_repaints_only_changed_rows() -> None:
    app = Shown()
    async with app.run_test(size=(30, 7)) as pilot:
        panel = app.query_one(Numbers)
        assert shown(app)[0] == "╭─ Numbers, all ───────── 3 ─╮"
        assert shown(app)[1] == "│ one                        │"
        panel.bottom = "below"
        await pilot.pause()
        assert shown(app)[6] == "╰─ below ────────────────────╯"
        panel.panel_title = "a\x1b]52;c\x07b\u202ec\nd"
        await pilot.pause()
        assert shown(app)[0].startswith("╭─ a␛]52;c␇b‹202e›c d ─")
        with pytest.MonkeyPatch.context() as patch:
            asked: list[tuple[Region, ...]] = []
            patch.setattr(panel, "refresh", lambda *regions, **_: asked.append(regions))
            panel.redraw()
            assert asked == []
            panel.numbers = ("one", "2", "three")
            panel.redraw()
            panel.legend = "4"
        assert asked == [(Region(0, 2, 30, 1),), (Region(0, 0, 30, 1),)]
        for size in (1, 3):
            await pilot.resize_terminal(size, size)
            await pilot.pause()
        assert len(shown(app)) == 3


def test_a_panel_scrolls_through_all_of_its_lines() -> None:
    panel = ScrolledPanel()
    panel.lines = [Content("one"), Content("two"), Content("three")]
    panel.show_from(9)
    assert (panel.row_count, panel.top) == (3, 2)
