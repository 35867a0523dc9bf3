"""Symbols become ASCII cell by cell, and cuts stay visible."""

from __future__ import annotations

import pytest
from rich.segment import Segment
from textual.color import Color

from rnnlm_tui.tui.theme import AsciiMarks


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("it was no…", "it was no~"),
        ("starting…    ", "starting...  "),
        ("small g… 5", "small g~ 5"),
        ("a…  b", "a~  b"),
        ("★ größer", "* größer"),
    ],
)
def test_cuts_stay_visible_and_nothing_moves(text: str, drawn: str) -> None:
    (segment,) = AsciiMarks().apply([Segment(text)], Color(0, 0, 0))
    assert segment.text == drawn
    assert len(drawn) == len(text)
