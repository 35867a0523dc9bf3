"""A value that doesn't fit shows where it is cut, so it is never read as another value."""

from __future__ import annotations

from dataclasses import replace

import pytest
from textual.app import App, ComposeResult
from textual.content import Content
from textual.widgets import Input

from rnnlm_tui.tui.text import padded, segments_of
from rnnlm_tui.tui.widgets.settings_row import SettingInput
from rnnlm_tui.tui.widgets.text_field import SafeInput
from tests.tui.fakes import FakeServices
from tests.tui.panes.asking import pane
from tests.tui.panes.fakes import checkpoint, make_snapshot
from tests.tui.panes.filling import edit
from tests.tui.panes.seeing import opened, screen_text
from tests.tui.support import until


def box_text(box: Input) -> str:
    """What the box shows of its value."""
    return box.render_line(0).crop(0, box.size.width).text.rstrip()


async def typed(name: str, tabs: int, value: str, *then: str) -> tuple[str, str]:
    """What a setting's box shows while the value is typed, and once it was left."""
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        await pilot.press(*["tab"] * tabs)
        await until(
            pilot, lambda: isinstance(app.focused, SettingInput) and app.focused.name == name
        )
        box = app.query_one(f"#setting-{name}", SettingInput)
        await pilot.press("ctrl+u", "ctrl+k", *value)
        await until(pilot, lambda: box.value == value)
        await pilot.pause()
        during = box_text(box)
        await pilot.press("enter", *then)
        await until(pilot, lambda: app.focused is pane(app).box)
        await pilot.pause()
        return during, box_text(box)


async def test_a_usual_value_is_never_cut() -> None:
    assert await typed("top_p", 2, "0.95") == ("0.95", "0.95")
    assert await typed("max_new_tokens", 5, "10000") == ("10000", "10000")


async def test_the_box_of_a_setting_grows_with_its_value() -> None:
    assert await typed("max_new_tokens", 5, "1000000") == ("1000000", "1000000")
    assert await typed("temperature", 1, "0.0000001") == ("0.0000001", "1e-7")
    assert await typed("seed", 6, "9223372036854775807") == ("9223372036854775807",) * 2


async def test_a_stop_string_longer_than_the_row_shows_that_it_is_cut() -> None:
    during, after = await typed("stop", 11, "x" * 90)
    assert during.startswith("…x")
    assert after.endswith("x…")


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


async def test_an_edited_config_value_shows_that_it_is_cut() -> None:
    async with opened(FakeServices(), "config", run=None) as (_, pilot):
        editor = await edit(pilot, "training.seed")
        await pilot.press("ctrl+u", "ctrl+k", *"1234567890123456")
        await pilot.pause()
        assert box_text(editor).startswith("…")


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("100,000 steps", 6, "100,0…"),
        ("12 %   ", 4, "12 %"),
        ("abc", 3, "abc"),
        ("漢字漢字", 5, "漢字…"),
        ("ab", 4, "ab  "),
    ],
)
def test_a_cut_row_of_cells_ends_with_an_ellipsis(text: str, width: int, shown: str) -> None:
    assert padded(segments_of(Content(text)), width).text == shown


@pytest.mark.parametrize(
    "size", [(60, 15), (80, 24), (120, 40)], ids=lambda size: f"{size[0]}x{size[1]}"
)
async def test_a_long_step_or_size_is_never_cut_in_the_checkpoints(size: tuple[int, int]) -> None:
    rows = (
        replace(checkpoint(1_234_567_890, 4.1, last=True), bytes=1_234_567_890_123, epoch=6.2),
        replace(checkpoint(1_200_000, 4.2), bytes=39_000_000),
    )
    async with opened(
        FakeServices(replace(make_snapshot(), checkpoints=rows)), "checkpoints", size=size
    ) as (app, pilot):
        await until(pilot, lambda: "1,200,000" in screen_text(app))
        line = next(line for line in screen_text(app).splitlines() if line.startswith("│›"))
        assert " 1,234,567,890 " in line
        assert "▸ last" in line
        assert size[0] < 120 or " 1,234.6 " in line
