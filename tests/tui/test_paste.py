"""Pasted line breaks: CR (tmux and most terminals), LF and CRLF, in every field."""

from __future__ import annotations

from textual.events import Paste
from textual.widgets import TextArea

from rnnlm_tui.tui.screens.choose import TextsScreen
from rnnlm_tui.tui.widgets.text_field import with_line_breaks
from tests.tui.panes.filling import edit, go, pane
from tests.tui.support import at_home, until


def test_every_kind_of_line_break_is_one_line_feed() -> None:
    assert with_line_breaks("a\rb\nc\r\nd\r\re\n\rf\u2028g\x85h") == "a\nb\nc\nd\n\ne\n\nf\ng\nh"


async def test_a_draft_takes_pasted_prompts_and_joins_the_lines_in_a_field_of_one_line() -> None:
    prompts = [f"prompt {number}" for number in range(1, 13)]
    async with at_home(None, "config") as (app, pilot):
        draft = pane(app).form
        await go(pilot, "evaluation.prompts")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, TextsScreen))
        app.screen.query_one(TextArea).clear()
        app.post_message(Paste("\r\n".join([*prompts, ""])))
        await pilot.pause()
        await pilot.press("ctrl+s")
        await until(pilot, lambda: draft.draft.value("evaluation.prompts") == prompts)
        for path, text, value in (
            ("training.seed", "\r43\r", 43),
            ("corpus.source", "\nmy\n  \x1b[31mtext \n", "my [31mtext"),
        ):
            editor = await edit(pilot, path)
            editor.value = ""
            app.post_message(Paste(text))
            await until(pilot, lambda: draft.draft.value(path) == value)  # noqa: B023
            await pilot.press("enter")
