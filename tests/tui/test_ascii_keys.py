"""In ASCII every key has a name of its own, wherever it is shown."""

from __future__ import annotations

import re
from functools import partial
from types import SimpleNamespace

from rich.segment import Segment
from textual.color import Color

from rnnlm_tui.tui.actions import ACTIONS, key_label, shown_keys, with_ascii_keys
from rnnlm_tui.tui.theme import AsciiMarks
from tests.tui.support import running_app, shows, text_of, until

AN_ARROW = re.compile(r"(?<!\S)(\^ v|< >|> <|\^[<>^v]|\^F\d+)(?!\S)")
"""An arrow or shift as the line filter draws them."""


def test_no_name_of_a_key_is_the_name_of_another() -> None:
    keys = {key for entry in ACTIONS for key in entry.keys}
    app = SimpleNamespace(ascii_only=True)
    names = {key: shown_keys(key_label(key), app) for key in keys}
    shown = AsciiMarks().apply([Segment(name) for name in names.values()], Color(0, 0, 0))
    assert {name.text for name in shown} == set(names.values()), "nothing is left to the filter"
    assert len(set(names.values())) == len(keys)
    assert all(entry.all_keys.isascii() for entry in with_ascii_keys(ACTIONS))


async def test_footers_help_palette_guides_and_overlays_name_the_arrow_keys_in_ascii() -> None:
    async with running_app(size=(120, 40), ascii_only=True) as (app, pilot):
        for key, words in (
            ("left", "left right Move"),
            ("h", "left right step  up dn prompt"),
            ("L", "up dn scroll"),
            ("question_mark", "S-left S-right"),
            ("ctrl+p", "up dn choose"),
        ):
            await pilot.press(key)
            await until(pilot, partial(shows, app, words))
            assert AN_ARROW.findall(text_of(app)) == []
            assert text_of(app).isascii()
            await pilot.press("escape")
        await pilot.press("ctrl+p", *"guide dashboard", "enter")
        await until(pilot, lambda: "* up zooms in" in text_of(app))
        assert text_of(app).isascii()
