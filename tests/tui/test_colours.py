"""The app's colours: every value has a tone in every table, and the terminal sets the limit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

import rnnlm_tui.tui
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.terminal import COLOUR_NAMES, ColourName, TerminalKind, terminal_kind
from rnnlm_tui.tui.theme import (
    ANSI_DARK,
    ANSI_LIGHT,
    COLOURS_SETTING,
    DARK,
    HINT_SETTING,
    LIGHT,
    NONE,
    TABLES,
    Appearance,
    Display,
    Paint,
    Table,
    xterm_number,
)
from tests.homes import trained
from tests.tui.support import at_home, lines_of

BLACK = Color.parse("black")
XTERM = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
KINDS = {
    depth: TerminalKind(depth, light=False, braille=True)
    for depth in ("none", "16", "256", "16 million")
}


def drawn_values() -> set[str]:
    """Every colour in the app's code and style sheets."""
    folder = Path(rnnlm_tui.tui.__file__).parent
    files = [
        path
        for ending in ("*.py", "*.tcss")
        for path in folder.rglob(ending)
        if path.name != "theme.py"
    ]
    return {value for path in files for value in re.findall(r"#[0-9a-f]{6}\b", path.read_text())}


def painted(table: Table, style: Style, *, numbers: bool = False) -> Style:
    """What is sent for a cell of that style."""
    [segment] = Paint(table, numbers=numbers).apply([Segment("x", style)], BLACK)
    assert segment.style is not None
    return segment.style


