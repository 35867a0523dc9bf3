"""Browsing for a text or a tokenizer from the config pane."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rnnlm_tui.client.corpora import Preview
from rnnlm_tui.errors import CorpusError
from rnnlm_tui.schema.config import RunConfig
from tests.tui.fakes import FakeServices
from tests.tui.panes.filling import edited, focused, go
from tests.tui.panes.seeing import opened, screen_text, until_shown
from tests.tui.support import until

SPLIT = Preview("sentences", "", (("It", " is", " nov", "el", "."),), exact=True)


class Looking(FakeServices):
    """Services that show every text in the same words and tokens."""

    def preview(self, config: RunConfig) -> Preview | None:
        if config.corpus.source.endswith("bad.txt"):
            raise CorpusError("bad.txt is not text")
        return Preview("sentences", "", (("It", " is", " novel", "."),), exact=False)

    def token_preview(self, config: RunConfig, cancelled: Callable[[], bool]) -> Preview | None:
        return None if cancelled() else SPLIT

    def tokenizer_size(self, tokenizer: object) -> int | None:
        return 320


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to browse, which is the current one."""
    folder = tmp_path / "shelf"
    for name in ("novels", "tok", ".hidden"):
        (folder / name).mkdir(parents=True)
    (folder / "novels" / "emma.txt").write_text("Emma Woodhouse, handsome, clever, and rich.\n" * 9)
    (folder / "novels" / "bad.txt").write_bytes(b"\0\xff")
    (folder / "notes.txt").write_text("A note.\n")
    (folder / "bro\x1bken.txt").write_text("x")
    (folder / "dangling").symlink_to(folder / "nowhere")
    (folder / "tok" / "tokenizer.json").write_text("{}")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_text_is_chosen_by_browsing_with_a_look_at_its_tokens(
    shelf: Path, size: tuple[int, int]
) -> None:
    async with opened(Looking(), "config", run=None, size=size) as (app, pilot):
        await go(pilot, "corpus.source")
        await pilot.press("b")
        await until_shown(pilot, "Choose a text", "novels/", "notes.txt", "dangling")
        await until_shown(pilot, "all texts of this folder")
        assert ".hidden" not in screen_text(app)
        assert "ken.txt" not in screen_text(app)
        await pilot.press("pagedown")
        await until_shown(pilot, "presidents", "built in")
        await pilot.press(*"nov")
        await until(pilot, lambda: "notes.txt" not in screen_text(app))
        await pilot.press("enter")
        await until_shown(pilot, "emma.txt", "bad.txt", "bad.txt is not text")
        await pilot.press("down")
        await until_shown(pilot, "first lines as tokens", "It·is·novel.")
        await pilot.press("left")  # the folder above, with the cursor where it was
        await until_shown(pilot, "notes.txt")
        await pilot.press("right")
        await until_shown(pilot, "emma.txt")
        await until(pilot, lambda: "notes.txt" not in screen_text(app))
        await pilot.press("down", "enter")
        path = str(shelf / "novels" / "emma.txt")
        await until(pilot, lambda: edited(app).corpus.source == path)
        assert focused(app) == "corpus.source"
        await pilot.press("b")
        await until_shown(pilot, "Choose a text", "emma.txt")
        await pilot.press("x", "y", "z")
        await until_shown(pilot, "nothing here has this name")
        await pilot.press("enter", "escape")
        await until(pilot, lambda: app.screen is app.pane_screen)
        assert edited(app).corpus.source == path


async def test_a_tokenizer_is_chosen_by_browsing_and_its_kind_follows(shelf: Path) -> None:
    async with opened(Looking(), "config", run=None) as (app, pilot):
        await go(pilot, "tokenizer.vocab_size")
        await pilot.press("b")
        await until_shown(pilot, "Choose a tokenizer", "tok/", "novels/")
        assert "notes.txt" not in screen_text(app)
        await pilot.press(*"tok")
        await until_shown(pilot, "first lines as tokens")
        await pilot.press("enter")
        await until(
            pilot,
            lambda: (
                edited(app).tokenizer.name == str(shelf / "tok")
                and edited(app).tokenizer.kind == "pretrained"
                and edited(app).tokenizer.vocab_size == 320
            ),
        )
        await pilot.press("f6")
        await until(pilot, lambda: edited(app).tokenizer.kind == "bpe")


async def test_a_folder_that_cannot_be_listed_is_reported(shelf: Path) -> None:
    async with opened(Looking(), "config", run=None) as (app, pilot):
        await pilot.press("b", *"nov")
        await until(pilot, lambda: "notes.txt" not in screen_text(app))
        (shelf / "novels").rename(shelf / "moved")
        await pilot.press("enter")
        await until_shown(pilot, "can't list")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is app.pane_screen)
