"""Symbols become ASCII cell by cell, and cuts stay visible."""

from __future__ import annotations

from pathlib import Path

from rich.cells import cell_len

import rnnlm_tui
from rnnlm_tui.tui.theme import SIGNS, in_ascii
from rnnlm_tui.tui.widgets.chart.raster import BLOCKS, BRAILLE

OTHERS = {*BRAILLE, *BLOCKS, *"␡␉␊␛ⁿ²", "\U0001f000"}
"""Dots of charts, which have other marks in ASCII; signs of docstrings and in texts."""


def test_cuts_stay_visible_and_nothing_moves() -> None:
    for text, drawn in (
        ("it was no…", "it was no~"),
        ("starting…    ", "starting...  "),
        ("small g… 5", "small g~ 5"),
        ("a…  b", "a~  b"),
        ("★ größer", "* größer"),
    ):
        assert in_ascii(text) == drawn
        assert len(drawn) == len(text)


def test_every_sign_of_the_app_has_an_ascii_form_of_the_same_width() -> None:
    assert all(cell_len(sign) == len(form) == 1 for sign, form in SIGNS.items())
    assert all(form.isascii() for form in SIGNS.values())
    root = Path(rnnlm_tui.__file__).parent
    for path in [*root.glob("tui/**/*.py"), *root.glob("schema/*.py")]:
        signs = {
            sign
            for sign in set(path.read_text(encoding="utf-8"))
            if sign.isprintable() and cell_len(sign) == 1 and not sign.isascii()
        }
        assert signs - set(SIGNS) - OTHERS == set(), path