def brightness(value: str) -> float:
    """Relative luminance, as in the accessibility guidelines."""
    channels = [part / 255 for part in Color.parse(value).rgb]
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in channels
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21."""
    bright, dark = sorted((brightness(one), brightness(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_every_drawn_colour_has_a_tone_in_every_table() -> None:
    for name in COLOUR_NAMES:
        assert drawn_values() <= set(TABLES[name]), name


@pytest.mark.parametrize("table", [DARK, LIGHT], ids=["dark", "light"])
def test_with_256_colours_every_value_is_sent_by_its_number(table: Table) -> None:
    for value, tone in table.items():
        assert tone.colour is not None
        number = xterm_number(tone.colour)
        assert number is not None, f"{tone.colour} for {value} is none of the 256"
        sent = painted(table, Style(color=value), numbers=True).color
        assert sent == Style(color=f"color({number})").color


SIDE_GROUNDS = [ground for bands in palette.SIDE_BANDS for ground in bands]
"""Backgrounds with bright text on them."""


@pytest.mark.parametrize("table", [ANSI_DARK, ANSI_LIGHT], ids=["dark", "light"])
def test_sixteen_colours_are_the_terminals_own_by_name(table: Table) -> None:
    for value in table:
        style = painted(table, Style(color=value, bgcolor=palette.BACKGROUND))
        assert style.bgcolor is None
        assert style.color is None or (style.color.number is not None and style.color.number < 16)


def test_without_colour_marked_cells_are_inverse_or_underlined() -> None:
    for value in NONE:
        for style in (
            Style(color=value, bgcolor=palette.BACKGROUND, bold=True),
            Style(color=palette.BACKGROUND, bgcolor=value),
        ):
            assert (painted(NONE, style).color, painted(NONE, style).bgcolor) == (None, None)
    assert painted(NONE, Style(color=palette.BACKGROUND, bgcolor=palette.BRIGHT)).reverse
    assert painted(NONE, Style(color=palette.BRIGHT, bgcolor=palette.SELECTED)).underline
    marked = Style(color=palette.BRIGHT, bgcolor=palette.RAW)
    assert painted(NONE, marked).reverse
    assert not painted(NONE, marked + Style(reverse=True)).reverse
    assert painted(NONE, Style(color=palette.DIM)).dim
    assert not painted(NONE, Style(color=palette.TEXT)).dim


def test_on_a_bright_background_text_and_lines_have_contrast() -> None:
    tones: Mapping[str, str] = {
        value: tone.colour for value, tone in LIGHT.items() if tone.colour is not None
    }
    ground = tones[palette.BACKGROUND]
    names = ["TEXT", "DIM", "BRIGHT", "FOCUS", "THIRD", "GOOD", "WARN", "BAD", "FAINT", "LABEL"]
    words = [getattr(palette, name) for name in names]
    assert [value for value in words if contrast(tones[value], ground) < 4.5] == []
    assert contrast(tones[palette.VALIDATION], ground) > 4
    assert [
        value
        for value in tones
        if value not in (palette.BACKGROUND, palette.FIELD, palette.SELECTED)
        and value not in SIDE_GROUNDS
        and contrast(tones[value], ground) < 1.6
    ] == []


@pytest.mark.parametrize(("table", "least"), [(DARK, 4.0), (LIGHT, 5.5)], ids=["dark", "light"])
def test_text_that_a_side_predicts_better_can_be_read(table: Table, least: float) -> None:
    text = table[palette.BRIGHT].colour or ""
    found = {value: contrast(text, table[value].colour or "") for value in SIDE_GROUNDS}
    assert {value: ratio for value, ratio in found.items() if ratio < least} == {}


def test_an_unknown_colour_and_a_cell_without_style_are_drawn() -> None:
    for table in TABLES.values():
        style = painted(table, Style(color="#5fd7fe"))
        assert style.color == painted(table, Style(color=palette.FOCUS)).color
        assert Paint(table).apply([Segment("x", None)], BLACK)[0].style is not None


@pytest.mark.parametrize(
    ("environment", "depth", "colours"),
    [
        (XTERM, "256", "dark"),
        ({**XTERM, "COLORTERM": "truecolor"}, "16 million", "dark"),
        ({**XTERM, "COLORFGBG": "0;15"}, "256", "light"),
        ({**XTERM, "NO_COLOR": "1"}, "none", "none"),
        ({**XTERM, "NO_COLOR": ""}, "256", "dark"),
        ({"TERM": "screen"}, "16", "ansi-dark"),
        ({"TERM": "screen", "COLORFGBG": "0;default;15"}, "16", "ansi-light"),
        ({"TERM": "linux"}, "16", "ansi-dark"),
        ({"TERM": "xterm-kitty"}, "256", "dark"),
        ({"TERM": "screen-256color-bce"}, "256", "dark"),
        ({"TERM": "dumb"}, "none", "none"),
        ({"TERM": "vt100"}, "none", "none"),
        ({}, "none", "none"),
    ],
)
def test_the_terminal_says_how_many_colours_it_has(
    environment: Mapping[str, str], depth: str, colours: str
) -> None:
    kind = terminal_kind(environment, listed=lambda _term: 8)
    assert (kind.depth, kind.colours()) == (depth, colours)


def test_an_unknown_terminal_has_the_colours_of_terminfo() -> None:
    assert (
        terminal_kind({"TERM": "alacritty"}, listed={"alacritty": 256}.__getitem__).depth == "256"
    )
    assert terminal_kind({"TERM": "alacritty"}, listed=lambda _term: -1).depth == "16"


@pytest.mark.parametrize(
    ("environment", "encoding", "braille"),
    [
        ({"LANG": "en_US.UTF-8"}, "utf-8", True),
        ({}, "utf-8", True),
        ({"LC_CTYPE": "C.UTF-8"}, "utf-8", True),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, "utf-8", False),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "C"}, "utf-8", False),
        ({"LANG": "C", "LC_ALL": "C.utf8"}, "utf-8", True),
        ({"LANG": "de_DE.ISO-8859-1"}, "iso-8859-1", False),
        ({"LANG": "en_US.UTF-8"}, "ascii", False),
        ({"LANG": "en_US.UTF-8", "TERM": "linux"}, "utf-8", False),
        ({"LANG": "en_US.UTF-8"}, "", False),
    ],
)
def test_braille_is_drawn_only_where_it_can_be_shown(
    environment: Mapping[str, str], encoding: str, braille: bool
) -> None:
    assert terminal_kind({"TERM": "xterm-256color", **environment}, encoding).braille is braille


def test_chosen_colours_are_kept_within_the_terminals_limit() -> None:
    def colours(wanted: ColourName | None) -> list[ColourName]:
        return [kind.colours(wanted, "light") for kind in KINDS.values()]

    assert colours(None) == ["none", "ansi-light", "light", "light"]
    assert colours("dark") == ["dark", "ansi-dark", "dark", "dark"]
    settings: dict[str, object] = {COLOURS_SETTING: "light"}
    look = Appearance(Display(KINDS["256"]), settings)
    assert look.colours == "light"
    assert look.next() == "ansi-dark"
    assert settings[COLOURS_SETTING] == "ansi-dark"
    assert Appearance(Display(KINDS["256"]), {COLOURS_SETTING: "mauve"}).colours == "dark"


def test_with_16_colours_a_hint_about_more_is_shown_once() -> None:
    settings: dict[str, object] = {}
    kind = terminal_kind({"TERM": "screen", "TMUX": "/tmp/tmux"}, listed=lambda _term: 8)
    assert "tmux-256color" in Appearance(Display(kind), settings).hint()
    assert settings == {HINT_SETTING: True}
    assert Appearance(Display(kind), settings).hint() == ""
    assert Appearance(Display(kind, "ansi-dark"), {}).hint() == ""
    assert Appearance(Display(KINDS["256"]), {}).hint() == ""


async def test_the_theme_command_steps_through_the_colours_and_repaints() -> None:
    trained("plain-otter")
    async with at_home(pane="train") as (app, pilot):
        seen: list[str] = []
        for _ in COLOUR_NAMES:
            app.action_next_theme()
            await pilot.pause()
            seen.append(app.appearance.colours)
            assert lines_of(app)[-1].startswith(" · colours: ")
            for strip in app.screen._compositor.render_strips():
                tones = {tone.colour for tone in TABLES[app.appearance.colours].values()}
                values = {
                    segment.style.color.name if segment.style.color else None
                    for segment in strip
                    if segment.style is not None
                }
                assert values <= tones | {None}
        assert seen == ["light", "ansi-dark", "ansi-light", "none", "dark"]
        assert app.settings[COLOURS_SETTING] == "dark"


def test_no_compared_run_has_the_colour_of_validation_or_of_another_run() -> None:
    assert len(set(palette.MARK_COLOURS)) == len(palette.MARK_COLOURS) == 8
    assert not {palette.VALIDATION, palette.BASELINE, palette.BAD} & set(palette.MARK_COLOURS)
    for table in (LIGHT, ANSI_DARK, ANSI_LIGHT):
        tones = [table[colour] for colour in palette.MARK_COLOURS]
        assert len(set(tones)) == 8
        assert table[palette.VALIDATION] not in tones
