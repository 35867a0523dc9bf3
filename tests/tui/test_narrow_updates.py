"""Only changed cells are sent to the terminal, and all of them after something else has written."""

from __future__ import annotations

import random
from typing import Any, Literal

import pyte
import pytest
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from rnnlm_tui.tui._textual import SentRows
from rnnlm_tui.tui.text import cells_of

CONSOLE = Console(force_terminal=True, color_system="256")


def strip_of(text: str) -> Strip:
    return Strip([Segment(text, Style(color="white"))])


def test_a_part_of_an_unknown_row_leaves_the_rest() -> None:
    screen = pyte.Screen(12, 2)
    stream = pyte.Stream(screen)
    stream.feed("older  words")
    stream.feed(SentRows().difference(0, 7, strip_of("signs"), 12, CONSOLE))
    assert screen.display[0] == "older  signs"


JOINED = ("👩\u200d👩\u200d👧", "❤\ufe0f", "👍🏽", "🏳\ufe0f\u200d🌈", "葛\U000e0100", "か\u3099")


@pytest.mark.parametrize("sign", JOINED)
def test_a_joined_character_is_sent_whole_in_its_own_cells_and_never_cut(sign: str) -> None:
    sent = SentRows()
    sent.difference(0, 0, strip_of(f"{sign} one"), 6, CONSOLE)
    assert len(cells_of(strip_of(f"{sign} one"))) == 6
    assert sent.difference(0, 0, strip_of(f"{sign} two"), 6, CONSOLE).startswith("\x1b[1;4H"), (
        "the text begins in the fourth cell"
    )
    assert sign in sent.difference(0, 0, strip_of(f"ab{sign}on"), 6, CONSOLE)
    strip = strip_of(f"a{sign}b   c")
    cuts = [(strip.crop(0, at).text, strip.crop(at).text) for at in range(8)]
    assert cuts[3] == (f"a{sign}", "b   c")
    assert cuts[2] == ("a ", " b   c"), "half of a wide sign is a blank"
    assert [part.text for part in strip.divide([1, 3, 8])] == ["a", sign, "b   c"]


def cells(screen: pyte.Screen) -> list[object]:
    """Everything that a terminal shows of its cells; of a blank what can be seen."""
    found = [screen.buffer[0][x] for x in range(screen.columns)]
    return [
        cell
        if cell.data.strip() or cell.underscore or cell.reverse or cell.strikethrough
        else (cell.data, cell.bg)
        for cell in found
    ]


@pytest.mark.parametrize("colours", ["standard", "256", "truecolor"])
def test_a_terminal_shows_what_textual_would_send_and_is_sent_less(
    colours: Literal["standard", "256", "truecolor"],
) -> None:
    console, draw = Console(force_terminal=True, color_system=colours), random.Random(5)
    sent, ours, theirs = SentRows(), 0, 0
    narrow, whole = pyte.Screen(60, 2), pyte.Screen(60, 2)
    looks: tuple[dict[str, Any], ...] = (
        {}, {"bold": True}, {"dim": True}, {"bold": True, "underline": True}, {"reverse": True},
    )  # fmt: skip
    inks = [
        Style(color=colour, bgcolor=ground, **look)
        for colour in ("#5fd7ff", "red", "bright_black", None)
        for ground in ("#121212", "#303030", "blue", None)
        for look in looks
    ]
    segments: list[Segment] = []
    for _ in range(200):
        keep = draw.randrange(9)  # segments of the row before
        segments[keep:] = [
            Segment(draw.choice(("step", "3,751", "  ", "⣀⣤", "日本", " ", "x")), draw.choice(inks))
            for _ in range(draw.randrange(1, 12 - keep))
        ]
        strip = Strip(segments).adjust_cell_length(60, Style())
        written = sent.difference(0, 0, strip, 60, console) + sent.finish()
        rendered = "\x1b[1;1H" + strip.render(console)
        pyte.Stream(narrow).feed(written + "\x1b[2;1Hafter")
        pyte.Stream(whole).feed(rendered + "\x1b[2;1Hafter")
        assert cells(narrow) == cells(whole)
        assert sent.difference(0, 0, strip, 60, console) == ""
        ours, theirs = ours + len(written), theirs + len(rendered)
    assert ours < 0.7 * theirs
