"""The fields of the config form: switches, choices, lists, any text, and browsing for one."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.events import Key, Paste

from rnnlm_tui.schema.config import CELL_SUMMARIES
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.tui.screens.choose import ChooseScreen, TextsScreen
from tests.fakes.llama_tokenizer import write_tokenizer
from tests.tui.panes.filling import edit, edited, focused, go, pane, press, write
from tests.tui.panes.seeing import screen_text, until_shown
from tests.tui.support import at_home, until


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to browse, which is the current one."""
    folder = tmp_path / "shelf"
    for name in ("novels", ".hidden"):
        (folder / name).mkdir(parents=True)
    (folder / "novels" / "emma.txt").write_text("Emma Woodhouse, handsome, clever, and rich.\n" * 9)
    (folder / "novels" / "bad.txt").write_bytes(b"\0\xff")
    (folder / "notes.txt").write_text("A note.\n")
    (folder / "bro\x1bken.txt").write_text("x")
    (folder / "dangling").symlink_to(folder / "nowhere")
    write_tokenizer(folder / "tok", ["the cat sat on the mat and the dog ran"] * 20, 300)
    monkeypatch.chdir(folder)
    return folder


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


@pytest.mark.usefixtures("shelf")
async def test_any_text_can_be_typed_pasted_and_completed_in_a_field() -> None:
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


async def test_a_text_is_chosen_by_browsing_with_a_look_at_its_tokens(shelf: Path) -> None:
    async with at_home(None, "config") as (app, pilot):
        await go(pilot, "tokenizer.kind")
        await pilot.press("left")  # words, which needn't be learned
        await go(pilot, "corpus.source")
        await press(pilot, "b", shows=("Choose a text", "novels/", "notes.txt", "dangling"))
        await until_shown(pilot, "all texts of this folder")
        assert ".hidden" not in screen_text(app)
        assert "ken.txt" not in screen_text(app)
        await press(pilot, "pagedown", shows=("presidents", "built in"))
        await pilot.press(*"nov")
        await until(pilot, lambda: "notes.txt" not in screen_text(app))
        await press(pilot, "enter", shows=("emma.txt", "bad.txt", "NUL"))
        await press(pilot, "down", shows=("first lines as tokens", "Emma·Woodhouse"))
        await pilot.press("left")  # the folder above, with the cursor where it was
        await until_shown(pilot, "notes.txt")
        await press(pilot, "right", shows="emma.txt")
        await until(pilot, lambda: "notes.txt" not in screen_text(app))
        await pilot.press("down", "enter")
        path = str(shelf / "novels" / "emma.txt")
        await until(pilot, lambda: edited(app).corpus.source == path)
        assert focused(app) == "corpus.source"
        await press(pilot, "b", shows=("Choose a text", "emma.txt"))
        await press(pilot, *"xyz", shows="nothing here has this name")
        await pilot.press("enter", "escape")
        await until(pilot, lambda: app.screen is app.pane_screen)
        assert edited(app).corpus.source == path

        await pilot.press("f6", "f6")  # a BPE learns from the text
        await go(pilot, "corpus.source")
        await press(pilot, "b", shows="notes.txt")
        await press(pilot, *"notes", shows=("too small for a BPE", "first lines as words, until"))
        await pilot.press("escape")
        await write(pilot, "tokenizer.vocab_size", "260")
        await go(pilot, "corpus.source")
        await press(pilot, "b", shows="notes.txt")
        await press(pilot, *"notes", shows="first lines as tokens")


async def test_a_tokenizer_is_chosen_by_browsing_and_its_kind_follows(shelf: Path) -> None:
    async with at_home(None, "config", size=(120, 40)) as (app, pilot):
        await write(pilot, "corpus.source", "notes.txt")
        await go(pilot, "tokenizer.vocab_size")
        await press(pilot, "b", shows=("Choose a tokenizer", "tok/", "novels/"))
        assert "notes.txt" not in screen_text(app)
        await pilot.press(*"nov")
        await until(pilot, lambda: "tok/" not in screen_text(app))
        (shelf / "novels").rename(shelf / "moved")
        await press(pilot, "enter", shows="can't list")
        await press(pilot, "ctrl+u", *"tok", shows=("first lines as tokens", "A·"))
        await pilot.press("enter")
        await until(pilot, lambda: edited(app).tokenizer.name == str(shelf / "tok"))
        await until(pilot, lambda: edited(app).tokenizer.vocab_size < 320)
        assert edited(app).tokenizer.kind == "pretrained"
        await pilot.press("f6")
        await until(pilot, lambda: edited(app).tokenizer.kind == "bpe")
