"""Pasted line breaks: CR (tmux and most terminals), LF and CRLF, in every field."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.events import Paste
from textual.widgets import Input, TextArea

from rnnlm_tui.tui.commands import PaletteScreen
from rnnlm_tui.tui.screens.choose import TextsScreen
from rnnlm_tui.tui.widgets.runs_table import FilterInput
from rnnlm_tui.tui.widgets.settings_row import SettingInput
from rnnlm_tui.tui.widgets.text_field import with_line_breaks
from tests.tui.fakes import FakeServices
from tests.tui.panes import filling
from tests.tui.panes.asking import pane
from tests.tui.panes.fakes import make_snapshot
from tests.tui.panes.filling import edit, go
from tests.tui.panes.seeing import opened, until_shown
from tests.tui.support import running_app, three_runs, until
from tests.tui.test_terminal import DEADLINE, AppTerminal

BREAKS = {"CR": "\r", "LF": "\n", "CRLF": "\r\n", "LS": "\u2028"}
each_break = pytest.mark.parametrize("line_break", BREAKS.values(), ids=BREAKS)


def test_every_kind_of_line_break_is_one_line_feed() -> None:
    assert with_line_breaks("a\rb\nc\r\nd\r\re\n\rf\u2028g\x85h") == "a\nb\nc\nd\n\ne\n\nf\ng\nh"


@each_break
async def test_a_paste_into_the_prompt_keeps_its_line_breaks(
    line_break: str,
) -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        app.post_message(Paste(line_break.join(("First line", "Second line", "", "Third"))))
        await until(pilot, lambda: pane(app).box.text == "First line\nSecond line\n\nThird")
        assert app.pending_notice is None
        assert "from the paste" not in str(app.screen.query_one("#footer").render())


@each_break
async def test_twelve_pasted_prompts_are_twelve_in_the_config(line_break: str) -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "evaluation.prompts")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, TextsScreen))
        app.screen.query_one(TextArea).clear()
        prompts = [f"prompt {number}" for number in range(1, 13)]
        app.post_message(Paste(line_break.join(prompts) + line_break))
        await pilot.pause()
        await pilot.press("ctrl+s")
        await until(
            pilot, lambda: filling.pane(app).form.draft.value("evaluation.prompts") == prompts
        )


@each_break
async def test_a_paste_of_several_lines_into_one_line_keeps_all_of_them_with_spaces_between(
    line_break: str,
) -> None:
    async with running_app(three_runs(), pane="runs") as (app, pilot):
        await pilot.press("slash")
        app.post_message(Paste(line_break.join(("", "ppl<800", "  small ", ""))))
        await until(pilot, lambda: app.screen.query_one(FilterInput).value == "ppl<800 small")
        await pilot.press("escape", "escape", "m")
        await until(pilot, lambda: isinstance(app.focused, Input))
        app.post_message(Paste(line_break.join(("one", "two", ""))))
        await until(
            pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "one two"
        )
        await pilot.press("escape", "ctrl+p")
        await until(
            pilot, lambda: isinstance(app.screen, PaletteScreen) and isinstance(app.focused, Input)
        )
        app.post_message(Paste(line_break.join(("stop", "\x1b[31mtraining"))))
        await until(
            pilot,
            lambda: isinstance(app.focused, Input) and app.focused.value == "stop [31mtraining",
        )


@each_break
async def test_a_number_copied_with_its_line_break_is_the_number(line_break: str) -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await edit(pilot, "training.seed")
        await pilot.press("ctrl+u", "ctrl+k")
        app.post_message(Paste(f"{line_break}42{line_break}"))
        await until(pilot, lambda: filling.pane(app).form.draft.value("training.seed") == 42)


@each_break
async def test_a_line_break_pasted_into_the_stop_strings_is_one_of_them(line_break: str) -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (app, pilot):
        await pilot.press(*["tab"] * 11)
        await until(
            pilot, lambda: isinstance(app.focused, SettingInput) and app.focused.name == "stop"
        )
        app.post_message(Paste(f"{line_break}User:"))
        await until(pilot, lambda: pane(app).settings_row.settings.sampling.stop == ("\nUser:",))


@each_break
def test_a_bracketed_paste_from_a_terminal_keeps_its_lines(line_break: str, tmp_path: Path) -> None:
    with AppTerminal(tmp_path / "looks", pane="prompt") as terminal:
        terminal.wait_for(lambda: "@best" in terminal.text, DEADLINE)
        terminal.send(f"\x1b[200~First line{line_break}Second line{line_break}Third\x1b[201~")
        terminal.wait_for(lambda: "Third" in terminal.text, DEADLINE)
        rows = [row.strip(" │") for row in terminal.screen.display]
        at = rows.index("First line")
        assert rows[at : at + 3] == ["First line", "Second line", "Third"]
        assert "from the paste" not in terminal.text


async def test_a_paste_of_thousands_of_lines_is_counted_with_its_line_breaks() -> None:
    async with opened(FakeServices(make_snapshot()), "prompt") as (_app, pilot):
        _app.post_message(Paste("x\r" * 60_000))
        await until_shown(pilot, "of 120,000 characters pasted")
