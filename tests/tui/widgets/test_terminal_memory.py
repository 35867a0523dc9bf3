"""Only cells that changed are sent, and a terminal that gets only those shows the same as the app."""

from __future__ import annotations

import pyte
from rich.console import Console, RenderableType
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.app import ComposeResult
from textual.geometry import Region, Size
from textual.screen import ModalScreen, Screen
from textual.strip import Strip
from textual.widgets import Input, Static

from rnnlm_tui.tui.widgets.chart import Chart
from rnnlm_tui.tui.widgets.palette import FOCUS, TEXT
from rnnlm_tui.tui.widgets.panel import cells_of, padded, segments_of
from rnnlm_tui.tui.widgets.terminal_memory import FrugalDisplay, FrugalUpdate, TerminalMemory, changed_runs
from tests.tui.widgets.chart.pictures import training

SIZE = Size(40, 3)


def layout(*rows: str, colour: str = TEXT) -> LayoutUpdate:
    return LayoutUpdate([[padded(segments_of(row, colour), SIZE.width)] for row in rows], Region(0, 0, SIZE.width, len(rows)))


def sent(memory: TerminalMemory, update: LayoutUpdate | ChopsUpdate, size: Size = SIZE) -> str:
    return memory.changes(update, size, Console(force_terminal=True, color_system="256"))


def test_first_update_is_sent_whole_and_the_same_again_not_at_all() -> None:
    memory = TerminalMemory()
    first = sent(memory, layout("one", "two", "three"))
    assert all(word in first for word in ("one", "two", "three"))
    assert sent(memory, layout("one", "two", "three")) == ""


def test_changed_cells_alone_are_sent() -> None:
    memory = TerminalMemory()
    sent(memory, layout("step 1,234 of 5,000", "two", "three"))
    change = sent(memory, layout("step 1,239 of 5,000", "two", "three"))
    assert change.startswith("\x1b[1;10H")
    assert "9" in change.removeprefix("\x1b[1;10H")
    assert "step" not in change
    assert len(change) < 40


def test_change_of_colour_is_a_change() -> None:
    memory = TerminalMemory()
    sent(memory, layout("one"))
    assert "one" in sent(memory, layout("one", colour=FOCUS))


def test_forgetting_and_another_size_send_all_again() -> None:
    memory = TerminalMemory()
    sent(memory, layout("one"))
    memory.forget()
    assert "one" in sent(memory, layout("one"))
    assert "one" in sent(memory, layout("one"), Size(40, 2))


def test_what_lies_outside_the_terminal_is_not_sent() -> None:
    memory = TerminalMemory()
    assert "two" not in sent(memory, layout("one", "two"), Size(2, 1))


def test_wide_characters_are_sent_whole() -> None:
    def runs(before: str, after: str) -> list[tuple[int, int]]:
        old, new = (cells_of(padded(segments_of(text), 30)) for text in (before, after))
        return changed_runs([*old], new)

    assert runs("日本", "日木") == [(2, 4)]
    assert runs("日本", "ab本") == [(0, 2)]
    assert runs("ab本", "日本") == [(0, 2)]
    assert runs("a日b", "xyzb") == [(0, 3)]
    assert runs("a" + "." * 20 + "b", "x" + "." * 20 + "y") == [(0, 1), (21, 22)]
    assert runs("a....b", "x....y") == [(0, 6)]
    assert runs("same", "same") == []


def test_partial_update_brings_only_its_spans() -> None:
    memory = TerminalMemory()
    sent(memory, layout("left      right", "two"))
    chops: list[dict[int, Strip | None]] = [{0: padded(segments_of("LEFT"), 10), 10: None}, {0: None, 10: None}]
    change = sent(memory, ChopsUpdate(chops, [(0, 0, 10)], [[10, 40], [10, 40]]))
    assert "LEFT" in change
    assert "right" not in change


class Over(ModalScreen[None]):
    CSS = "Over { align: center middle; } Over Static { width: 20; height: 3; border: round red; }"

    def compose(self) -> ComposeResult:
        yield Static("over 日本語 it")


class Shown(FrugalDisplay[None]):
    """Feeds a terminal emulator with what a terminal would get."""

    def __init__(self) -> None:
        super().__init__()
        self.emulator = pyte.Screen(80, 24)
        self.stream = pyte.Stream(self.emulator)
        self.bytes = 0

    def compose(self) -> ComposeResult:
        yield Input(placeholder="日本語 text")
        yield Chart(training(300))
        yield Static("below")

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        if isinstance(renderable, LayoutUpdate | ChopsUpdate):
            text = FrugalUpdate(renderable, self.size, self.terminal_memory).render_segments(Console(force_terminal=True, color_system="256"))
            self.stream.feed(text)
            self.bytes += len(text.encode())

    def matches(self) -> bool:
        """Whether the emulator shows what the app means to show."""
        strips: list[Strip] = self.screen._compositor.render_strips()
        if isinstance(self.screen, ModalScreen):
            return any("over 日" in row for row in self.emulator.display) and any("Perplexity" in row for row in self.emulator.display)
        return [row.rstrip() for row in self.emulator.display] == [strip.text.rstrip() for strip in strips]


async def test_terminal_shows_the_same_as_the_app_through_all_that_happens() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert app.matches()
        chart = app.query_one(Chart)
        for steps in range(300, 700, 40):
            chart.show(training(steps))
            await pilot.pause()
        assert app.matches()
        await pilot.press(*"type 12", "left", "backspace")
        await pilot.pause()
        assert app.matches()
        app.query_one(Input).value = "日本語日本語"
        await pilot.pause()
        app.query_one(Input).value = "x日本語"
        await pilot.pause()
        await app.push_screen(Over())
        await pilot.pause()
        assert app.matches()
        app.pop_screen()
        await pilot.pause()
        assert app.matches()
        app.emulator.resize(12, 60)
        app.emulator.reset()
        await pilot.resize_terminal(60, 12)
        await pilot.pause()
        assert app.matches()


async def test_growing_chart_costs_few_bytes() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        chart = app.query_one(Chart)
        chart.show(training(500))
        await pilot.pause()
        app.bytes = 0
        for steps in range(510, 710, 10):
            chart.show(training(steps))
            await pilot.pause()
        assert app.matches()
        assert app.bytes / 20 < 500
