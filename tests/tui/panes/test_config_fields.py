"""The fields of the config form: switches, choices, lists, pasted text, and many keys at once."""

from __future__ import annotations

import pytest
from textual.events import Key, Paste

from rnnlm_tui.schema.config import CELL_SUMMARIES
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.tui.screens.choose import ChooseScreen, TextsScreen
from tests.tui.fakes import FakeServices
from tests.tui.panes.filling import edit, edited, focused, go, pane, write
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import until


async def test_enter_toggles_a_switch_and_arrows_change_a_choice() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "model.tie_weights")
        await pilot.press("enter")
        await until(pilot, lambda: not edited(app).model.tie_weights)
        await go(pilot, "tokenizer.kind")
        await pilot.press("left")
        await until(pilot, lambda: edited(app).tokenizer.kind == "word")


async def test_a_choice_opens_a_list_and_escape_closes_it() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "schedule.kind")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.pane_screen)
        assert edited(app) == DEMO
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press("up", "enter")
        await until(pilot, lambda: edited(app).schedule.kind == "constant")
        await until_shown(pilot, "3 more for cosine, decay")


async def test_the_list_of_cells_describes_them() -> None:
    async with opened(FakeServices(), "config", run=None) as (_, pilot):
        await go(pilot, "model.cell_type")
        await pilot.press("enter")
        await until_shown(
            pilot,
            *CELL_SUMMARIES.values(),
            "xLSTM's matrix memory, without convolution, norm or projection",
        )


async def test_prompts_are_edited_one_per_line() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "evaluation.prompts")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, TextsScreen))
        await pilot.press("enter", *"God [b]", "ctrl+s")
        await until(
            pilot,
            lambda: edited(app).evaluation.prompts == (*DEMO.evaluation.prompts, "God [b]"),
        )
        await until_shown(pilot, "4 texts", "was 3 texts")


async def test_an_optional_field_can_be_set_and_emptied_again() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await write(pilot, "training.max_steps", "700")
        await until_shown(pilot, "was by epochs")
        assert not pane(app).form.row("training.epochs").display  # max steps is set
        await go(pilot, "training.max_steps")
        await pilot.press("enter", "backspace", "enter")
        await until(pilot, lambda: edited(app) == DEMO)


async def test_hostile_values_are_harmless() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "corpus.source")
        form = pane(app).form
        form.set_value("corpus.source", "\x1b]52;c;aGk=\x07[@click=app.quit]x[/]‮")
        await pilot.press("down")
        await until_shown(pilot, "was presidents")
        text = screen_text(app)
        assert "\x1b" not in text
        assert "‮" not in text
        assert app.is_running


async def test_pasted_text_loses_its_control_characters() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        editor = await edit(pilot, "corpus.source")
        editor.post_message(Paste("/data/\x1b]0;x\x07a.txt\x9b"))
        await pilot.press("enter")
        await until(pilot, lambda: edited(app).corpus.source == "/data/]0;xa.txt")


async def test_joiners_are_text_in_a_field_pasted_or_typed() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        editor = await edit(pilot, "corpus.source")
        editor.post_message(Paste("/data/می\u200cخواهم"))
        editor.post_message(Key("zero_width_joiner", "\u200d"))
        await pilot.press("enter")
        await until(
            pilot,
            lambda: edited(app).corpus.source == "/data/می\u200cخواهم\u200d",
        )


async def test_keys_sent_at_once_act_in_order() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        keys = [
            *["tab"] * 5,
            "down",
            "enter",
            *"9000",
            "backspace",
            "enter",
            "down",
            "down",
            "enter",
            *"64",
            "tab",
        ]
        for key in keys:
            app.post_message(Key(key, key if len(key) == 1 else None))
        await until(
            pilot,
            lambda: edited(app).training.max_steps == 900 and edited(app).training.batch_size == 64,
        )
        await until(pilot, lambda: focused(app) == "evaluation.every")


async def test_resizing_between_narrow_and_wide_keeps_field_and_text() -> None:
    async with opened(FakeServices(), "config", run=None) as (app, pilot):
        await go(pilot, "optimizer.eps")
        await pilot.press("enter", *"1e-6")
        for size in ((120, 40), (60, 15), (80, 24), (200, 60), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: edited(app).optimizer.eps == 1e-6)
        row = pane(app).form.current
        assert row is not None
        assert row.field.path == "optimizer.eps"


@pytest.mark.parametrize("size", [(80, 16), (60, 15), (120, 18)])
async def test_after_a_resize_the_edited_field_is_visible(
    size: tuple[int, int],
) -> None:
    async with opened(FakeServices(), "config", run=None, size=(120, 60)) as (app, pilot):
        await go(pilot, "sampling.seed")
        await pilot.press("enter", *"271828")
        await pilot.resize_terminal(*size)
        await until(pilot, lambda: "271828" in screen_text(app))
