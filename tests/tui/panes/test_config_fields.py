"""The fields of the config form: switches, choices, lists, pasted text, and many keys at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.events import Key, Paste

from rnnlm_tui.schema.config import CELL_SUMMARIES
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.tui.screens.choose import ChooseScreen, TextsScreen
from tests.tui.panes.filling import edit, edited, focused, go, pane, press, write
from tests.tui.panes.seeing import screen_text, until_shown
from tests.tui.support import at_home, until


async def test_switches_choices_lists_and_optional_fields_are_edited_by_keys() -> None:
    async with at_home(None, "config") as (app, pilot):
        await go(pilot, "model.tie_weights")
        await pilot.press("enter")
        await until(pilot, lambda: not edited(app).model.tie_weights)
        await pilot.press("left")
        await until(pilot, lambda: edited(app).model.tie_weights)
        await go(pilot, "tokenizer.kind")
        await pilot.press("left")
        await until(pilot, lambda: edited(app).tokenizer.kind == "word")
        await pilot.press("right")
        await until(pilot, lambda: edited(app) == DEMO)

        await go(pilot, "model.cell_type")
        await press(pilot, "enter", shows=tuple(CELL_SUMMARIES.values()))
        await pilot.press("escape")
        await go(pilot, "schedule.kind")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("up", "enter")
        await until(pilot, lambda: edited(app).schedule.kind == "constant")
        await until_shown(pilot, "3 more for cosine, decay")
        await pilot.press("u")

        await go(pilot, "evaluation.prompts")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, TextsScreen))
        await press(pilot, "enter", *"God [b]", "ctrl+s", shows=("4 texts", "was 3 texts"))
        assert edited(app).evaluation.prompts == (*DEMO.evaluation.prompts, "God [b]")
        await pilot.press("u")

        await write(pilot, "training.max_steps", "700")
        await until_shown(pilot, "was by epochs")
        assert not pane(app).form.row("training.epochs").display  # max steps is set
        await edit(pilot, "training.max_steps")
        await pilot.press("backspace", "enter")
        await until(pilot, lambda: edited(app) == DEMO)

        # an edited field stays visible with its text when the terminal is resized
        await edit(pilot, "sampling.seed")
        await pilot.press(*"271828")
        for size in ((120, 60), (80, 16), (120, 40), (60, 15), (120, 18), (80, 24)):
            await pilot.resize_terminal(*size)
            await until_shown(pilot, "271828")
        await pilot.press("enter")
        await until(pilot, lambda: edited(app).sampling.seed == 271_828)
        assert focused(app) == "sampling.seed"


async def test_any_text_can_be_typed_pasted_and_completed_in_a_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "novels").mkdir()
    (tmp_path / "novels" / "emma.txt").write_text("Emma.\n")
    (tmp_path / "notes.txt").write_text("A note.\n")
    async with at_home(None, "config") as (app, pilot):
        await edit(pilot, "corpus.source")
        await press(pilot, "n", "tab", shows=("news", "notes.txt", "novels/"))
        await pilot.press("o", "v", "tab", "e", "tab")
        await until(pilot, lambda: edited(app).corpus.source == "novels/emma.txt")
        await pilot.press("tab")  # nothing to complete
        await until(pilot, lambda: focused(app) == "tokenizer.kind")

        await go(pilot, "corpus.source")
        hostile = "\x1b]52;c;aGk=\x07[@click=app.quit]x[/]‮"
        pane(app).form.set_values({"corpus.source": hostile})
        await press(pilot, "down", shows="no file matches")
        assert not {"\x1b", "‮"} & set(screen_text(app))

        editor = await edit(pilot, "corpus.source")
        await pilot.press("ctrl+u")
        editor.post_message(Paste("/data/\x1b]0;x\x07a.txt\x9b"))
        await pilot.press("enter")
        await until(pilot, lambda: edited(app).corpus.source == "/data/]0;xa.txt")
        editor = await edit(pilot, "corpus.source")
        await pilot.press("ctrl+u")
        editor.post_message(Paste("/data/می\u200cخواهم"))
        editor.post_message(Key("zero_width_joiner", "\u200d"))
        await pilot.press("enter")
        joined = "/data/می\u200cخواهم\u200d"
        await until(pilot, lambda: edited(app).corpus.source == joined)
        await pilot.press("u")

        keys = [*["tab"] * 5, "down", "enter", *"9000", "backspace", "enter", "down", "down"]
        for key in (*keys, "enter", *"64", "tab"):  # at once
            app.post_message(Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: focused(app) == "evaluation.every")
        assert (edited(app).training.max_steps, edited(app).training.batch_size) == (900, 64)
