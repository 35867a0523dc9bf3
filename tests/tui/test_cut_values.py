"""A value that doesn't fit shows where it is cut, so it is never read as another value."""

from __future__ import annotations

from textual.app import App, ComposeResult
from textual.widgets import Input

from rnnlm_tui.tui.widgets.text_field import SafeInput
from tests.homes import trained, with_checkpoints
from tests.tui.support import at_home, lines_of, shows, until


def box_text(box: Input) -> str:
    """What the box shows of its value."""
    return box.render_line(0).crop(0, box.size.width).text.rstrip()


async def test_the_cut_mark_gives_way_to_the_cursor() -> None:
    class Box(App[None]):
        CSS = "SafeInput { width: 8; height: 1; border: none; padding: 0; }"

        def compose(self) -> ComposeResult:
            yield SafeInput("abcdefghijkl", select_on_focus=False)

    async with Box().run_test() as pilot:
        box = pilot.app.query_one(SafeInput)
        shown = []
        for _ in range(13):
            await pilot.pause()
            shown.append(box_text(box))
            await pilot.press("left")
        assert all("…" in text or box.value in text for text in shown)
        await pilot.press("home")
        await pilot.pause()
        assert box_text(box) == "abcdefg…"
        box.value = "short"
        await pilot.pause()
        assert box_text(box) == "short"


async def test_a_long_step_is_shown_whole_at_every_size() -> None:
    with_checkpoints(trained("plain-otter"), {1_200_000: 4.1, 1_234_567_890: 4.2})
    async with at_home(pane="checkpoints") as (app, pilot):
        for size in ((60, 15), (80, 24), (120, 40)):
            await pilot.resize_terminal(*size)
            await until(pilot, lambda: shows(app, "1,200,000"))
            (line,) = [line for line in lines_of(app) if line.startswith("│›")]
            assert " 1,234,567,890 " in line
            assert "▸" in line
