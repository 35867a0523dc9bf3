"""Guides in the app: opened from the palette, read and followed by keyboard and links."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot
from textual.widgets import Markdown, Tree

from rnnlm_tui.docs import GUIDES, find_guide
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.commands import commands
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.screens.docs import GuideScreen
from rnnlm_tui.tui.screens.pane import PaneScreen
from tests.tui.support import lines_of, running_app, text_of, until


async def open_guide(app: RnnlmApp, pilot: Pilot[int], topic: str) -> GuideScreen:
    """Open a guide as the palette does, and wait for its text."""
    screen = GuideScreen(topic)
    app.push_screen(screen)
    await until(pilot, lambda: find_guide(topic).title in "".join(lines_of(app)[1:2]))
    return screen


async def test_the_palette_lists_every_guide_and_opens_one() -> None:
    async with running_app(size=(80, 24)) as (app, pilot):
        assert isinstance(app.screen, PaneScreen)
        items = list(commands(app.screen))
        assert [item.name for item in items if item.name.startswith("Guide: ")] == [
            f"Guide: {guide.title}" for guide in GUIDES
        ]
        for words in (("docs",), ("documentation",), ("manual",), ("docs", "sampling")):
            assert "Guide: Sampling" in [item.name for item in items if item.score(words)]
        await pilot.press("ctrl+p", *"what a run guarantees")
        await until(pilot, lambda: "Guide: Reliability" in text_of(app))
        await pilot.press("enter")
        await until(
            pilot,
            lambda: (
                isinstance(app.screen, GuideScreen) and "Always. After any crash" in text_of(app)
            ),
        )
        await pilot.press("escape")
        assert not isinstance(app.screen, GuideScreen)


@pytest.mark.parametrize("size", [(60, 15), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_guide_is_shown_within_the_screen(size: tuple[int, int]) -> None:
    async with running_app(size=size) as (app, pilot):
        screen = await open_guide(app, pilot, GUIDES[0].topic)
        for guide in GUIDES:
            await screen.show_guide(guide)
            await until(pilot, lambda: guide.title in lines_of(app)[0])  # noqa: B023  awaited here
            assert screen.viewer.document.size.width <= size[0]
            assert "esc close" in lines_of(app)[-1]
            assert "<!--" not in screen.viewer.document.source


async def test_contents_are_shown_beside_the_text_and_enter_goes_to_a_heading() -> None:
    async with running_app(size=(80, 24)) as (app, pilot):
        screen = await open_guide(app, pilot, "dashboard")
        assert "Compare runs" in text_of(app)
        await pilot.press("tab")
        assert isinstance(app.focused, Tree)
        await pilot.press(*["down"] * 8, "enter")
        await until(pilot, lambda: isinstance(app.focused, Markdown))
        assert "^ is the control key" in text_of(app)
        place = screen.viewer.scroll_y
        await pilot.press("pagedown")
        assert screen.viewer.scroll_y > place


async def test_t_hides_the_contents_and_gives_their_room_to_the_text() -> None:
    async with running_app(size=(80, 24)) as (app, pilot):
        screen = await open_guide(app, pilot, "runs")
        width = screen.viewer.document.size.width
        await pilot.press("tab", "t")
        await pilot.pause()
        assert screen.viewer.document.size.width > width
        assert isinstance(app.focused, Markdown)
        await pilot.press("t")
        await pilot.pause()
        assert screen.viewer.document.size.width == width


async def test_contents_are_hidden_at_first_on_a_narrow_terminal() -> None:
    async with running_app(size=(60, 15)) as (app, pilot):
        screen = await open_guide(app, pilot, "runs")
        assert not screen.viewer.show_table_of_contents


async def test_links_lead_to_guides_and_backspace_returns_to_the_place() -> None:
    async with running_app(size=(80, 24)) as (app, pilot):
        screen = await open_guide(app, pilot, "quick-start")
        await until(pilot, lambda: screen.viewer.max_scroll_y > 0)
        await pilot.press("pagedown")
        await until(pilot, lambda: screen.viewer.scroll_y > 0)
        place = screen.viewer.scroll_y
        await screen.viewer.go("configuration.md#presets")
        await until(
            pilot, lambda: screen.guide.topic == "configuration" and screen.viewer.scroll_y > 0
        )
        assert "Configuration" in lines_of(app)[0]
        await pilot.press("backspace")
        await until(
            pilot, lambda: screen.guide.topic == "quick-start" and screen.viewer.scroll_y == place
        )


async def test_a_click_on_a_link_opens_the_guide() -> None:
    async with running_app(size=(120, 40)) as (app, pilot):
        screen = await open_guide(app, pilot, "quick-start")
        await pilot.press("end")
        await pilot.pause()
        lines = lines_of(app)
        row = next(number for number, line in enumerate(lines) if "Text and tokenizers" in line)
        await pilot.click(offset=(lines[row].index("Text and tokenizers") + 3, row))
        await until(pilot, lambda: screen.guide.topic == "text")


async def test_a_link_to_the_web_is_shown_and_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_app(size=(80, 24)) as (app, pilot):
        opened: list[str] = []
        monkeypatch.setattr(app, "open_url", opened.append)
        screen = await open_guide(app, pilot, "quick-start")
        await screen.viewer.go("https://pytorch.org/get-started/locally/")
        await until(pilot, lambda: "pytorch.org" in text_of(app))
        assert not opened
        assert screen.guide.topic == "quick-start"


async def test_n_and_p_step_through_the_guides_and_g_chooses_one() -> None:
    async with running_app(size=(80, 24)) as (app, pilot):
        screen = await open_guide(app, pilot, "quick-start")
        await pilot.press("p")
        assert screen.guide.topic == "quick-start"
        await pilot.press("n")
        await until(pilot, lambda: f"2 of {len(GUIDES)}" in lines_of(app)[0])
        await pilot.press("g")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("end", "enter")
        await until(pilot, lambda: app.screen is screen and screen.guide.topic == "inside")


async def test_a_wide_table_is_a_list_where_it_has_no_room() -> None:
    async with running_app(size=(80, 24)) as (app, pilot):
        screen = await open_guide(app, pilot, "configuration")
        assert "- `training.patience` · 0 default · " in screen.viewer.document.source
        await pilot.resize_terminal(60, 15)
        await pilot.pause()
        assert max(map(len, lines_of(app))) <= 60
