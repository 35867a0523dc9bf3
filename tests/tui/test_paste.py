"""Pasted line breaks: CR (tmux and most terminals), LF and CRLF, in every field."""

from __future__ import annotations

from pathlib import Path

from textual.events import Paste
from textual.widgets import TextArea

from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.tui.screens.choose import TextsScreen
from rnnlm_tui.tui.views.form import value_at
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
        for line_break in ("\r", "\r\n"):
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


async def test_a_draft_takes_pasted_prompts_and_joins_the_lines_in_a_field_of_one_line() -> None:
    prompts = [f"prompt {number}" for number in range(1, 13)]
    async with at_home(None, "config") as (app, pilot):
        draft = filling.pane(app).form
        for line_break in ("\r", "\r\n"):
            await go(pilot, "evaluation.prompts")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, TextsScreen))
            app.screen.query_one(TextArea).clear()
            app.post_message(Paste(line_break.join(prompts) + line_break))
            await pilot.pause()
            await pilot.press("ctrl+s")
            await until(pilot, lambda: draft.draft.value("evaluation.prompts") == prompts)
            for path, lines, value in (
                ("training.seed", ("", "43", ""), 43),
                ("corpus.source", ("", "my", "  \x1b[31mtext ", ""), "my [31mtext"),
            ):
                editor = await edit(pilot, path)
                editor.value = ""
                app.post_message(Paste(line_break.join(lines)))
                await until(pilot, lambda: draft.draft.value(path) == value)  # noqa: B023
                await pilot.press("enter")
            for path in ("evaluation.prompts", "training.seed", "corpus.source"):
                draft.set_values({path: value_at(DEMO, path)})
            assert not draft.draft.changes


def test_a_bracketed_paste_from_a_terminal_keeps_its_lines(tmp_path: Path) -> None:
    with AppTerminal(tmp_path / "looks") as terminal:
        terminal.wait_for("Perplexity, log", DEADLINE)
        terminal.send("4")
        terminal.wait_for(lambda: "@best" in terminal.text, DEADLINE)
        for name, line_break in BREAKS.items():
            lines = [f"{name} first", f"{name} second", f"{name} third"]
            terminal.send(f"\x15\x1b[200~{line_break.join(lines)}\x1b[201~")
            terminal.wait_for(lambda: lines[-1] in terminal.text, DEADLINE)  # noqa: B023
            rows = [row.strip(" │") for row in terminal.screen.display]
            at = rows.index(lines[0])
            assert rows[at : at + 3] == lines
            assert "from the paste" not in terminal.text
