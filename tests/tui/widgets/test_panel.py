"""Frames: edges, focus, and repainting only what changed."""

from __future__ import annotations

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip
from textual.widgets import Button, Static

from rnnlm_tui.tui.palette import BORDER, FOCUS, TEXT, ink
from rnnlm_tui.tui.widgets.panel import (
    Panel,
    TitledContainer,
    bottom_edge,
    changed_spans,
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


def test_top_edge_holds_title_and_legend() -> None:
    assert top(24, "Loss", "━ 3.93") == "╭─ Loss ────── ━ 3.93 ─╮"
    assert top(20, "Loss", "") == "╭─ Loss ───────────╮"
    assert top(20, "", "3.93") == "╭─────────── 3.93 ─╮"
    assert top(8, "", "") == "╭──────╮"


def test_a_legend_that_does_not_fit_is_dropped_and_a_long_title_is_cut() -> None:
    assert top(17, "Loss", "━ 3.93") == "╭─ Loss ────────╮"
    assert top(19, "Loss", "━ 3.93") == "╭─ Loss ─ ━ 3.93 ─╮"
    assert top(18, "Loss", "━ 3.93") == "╭─ Loss ─────────╮"
    assert top(12, "Perplexity", "") == "╭─ Perpl… ─╮"
    for width in range(12):
        top(width, "Perplexity", "legend")


def test_bottom_edge_leaves_out_labels_that_touch() -> None:
    assert bottom(20, (6, "0"), (16, "x")) == "╰──── 0 ─────── x ─╯"
    assert bottom(20, (6, "100"), (8, "200"), (14, "300")) == "╰──── 100 ─── 300 ─╯"
    assert bottom(12, (1, "a"), (9, "long")) == "╰──────────╯"
    for width in range(8):
        bottom(width, (2, "a"), (5, "b"))


def test_padded_is_exactly_as_wide_as_asked() -> None:
    for text in ("", "ab", "abcdef", "日本語"):
        for width in (0, 1, 3, 5, 9):
            strip = padded(segments_of(text), width)
            assert strip.cell_length == width
            assert all(segment.style is not None for segment in strip)


def test_changed_spans_keep_wide_characters_whole() -> None:
    def spans(before: str, after: str, width: int = 8) -> list[tuple[int, int]]:
        return changed_spans(padded(segments_of(before), width), padded(segments_of(after), width))

    assert spans("abcdef", "abcdef") == []
    assert spans("abcdef", "abXYef") == [(2, 4)]
    assert spans("abcdef", "abcdeX") == [(5, 6)]
    assert spans("日本語", "日月語") == [(2, 4)]
    assert spans("ab日", "abcd") == [(2, 4)]
    assert spans("日本", "月") == [(0, 4)]
    assert changed_spans(
        padded(segments_of("ab", TEXT), 4), padded(segments_of("ab", FOCUS), 4)
    ) == [(0, 2)]
    assert changed_spans(padded(segments_of("ab"), 4), padded(segments_of("ab"), 6)) == [(0, 6)]


def test_distant_changes_are_separate_spans() -> None:
    before, after = "a" + " " * 40 + "b", "X" + " " * 40 + "Y"
    assert changed_spans(padded(segments_of(before), 42), padded(segments_of(after), 42)) == [
        (0, 1),
        (41, 42),
    ]


class Numbers(Panel):
    """Shows some numbers."""

    numbers = ("one", "two", "three")

    def content_line(self, y: int, width: int) -> Strip:
        return padded(segments_of(self.numbers[y] if y < len(self.numbers) else "", TEXT), width)


class Shown(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.panel = Numbers(title="Numbers, all", legend="3")
        self.box = TitledContainer(Button("press"), Static("text"), title="Box", legend="now")

    def compose(self) -> ComposeResult:
        with Vertical():
            yield self.panel
            yield self.box


def shown(app: App[None]) -> list[str]:
    return [strip.text for strip in app.screen._compositor.render_strips()]


async def test_panel_draws_frame_title_legend_and_lines() -> None:
    app = Shown()
    async with app.run_test(size=(30, 14)) as pilot:
        await pilot.pause()
        assert shown(app)[0] == "╭─ Numbers, all ───────── 3 ─╮"
        assert shown(app)[1] == "│ one                        │"
        assert shown(app)[6] == "╰────────────────────────────╯"
        app.panel.bottom = "below"
        await pilot.pause()
        assert shown(app)[6] == "╰─ below ────────────────────╯"


async def test_only_the_changed_cells_of_a_line_are_repainted() -> None:
    app = Shown()
    async with app.run_test(size=(30, 14)) as pilot:
        await pilot.pause()
        asked: list[tuple[Region, ...]] = []
        app.panel.refresh = lambda *regions, **_: asked.append(regions)  # type: ignore[assignment,method-assign]
        app.panel.redraw()
        assert asked == []
        app.panel.numbers = ("one", "2", "three")
        app.panel.redraw()
        app.panel.legend = "4"
        assert asked == [(Region(2, 2, 3, 1),), (Region(26, 0, 1, 1),)]


async def test_container_holds_widgets_in_the_same_frame_and_follows_the_focus() -> None:
    app = Shown()
    async with app.run_test(size=(30, 14)) as pilot:
        app.set_focus(None)
        await pilot.pause()
        assert shown(app)[7] == "╭─ Box ──────────────── now ─╮"
        assert "text" in "".join(shown(app)[8:])
        edge = app.screen._compositor.render_strips()[7]
        assert next(iter(edge)).style is not None
        assert getattr(next(iter(edge)).style, "color", None) == ink(BORDER).color
        app.query_one(Button).focus()
        await pilot.pause()
        edge = app.screen._compositor.render_strips()[7]
        assert getattr(next(iter(edge)).style, "color", None) == ink(FOCUS).color
        app.box.legend = Content("later")
        app.box.panel_title = "Other"
        await pilot.pause()
        assert shown(app)[7] == "╭─ Other ──────────── later ─╮"


async def test_no_color_draws_panels_and_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = Shown()
    async with app.run_test(size=(30, 14)) as pilot:
        app.query_one(Button).focus()
        await pilot.pause()
        assert shown(app)[0].startswith("╭─ Numbers")
        await pilot.resize_terminal(1, 1)
        await pilot.pause()
        await pilot.resize_terminal(3, 3)
        await pilot.pause()
        assert len(shown(app)) == 3


async def test_an_untrusted_title_cannot_act_on_the_terminal() -> None:
    app = Shown()
    async with app.run_test(size=(40, 14)) as pilot:
        app.panel.panel_title = "a\x1b]52;c;eA==\x07b\u202ec\nd"
        await pilot.pause()
        assert shown(app)[0].startswith("╭─ a␛]52;c;eA==␇b‹202e›c d ─")


async def test_markup_in_titles_is_text() -> None:
    app = Shown()
    async with app.run_test(size=(40, 14)) as pilot:
        app.panel.panel_title = "[red]run[/"
        app.box.panel_title = "[@click=app.quit]"
        await pilot.pause()
        assert "[red]run[/" in shown(app)[0]
        assert "[@click=app.quit]" in shown(app)[7]


def test_a_blank_changes_only_with_its_background_or_underline() -> None:
    blank, other, ground, line = (
        Strip([Segment("a ", style)], 2)
        for style in (
            ink(TEXT),
            ink(FOCUS),
            ink(TEXT, background=FOCUS),
            ink(TEXT) + Style(underline=True),
        )
    )
    assert changed_spans(blank, other) == [(0, 1)]
    assert (
        changed_spans(blank, ground)
        == changed_spans(blank, line)
        == changed_spans(line, other)
        == [(0, 2)]
    )
