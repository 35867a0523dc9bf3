"""Guides in the app: opened from the palette, read and followed by keyboard and links."""

from __future__ import annotations

import pytest
from textual.widgets import Markdown, Tree

from rnnlm_tui.docs import GUIDES
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.screens.docs import GuideScreen
from tests.tui.support import at_home, lines_of, shows, until


def guide_of(app: RnnlmApp) -> GuideScreen:
    assert isinstance(app.screen, GuideScreen)
    return app.screen


async def test_a_guide_is_opened_from_the_palette_leads_to_others_and_fits_a_narrow_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with at_home(None) as (app, pilot):
        await pilot.press("ctrl+p")
        for words in ("documentation", "manual", "docs sampling", "guide quick start"):
            title = "Guide: Sampling" if "sampling" in words else "Guide: Quick start"
            await pilot.press("ctrl+u", *words)
            await until(pilot, lambda: shows(app, title))  # noqa: B023
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, GuideScreen))
        screen = guide_of(app)
        viewer = screen.viewer
        await until(pilot, lambda: viewer.max_scroll_y > 0)
        # links lead to guides at their anchors, backspace returns to the place
        await pilot.press("pagedown")
        await until(pilot, lambda: viewer.scroll_y > 0)
        place = viewer.scroll_y
        await viewer.go("configuration.md#presets")
        await until(pilot, lambda: screen.guide.topic == "configuration" and viewer.scroll_y > 0)
        assert "Configuration" in lines_of(app)[0]
        assert "- `training.patience` · 0 default · " in viewer.document.source, "no wide table"
        await pilot.press("backspace")
        await until(pilot, lambda: screen.guide.topic == "quick-start" and viewer.scroll_y == place)
        opened: list[str] = []
        monkeypatch.setattr(app, "open_url", opened.append)
        await viewer.go("https://pytorch.org/get-started/locally/")
        await until(pilot, lambda: shows(app, "pytorch.org"))
        assert not opened
        await pilot.press("end")
        await pilot.pause()
        lines = lines_of(app)
        row = next(number for number, line in enumerate(lines) if "Text and tokenizers" in line)
        await pilot.click(offset=(lines[row].index("Text and tokenizers") + 3, row))
        await until(pilot, lambda: screen.guide.topic == "text")
        await pilot.press("backspace")
        await until(pilot, lambda: screen.guide.topic == "quick-start")
        # n and p step through them, g chooses one
        await pilot.press("n")
        await until(pilot, lambda: f"2 of {len(GUIDES)}" in lines_of(app)[0])
        await pilot.press("p", "p")
        assert screen.guide.topic == "quick-start"
        await pilot.press("g")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("end", "enter")
        await until(pilot, lambda: app.screen is screen and screen.guide.topic == "inside")
        # the contents: tab and enter go to a heading, t gives their room to the text
        width = viewer.document.size.width
        await pilot.press("tab")
        assert isinstance(app.focused, Tree)
        await pilot.press(*["down"] * 4, "enter")
        await until(pilot, lambda: isinstance(app.focused, Markdown) and viewer.scroll_y > 0)
        place = viewer.scroll_y
        await pilot.press("pagedown")
        assert viewer.scroll_y > place
        await pilot.press("tab", "t")
        await until(pilot, lambda: viewer.document.size.width > width)
        assert isinstance(app.focused, Markdown)
        await pilot.press("t")
        await until(pilot, lambda: viewer.document.size.width == width)
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.pane_screen)

        # guides are shown within a narrow screen, without contents
        await pilot.resize_terminal(60, 15)
        app.push_screen(GuideScreen(GUIDES[0].topic))
        for guide in GUIDES[:4]:
            await until(pilot, lambda: guide.title in "".join(lines_of(app)[:1]))  # noqa: B023  awaited here
            viewer = guide_of(app).viewer
            assert not viewer.show_table_of_contents
            assert viewer.document.size.width <= 60
            assert max(map(len, lines_of(app))) <= 60
            assert "esc close" in lines_of(app)[-1]
            assert "<!--" not in viewer.document.source
            await pilot.press("n")
