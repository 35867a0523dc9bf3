"""Guides in the app: opened from the palette, read and followed by keyboard and links."""

from __future__ import annotations

import pytest
from textual.widgets import Markdown, Tree

from rnnlm_tui.docs import GUIDES, find_guide, fitted
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.choose import ChooseScreen
from rnnlm_tui.tui.screens.docs import GuideScreen
from tests.tui.panes.seeing import press
from tests.tui.support import at_home, lines_of, shows, until


def guide_of(app: RnnlmApp) -> GuideScreen:
    assert isinstance(app.screen, GuideScreen)
    return app.screen


async def test_a_guide_is_opened_from_the_palette_leads_to_others_and_fits_a_narrow_screen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with at_home(None) as (app, pilot):
        await pilot.press("ctrl+p")
        for words in ("manual", "docs sampling", "guide quick start"):
            title = "Guide: Sampling" if "sampling" in words else "Guide: Quick start"
            await press(pilot, ["ctrl+u", *words], title)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, GuideScreen))
        screen = guide_of(app)
        viewer = screen.viewer
        await until(pilot, lambda: viewer.max_scroll_y > 0)
        # links lead to guides at their anchors, backspace returns to the place
        await pilot.press("pagedown")
        await until(pilot, lambda: viewer.scroll_y > 0)
        place = viewer.scroll_y
        await viewer.go("exporting.md#onnx")
        await until(pilot, lambda: screen.guide.topic == "exporting" and viewer.scroll_y > 0)
        assert "Exporting" in lines_of(app)[0]
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
        # g chooses one, p and n step through them
        await pilot.press("g")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("end", "enter")
        await until(pilot, lambda: app.screen is screen and screen.guide.topic == "inside")
        await pilot.press("n", "p")
        await until(pilot, lambda: f"{len(GUIDES) - 1} of {len(GUIDES)}" in lines_of(app)[0])
        await pilot.press("n")
        await until(pilot, lambda: f"{len(GUIDES)} of {len(GUIDES)}" in lines_of(app)[0])
        # the contents: tab and enter go to a heading, t gives their room to the text
        width = viewer.document.size.width
        await pilot.press("tab")
        assert isinstance(app.focused, Tree)
        await pilot.press(*["down"] * 4, "enter")
        await until(pilot, lambda: isinstance(app.focused, Markdown) and viewer.scroll_y > 0)
        place = viewer.scroll_y
        await pilot.press("space")
        await until(pilot, lambda: viewer.scroll_y > place)
        await pilot.press("tab", "t")
        await until(pilot, lambda: viewer.document.size.width > width)
        assert isinstance(app.focused, Markdown)
        await pilot.press("t")
        await until(pilot, lambda: viewer.document.size.width == width)
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.pane_screen)

        # a guide is shown within a narrow screen, without contents
        await pilot.resize_terminal(60, 15)
        app.push_screen(GuideScreen("quick-start"))
        await until(pilot, lambda: "Quick start" in "".join(lines_of(app)[:1]))
        viewer = guide_of(app).viewer
        assert not viewer.show_table_of_contents
        assert viewer.document.size.width <= 60
        assert max(map(len, lines_of(app))) <= 60
        assert "esc close" in lines_of(app)[-1]
        text = fitted(find_guide("configuration").text(), viewer.document.size.width)
        assert "- `training.patience` · 0 default · " in text, "no wide table"
        assert not [guide for guide in GUIDES if "<!--" in guide.text()]
