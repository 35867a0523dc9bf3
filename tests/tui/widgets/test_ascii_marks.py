"""Symbols become ASCII cell by cell, and cuts stay visible."""

from __future__ import annotations

import ast
from pathlib import Path

from rich.cells import cell_len

import rnnlm_tui
from rnnlm_tui.tui.theme import SIGNS, in_ascii
from rnnlm_tui.tui.widgets.chart.raster import BLOCKS, BRAILLE

OTHERS = {*BRAILLE, *BLOCKS, "␡", "\U0001f000"}
"""Dots of charts, which have other marks in ASCII; a sign and the start of a range in texts."""


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
    known = {*SIGNS, *OTHERS}
    for path in [*root.glob("tui/**/*.py"), *root.glob("schema/*.py")]:
        source = path.read_text(encoding="utf-8")
        if not _signs(source) - known:
            continue
        nodes = list(ast.walk(ast.parse(source)))
        docstrings = {node.value for node in nodes if isinstance(node, ast.Expr)}
        constants = (
            node.value
            for node in nodes
            if isinstance(node, ast.Constant) and node not in docstrings
        )
        assert _signs("".join(map(str, constants))) <= known, path


def _signs(text: str) -> set[str]:
    return {
        sign
        for sign in set(text)
        if sign.isprintable() and cell_len(sign) == 1 and not sign.isascii()
    }
