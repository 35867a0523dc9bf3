"""The app's colours: every value has a tone in every table, and the terminal sets the limit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from rich.segment import Segment
from rich.style import Style
from textual.color import Color

import rnnlm_tui.tui
from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.terminal import COLOUR_NAMES, ColourName, Depth, TerminalKind, terminal_kind
from rnnlm_tui.tui.theme import (
    ANSI_DARK,
    ANSI_LIGHT,
    COLOURS_SETTING,
    DARK,
    HINT_SETTING,
    LIGHT,
    NONE,
    SIGNS,
    TABLES,
    Appearance,
    Paint,
    Table,
    xterm_number,
)
from rnnlm_tui.tui.views.status import status_colour
from tests.homes import trained
from tests.tui.pictures import cells_on
from tests.tui.support import at_home, lines_of

BLACK = Color.parse("black")
XTERM = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}
SIDE_GROUNDS = [ground for bands in palette.SIDE_BANDS for ground in bands]
"""Backgrounds with bright text on them."""


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


def test_every_drawn_colour_has_a_tone_that_the_terminal_has() -> None:
    folder = Path(rnnlm_tui.tui.__file__).parent
    files = {*folder.rglob("*.py"), *folder.rglob("*.tcss")} - {folder / "theme.py"}
    drawn = {value for file in files for value in re.findall(r"#[0-9a-f]{6}\b", file.read_text())}
    for table in (DARK, LIGHT, NONE):
        assert drawn <= set(table)
    for table in (DARK, LIGHT):
        for value, tone in table.items():
            assert tone.color is not None
            number = xterm_number(tone.color.name)
            assert number is not None, f"{tone.color} for {value} is none of the 256"
            sent = painted(table, Style(color=value), numbers=True).color
            assert sent == Style(color=f"color({number})").color
    for table in (ANSI_DARK, ANSI_LIGHT):
        for value in drawn:
            style = painted(table, Style(color=value, bgcolor=palette.BACKGROUND))
            assert style.bgcolor is None
            assert style.color is None or style.color.number in range(16)
    for table in TABLES.values():
        unknown = painted(table, Style(color="#5fd7fe"))
        assert unknown.color == painted(table, Style(color=palette.FOCUS)).color, "the nearest"
        assert Paint(table).apply([Segment("x", None)], BLACK)[0].style is not None


def test_texts_and_lines_have_contrast_on_bright_and_on_marked_backgrounds() -> None:
    tones = {value: tone.color.name for value, tone in LIGHT.items() if tone.color is not None}
    grounds = (palette.BACKGROUND, palette.FIELD, palette.SELECTED, *SIDE_GROUNDS)
    roles = ["TEXT", "DIM", "BRIGHT", "FOCUS", "THIRD", "GOOD", "WARN", "BAD", "FAINT", "LABEL"]
    least = dict.fromkeys(set(tones) - set(grounds), 1.6)
    least |= dict.fromkeys((getattr(palette, name) for name in roles), 4.5)
    least[palette.VALIDATION] = 4.0
    ground = tones[palette.BACKGROUND]
    assert [value for value in least if contrast(tones[value], ground) < least[value]] == []
    for table, lowest in ((DARK, 4.0), (LIGHT, 5.5)):
        names = {value: look.color.name for value, look in table.items() if look.color}
        for value in SIDE_GROUNDS:
            assert contrast(names[palette.BRIGHT], names[value]) >= lowest, value


def test_the_terminal_says_how_many_colours_it_has_and_whether_it_shows_braille() -> None:
    for environment, depth, colours in (
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
    ):
        kind = terminal_kind(environment, listed=lambda _term: 8)
        assert (kind.depth, kind.colours()) == (depth, colours), environment
    of_terminfo = {"alacritty": 256, "foot": -1}.__getitem__
    assert terminal_kind({"TERM": "alacritty"}, listed=of_terminfo).depth == "256"
    assert terminal_kind({"TERM": "foot"}, listed=of_terminfo).depth == "16"
    for environment, encoding, braille in (
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
    ):
        kind = terminal_kind({"TERM": "xterm-256color", **environment}, encoding)
        assert kind.braille is braille, environment


def test_chosen_colours_are_kept_within_the_terminals_limit_which_is_named_once() -> None:
    def colours(wanted: ColourName | None) -> list[ColourName]:
        kinds = (TerminalKind(depth, light=False, braille=True) for depth in get_args(Depth))
        return [kind.colours(wanted, "light") for kind in kinds]

    assert colours(None) == ["none", "ansi-light", "light", "light"]
    assert colours("dark") == ["dark", "ansi-dark", "dark", "dark"]
    many = terminal_kind(XTERM)
    settings: dict[str, object] = {COLOURS_SETTING: "light"}
    look = Appearance(settings, many)
    assert (look.colours, look.next(), settings[COLOURS_SETTING]) == (
        "light", "ansi-dark", "ansi-dark",
    )  # fmt: skip
    assert Appearance({COLOURS_SETTING: "mauve"}, many).colours == "dark"
    assert Appearance({}, many).hint() == ""
    few = terminal_kind({"TERM": "screen", "TMUX": "/tmp/tmux"}, listed=lambda _term: 8)
    settings = {}
    assert "tmux-256color" in Appearance(settings, few).hint()
    assert settings == {HINT_SETTING: True}
    assert Appearance(settings, few).hint() == ""
    assert Appearance({}, few, "ansi-dark").hint() == ""


async def test_the_theme_command_steps_through_the_colours_and_repaints() -> None:
    trained("plain-otter")
    async with at_home(pane="train") as (app, pilot):
        seen: list[str] = []
        for _ in COLOUR_NAMES:
            app.action_next_theme()
            await pilot.pause()
            seen.append(app.appearance.colours)
            assert lines_of(app)[-1].startswith(" · colours: ")
            looks = TABLES[app.appearance.colours].values()
            tones = {look.color.name for look in looks if look.color}
            styles = [style for row in cells_on(app) for _, style in row if style is not None]
            assert {style.color.name for style in styles if style.color} <= tones
        assert seen == ["light", "ansi-dark", "ansi-light", "none", "dark"]
        assert app.settings[COLOURS_SETTING] == "dark"


def test_no_compared_run_has_the_colour_of_validation_or_of_another_run() -> None:
    assert len(set(palette.MARK_COLOURS)) == len(palette.MARK_COLOURS) == 8
    assert not {palette.VALIDATION, palette.BASELINE, palette.BAD} & set(palette.MARK_COLOURS)
    for table in (LIGHT, ANSI_DARK, ANSI_LIGHT):
        tones = [table[colour] for colour in palette.MARK_COLOURS]
        assert len(set(tones)) == 8
        assert table[palette.VALIDATION] not in tones


def test_every_status_has_a_glyph_of_its_own_in_ascii_too_and_only_failures_are_red() -> None:
    statuses: tuple[RunStatus, ...] = get_args(RunStatus)
    glyphs = [palette.STATUS_GLYPHS[status][0] for status in statuses]
    assert len({SIGNS.get(glyph, glyph) for glyph in glyphs}) == len(glyphs)
    loud = {status for status in statuses if status_colour(status) == palette.BAD}
    assert loud == {"failed", "crashed"}
