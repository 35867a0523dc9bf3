"""Pasted line breaks: CR (tmux and most terminals), LF and CRLF, in every field."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.events import Paste
from textual.widgets import Input, TextArea

from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.commands import PaletteScreen
from rnnlm_tui.tui.screens.choose import TextsScreen
from rnnlm_tui.tui.widgets.runs_table import FilterInput
from rnnlm_tui.tui.widgets.settings_row import SettingInput
from rnnlm_tui.tui.widgets.text_field import with_line_breaks
from tests.tui.panes import filling
from tests.tui.panes.asking import pane, sampling
from tests.tui.panes.filling import edit, go
from tests.tui.support import at_home, shows, text_of, until
from tests.tui.test_terminal import DEADLINE, AppTerminal

BREAKS = {"CR": "\r", "LF": "\n", "CRLF": "\r\n", "LS": "\u2028"}


def test_every_kind_of_line_break_is_one_line_feed() -> None:
    assert with_line_breaks("a\rb\nc\r\nd\r\re\n\rf\u2028g\x85h") == "a\nb\nc\nd\n\ne\n\nf\ng\nh"


async def test_the_prompt_keeps_pasted_line_breaks_and_a_stop_string_has_them() -> None:
    async with sampling() as (app, pilot, _):
        for line_break in BREAKS.values():
            await pilot.press("ctrl+u")
            app.post_message(Paste(line_break.join(("First line", "Second line", "", "Third"))))
            await until(pilot, lambda: pane(app).box.text == "First line\nSecond line\n\nThird")
            assert app.pending_notice is None
            assert "from the paste" not in text_of(app)
            await pilot.press(*["tab"] * 11, "ctrl+u")
            stop = app.focused
            assert isinstance(stop, SettingInput)
            assert stop.name == "stop"
            app.post_message(Paste(f"{line_break}User:"))
            row = pane(app).settings_row
            await until(pilot, lambda: row.settings.sampling.stop == ("\nUser:",))  # noqa: B023
            await pilot.press("enter")
        await pilot.press("ctrl+u")
        app.post_message(Paste("x\r" * 60_000))
        await until(pilot, lambda: shows(app, "of 120,000 characters pasted"))


async def test_pasted_prompts_and_a_pasted_number_are_those_of_the_config() -> None:
    prompts = [f"prompt {number}" for number in range(1, 13)]
    async with at_home(None, "config") as (app, pilot):
        draft = filling.pane(app).form
        for line_break in BREAKS.values():
            await go(pilot, "evaluation.prompts")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, TextsScreen))
            app.screen.query_one(TextArea).clear()
            app.post_message(Paste(line_break.join(prompts) + line_break))
            await pilot.pause()
            await pilot.press("ctrl+s")
            await until(pilot, lambda: draft.draft.value("evaluation.prompts") == prompts)
            await edit(pilot, "training.seed")
            await pilot.press("ctrl+u", "ctrl+k")
            app.post_message(Paste(f"{line_break}42{line_break}"))
            await until(pilot, lambda: draft.draft.value("training.seed") == 42)
            await pilot.press("enter")
            draft.reset()


@pytest.mark.usefixtures("three_at_home")
async def test_a_paste_of_several_lines_into_one_line_keeps_all_of_them_with_spaces_between() -> (
    None
):
    def value(app: RnnlmApp) -> str | None:
        return app.focused.value if isinstance(app.focused, Input) else None

    async with at_home() as (app, pilot):
        for line_break in BREAKS.values():
            await pilot.press("slash")
            app.post_message(Paste(line_break.join(("", "ppl<800", "  small ", ""))))
            await until(pilot, lambda: app.screen.query_one(FilterInput).value == "ppl<800 small")
            await pilot.press("escape", "escape", "m")
            await until(pilot, lambda: value(app) == "")
            app.post_message(Paste(line_break.join(("one", "two", ""))))
            await until(pilot, lambda: value(app) == "one two")
            await pilot.press("escape", "ctrl+p")
            await until(pilot, lambda: isinstance(app.screen, PaletteScreen) and value(app) == "")
            app.post_message(Paste(line_break.join(("stop", "\x1b[31mtraining"))))
            await until(pilot, lambda: value(app) == "stop [31mtraining")
            await pilot.press("escape")
            await until(pilot, lambda: not isinstance(app.screen, PaletteScreen))


@pytest.mark.parametrize("line_break", BREAKS.values(), ids=BREAKS)
def test_a_bracketed_paste_from_a_terminal_keeps_its_lines(line_break: str, tmp_path: Path) -> None:
    with AppTerminal(tmp_path / "looks", pane="prompt") as terminal:
        terminal.wait_for(lambda: "@best" in terminal.text, DEADLINE)
        terminal.send(f"\x1b[200~First line{line_break}Second line{line_break}Third\x1b[201~")
        terminal.wait_for(lambda: "Third" in terminal.text, DEADLINE)
        rows = [row.strip(" │") for row in terminal.screen.display]
        at = rows.index("First line")
        assert rows[at : at + 3] == ["First line", "Second line", "Third"]
        assert "from the paste" not in terminal.text
