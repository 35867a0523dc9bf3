"""Guides in the app: opened from the palette, read and followed by keyboard and links."""

from __future__ import annotations

from textual.pilot import Pilot

from rnnlm_tui.docs import GUIDES
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.docs import GuideScreen
from tests.tui.panes.seeing import press, until_shown
from tests.tui.support import at_home, lines_of, shows, until


async def click(app: RnnlmApp, pilot: Pilot[int], words: str) -> None:
    """Click on these words of the screen."""
    row = next(number for number, line in enumerate(lines_of(app)) if words in line)
    await pilot.click(offset=(lines_of(app)[row].index(words) + 1, row))


async def test_a_guide_opens_from_the_palette_leads_to_others_and_fits_a_narrow_screen() -> None:
    async with at_home(None) as (app, pilot):
        await press(pilot, ("ctrl+p", *"log or linear", "enter"), "No run open")
        await pilot.press("ctrl+p")
        for words in ("manual", "docs sampling", "guide quick start"):
            title = "Guide: Sampling" if "sampling" in words else "Guide: Quick start"
            await press(pilot, ["ctrl+u", *words], title)
        await press(pilot, "enter", "1 of ", "Train the demo")
        screen = app.screen
        assert isinstance(screen, GuideScreen)
        # links lead to guides, backspace returns to the place; other addresses are shown
        await click(app, pilot, "CPU build")
        await until_shown(pilot, "https://pytorch.org")
        await press(pilot, "end", "Text and tokenizers")
        place = screen.text.scroll_y
        await click(app, pilot, "Text and tokenizers")
        await until(pilot, lambda: "Text and tokenizers" in lines_of(app)[0])
        assert screen.text.scroll_y == 0
        await pilot.press("backspace")
        await until(pilot, lambda: "Quick start" in lines_of(app)[0])
        assert screen.text.scroll_y == place > 0
        # g chooses a guide, p and n step through them
        await press(pilot, "g", "Install, train")
        await pilot.press("end", "enter")
        for keys, number in (("", 14), ("n", 14), ("p", 13), ("n", 14)):
            await press(pilot, keys, f"{number} of {len(GUIDES)}")
        # the contents: tab and enter go to a heading, t gives their room to the text
        await pilot.press("tab", "end", "enter")
        await until(pilot, lambda: "│ Tests and tools" in lines_of(app)[1][20:])
        await click(app, pilot, "of faults")
        await until(pilot, lambda: "│ When something" in lines_of(app)[1][20:])
        assert "Reliability" in lines_of(app)[0]
        await pilot.press("t")
        await until(pilot, lambda: not shows(app, "What a run guar"))
        await press(pilot, "t", "What a run guar")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.pane_screen)

        # a guide is shown within a narrow screen, without contents, and wide tables as lists
        await pilot.resize_terminal(60, 15)
        app.push_screen(GuideScreen("configuration"))
        await until_shown(pilot, "Guide, Configuration", "esc close")
        assert max(map(len, lines_of(app))) <= 60
        assert not shows(app, "Presets")
