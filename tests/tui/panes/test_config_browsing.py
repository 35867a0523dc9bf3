"""Browsing for a text or a tokenizer from the config pane."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.llama_tokenizer import write_tokenizer
from tests.tui.panes.filling import edited, focused, go, press, write
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
