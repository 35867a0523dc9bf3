"""How the app looks: its theme, its colours for each kind of terminal, and ASCII symbols.

Widgets use one palette, exact values of xterm's 256 colours. Everything sent to the terminal passes
line filters, which replace each value by that of the chosen table. So nothing is ever blended, and
no widget has to know the colours in use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.color import Color
from textual.filter import LineFilter
from textual.theme import Theme

from rnnlm_tui.schema.formatting import UNSAFE
from rnnlm_tui.tui import palette
from rnnlm_tui.tui._textual import all_screens
from rnnlm_tui.tui.terminal import COLOUR_NAMES, ColourName, TerminalKind
from rnnlm_tui.tui.widgets.panel import Panel

THEME = Theme(
    name="rnnlm",
    primary=palette.FOCUS,
    secondary=palette.THIRD,
    accent=palette.FOCUS,
    warning=palette.WARN,
    error=palette.BAD,
    success=palette.GOOD,
    foreground=palette.TEXT,
    background=palette.BACKGROUND,
    surface=palette.BACKGROUND,
    panel=palette.FIELD,
    boost=palette.FIELD,
    dark=True,
    variables={
        "field": palette.FIELD,
        "selected": palette.SELECTED,
        "line": palette.BORDER,
        "focus": palette.FOCUS,
        "dim": palette.DIM,
        "bright": palette.BRIGHT,
        "block-cursor-background": palette.SELECTED,
        "block-cursor-foreground": palette.BRIGHT,
        "block-cursor-blurred-background": palette.SELECTED,
        "block-cursor-blurred-foreground": palette.TEXT,
        "block-cursor-blurred-text-style": "none",
        "block-hover-background": palette.FIELD,
        "border": palette.FOCUS,
        "border-blurred": palette.BORDER,
        "input-cursor-background": palette.FOCUS,
        "input-cursor-foreground": palette.BACKGROUND,
        "input-selection-background": palette.RAW,
        "input-selection-foreground": palette.BRIGHT,
        "scrollbar": palette.BORDER,
        "scrollbar-hover": palette.DIM,
        "scrollbar-active": palette.DIM,
        "scrollbar-background": palette.BACKGROUND,
        "scrollbar-background-hover": palette.BACKGROUND,
        "scrollbar-background-active": palette.BACKGROUND,
        "scrollbar-corner-color": palette.BACKGROUND,
        "text": palette.TEXT,
        "text-muted": palette.DIM,
        "text-disabled": palette.DIM,
    },
)


@dataclass(frozen=True, slots=True)
class Tone:
    """What replaces one value of the palette."""

    colour: str | None
    """Rich's name of the colour; None: the terminal's own."""
    dim: bool = False
    """Half brightness."""
    reverse: bool = False
    """As a background: text and background are swapped."""
    underline: bool = False
    """As a background: the text on it is underlined."""


Table = Mapping[str, Tone]
"""A tone for each value of the palette (`#rrggbb`)."""

_OWN, _FAINT, _LINED = Tone(None), Tone(None, dim=True), Tone(None, underline=True)


def _table(*rows: tuple[str | Tone, tuple[str, ...]]) -> Table:
    """Build a table from tones or colours and the values that they replace."""
    return {
        value: Tone(tone) if isinstance(tone, str) else tone
        for tone, values in rows
        for value in values
    }


_BANDS = {
    colour: palette.band_of(colour)
    for colour in (palette.VALIDATION, palette.THIRD, palette.GOOD, palette.WARN, palette.BAD)
}
_WHITES = (palette.BRIGHT, palette.NEARLY_BRIGHT)
_FAINT_WORDS = (palette.DIM, palette.FAINT, palette.BASELINE)
_PINK, _BLUE, _, _TEAL, _TAN = palette.MARK_COLOURS[3:]
_HOT, _HOTTEST = palette.SURPRISE[3:]
_SKY, _SEA, _AMBER = palette.DIVERGING[1], palette.DIVERGING[2], palette.DIVERGING[7]
_BAND_A, _BAND_B, _BAND_C, _BAND_D = (
    tuple(value for value in bands if value not in (*_BANDS.values(), *palette.DIVERGING))
    for bands in palette.SIDE_BANDS
)
_SIDE_BANDS = (*_BAND_A, *_BAND_B, *_BAND_C, *_BAND_D)
"""Without those that have another use too."""

LIGHT: Table = _table(
    ("#eeeeee", (palette.BACKGROUND,)),
    ("#e4e4e4", (palette.FIELD,)),
    ("#d7d7d7", (palette.SELECTED,)),
    ("#b2b2b2", (palette.BORDER,)),
    ("#303030", (palette.TEXT, palette.LABEL)),
    ("#000000", _WHITES),
    ("#585858", _FAINT_WORDS),
    ("#a8a8a8", (palette.GREY,)),
    ("#005faf", (palette.FOCUS, palette.TRAIN)),
    ("#87afd7", (palette.RAW,)),
    ("#af5f00", (palette.VALIDATION,)),
    ("#d7af87", (_BANDS[palette.VALIDATION],)),
    ("#8700af", (palette.THIRD,)),
    ("#af87af", (_BANDS[palette.THIRD],)),
    ("#005f00", (palette.GOOD,)),
    ("#87af87", (_BANDS[palette.GOOD],)),
    ("#5f5f00", (palette.WARN,)),
    ("#afaf5f", (_BANDS[palette.WARN],)),
    ("#af0000", (palette.BAD,)),
    ("#d78787", (_BANDS[palette.BAD],)),
    ("#af005f", (_PINK,)),
    ("#5f00ff", (_BLUE,)),
    ("#875f00", (_TAN,)),
    ("#008787", (_TEAL,)),
    ("#d78700", (_HOT,)),
    ("#d75f00", (_HOTTEST, _AMBER)),
    ("#5f87d7", (_SEA,)),
    ("#0087d7", (_SKY,)),
    *zip(("#d7ffff", "#afd7d7"), ((value,) for value in _BAND_A), strict=True),
    *zip(("#ffd7ff", "#d7afff", "#d787d7"), ((value,) for value in _BAND_B), strict=True),
    *zip(("#afd7af", "#87d787"), ((value,) for value in _BAND_C), strict=True),
    *zip(("#ffafaf", "#ff8787"), ((value,) for value in _BAND_D), strict=True),
)
"""For bright backgrounds: exact values of the 256 too."""

ANSI_DARK: Table = _table(
    (_OWN, (palette.BACKGROUND, palette.FIELD, palette.TEXT, palette.LABEL)),
    (_LINED, (palette.SELECTED,)),
    (_FAINT, (palette.BORDER, palette.GREY, *_FAINT_WORDS)),
    ("bright_white", _WHITES),
    ("bright_cyan", (palette.FOCUS, palette.TRAIN)),
    ("blue", (palette.RAW,)),
    ("yellow", (palette.VALIDATION,)),
    (Tone("yellow", dim=True), (_BANDS[palette.VALIDATION], _BANDS[palette.WARN])),
    ("bright_magenta", (palette.THIRD,)),
    ("magenta", (_BANDS[palette.THIRD], _PINK)),
    ("bright_blue", (_BLUE,)),
    ("white", (_TAN,)),
    ("cyan", (_TEAL,)),
    ("bright_green", (palette.GOOD,)),
    ("green", (_BANDS[palette.GOOD],)),
    ("bright_yellow", (palette.WARN,)),
    ("bright_red", (palette.BAD,)),
    ("red", (_BANDS[palette.BAD], _HOTTEST, *_BAND_D)),
    ("yellow", (_HOT, _AMBER)),
    ("blue", (_SEA,)),
    ("cyan", (_SKY,)),
    ("cyan", _BAND_A),
    ("magenta", _BAND_B),
    ("green", _BAND_C),
)
"""For the 16 colours, which each terminal defines itself.

Faint text is at half brightness and a selected row is underlined: bright black is the background in
some terminals, and too bright for text in others.
"""

ANSI_LIGHT: Table = _table(
    (_OWN, (palette.BACKGROUND, palette.FIELD, palette.TEXT, palette.LABEL, *_WHITES)),
    (_LINED, (palette.SELECTED,)),
    (_FAINT, (palette.BORDER, palette.GREY, *_FAINT_WORDS)),
    ("blue", (palette.FOCUS, palette.TRAIN)),
    ("cyan", (palette.RAW,)),
    ("magenta", (palette.VALIDATION,)),
    (Tone("magenta", dim=True), (_BANDS[palette.VALIDATION],)),
    ("cyan", (palette.THIRD,)),
    (Tone("cyan", dim=True), (_BANDS[palette.THIRD],)),
    ("green", (palette.GOOD,)),
    (Tone("green", dim=True), (_BANDS[palette.GOOD],)),
    ("red", (palette.WARN, palette.BAD)),
    ("bright_red", (_PINK,)),
    ("bright_blue", (_BLUE,)),
    ("bright_magenta", (_TAN,)),
    (Tone("green", dim=True), (_TEAL,)),
    (Tone("red", dim=True), (_BANDS[palette.WARN], _BANDS[palette.BAD])),
    ("red", (_HOTTEST,)),
    ("magenta", (_HOT, _AMBER)),
    ("blue", (_SEA, _SKY)),
    ("cyan", _BAND_A),
    ("magenta", _BAND_B),
    ("green", _BAND_C),
    ("red", _BAND_D),
)
"""The same on a bright background, without the six that vanish on white."""

NONE: Table = _table(
    (_OWN, (palette.BACKGROUND, palette.FIELD, palette.TEXT, palette.LABEL, *_WHITES)),
    (_LINED, (palette.SELECTED,)),
    (
        _OWN,
        (
            palette.FOCUS,
            palette.TRAIN,
            palette.VALIDATION,
            palette.THIRD,
            palette.GOOD,
            palette.WARN,
            palette.BAD,
            _PINK,
            _BLUE,
            _TEAL,
            _TAN,
            _HOT,
            _HOTTEST,
            _AMBER,
            _SEA,
            _SKY,
        ),
    ),
    (_FAINT, (palette.BORDER, palette.GREY, *_FAINT_WORDS, *_BANDS.values())),
    (_OWN, _SIDE_BANDS),
    (Tone(None, dim=True, reverse=True), (palette.RAW,)),
)
"""No colour: words, glyphs, bold and half brightness are enough.

A selected row is underlined, marked text inverse.
"""

DARK: Table = _table(*((value, (value,)) for value in LIGHT))
"""The palette itself."""

TABLES: Mapping[ColourName, Table] = {
    "dark": DARK,
    "light": LIGHT,
    "ansi-dark": ANSI_DARK,
    "ansi-light": ANSI_LIGHT,
    "none": NONE,
}
"""Every choice, in the order of the action."""

COLOUR_WORDS: Mapping[ColourName, str] = {
    "dark": "dark", "light": "light", "ansi-dark": "the terminal's 16, dark",
    "ansi-light": "the terminal's 16, light", "none": "none",
}  # fmt: skip
"""The name of each, as shown to the user."""


def colour_name(text: object) -> ColourName | None:
    """Return the choice with this name, None if there is none."""
    return next((name for name in COLOUR_NAMES if name == text), None)


LEVELS = (0, 95, 135, 175, 215, 255)
"""Values of red, green and blue in the colour cube of xterm's 256."""


def xterm_number(value: str) -> int | None:
    """Return the number, 16 to 255, of a colour (`#rrggbb`) of xterm's 256; None for any other."""
    red, green, blue = Color.parse(value).rgb
    if red == green == blue and red % 10 == 8 and 8 <= red <= 238:
        return 232 + (red - 8) // 10
    if {red, green, blue} <= set(LEVELS):
        return 16 + 36 * LEVELS.index(red) + 6 * LEVELS.index(green) + LEVELS.index(blue)
    return None


class Paint(LineFilter):
    """The first of the app's line filters: replaces palette values by the table's.

    Any other value becomes the nearest one in the table.
    """

    def __init__(self, table: Table, *, numbers: bool = False) -> None:
        """With `numbers`, colours are sent by their number of the 256.

        Given values, Rich sends half of the greys one step off.
        """
        super().__init__()
        self._table = (
            {value: _by_number(tone) for value, tone in table.items()} if numbers else table
        )
        self._styles: dict[Style | None, Style] = {None: Style()}

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        """Return the same cells in the table's colours."""
        styles = self._styles
        painted: list[Segment] = []
        for text, style, control in segments:
            if style not in styles:
                styles[style] = self._painted(style) if style is not None else Style()
            painted.append(Segment(text, styles[style], control))
        return painted

    def _painted(self, style: Style) -> Style:
        over, under, inverse = style.color, style.bgcolor, bool(style.reverse)
        if (
            over is not None
            and under is not None
            and over.triplet is not None
            and over.triplet.hex == palette.BACKGROUND
        ):
            # text in the background's colour: inverse in any table
            over, under, inverse = (under, over, not inverse)
        sign, ground = self._tone(over), self._tone(under)
        return Style(
            color=sign.colour, bgcolor=ground.colour, bold=style.bold,
            dim=sign.dim and not ground.reverse, reverse=inverse != ground.reverse,
            italic=style.italic, underline=style.underline or ground.underline, strike=style.strike,
        )  # fmt: skip

    def _tone(self, colour: RichColor | None) -> Tone:
        if colour is None or colour.triplet is None:
            return Tone(None if colour is None or colour.is_default else colour.name)
        tone = self._table.get(colour.triplet.hex)
        if tone is None:
            red, green, blue = colour.triplet
            nearest = min(
                self._table,
                key=lambda value: sum(
                    (a - b) ** 2
                    for a, b in zip(Color.parse(value).rgb, (red, green, blue), strict=True)
                ),
            )
            tone = self._table[nearest]
        return tone


def _by_number(tone: Tone) -> Tone:
    number = (
        xterm_number(tone.colour)
        if tone.colour is not None and tone.colour.startswith("#")
        else None
    )
    return tone if number is None else replace(tone, colour=f"color({number})")


SIGNS: dict[str, str] = {
    "›": ">", "●": "*", "○": "o", "◌": "~", "◐": "%", "‖": "=", "✓": "+", "✗": "x", "■": "-",
    "◍": "&", "▾": "v", "▴": "^", "★": "*", "▸": ">", "⚑": "#", "∑": "S", "↻": "r",
    "∞": "?", "‹": "<", "⇧": "^", "▌": "|", "█": "_", "━": "=", "╍": "~", "─": "-", "│": "|",
    "╭": "+", "╮": "+", "╰": "+", "╯": "+", "…": "~", "·": ".", "–": "-", "−": "-",
    "’": "'", "‘": "'",
    "≈": "~", "×": "x", "±": "+", "Δ": "d", "→": ">", "←": "<", "↑": "^", "↓": "v", "▼": "v",
    "▲": "^", "¶": "|", "°": " ", "↵": "$", "␍": "r",
    "•": "*", "┌": "+", "┐": "+", "└": "`", "┘": "+", "├": "|", "┤": "+", "┬": "+", "┴": "+",
    "┼": "+",
    "╎": ":", "‥": ":", "“": '"', "”": '"',
    "▁": " ", "▂": " ", "▃": " ", "▄": " ", "▅": " ", "▆": " ", "▇": " ",
}  # fmt: skip
"""One cell for one cell, so nothing moves. The partial blocks at a scroll bar's ends become blanks.
"""


class AsciiMarks(LineFilter):
    """The line filter of ASCII mode, so that widgets draw in Unicode always.

    Only charts, which have other shapes, and names of keys, which are longer, differ before it.
    Letters in texts are left alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self._table = str.maketrans(SIGNS)

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        """Replace symbols in the segments.

        A cut text ends with three dots if there is room, otherwise with `~`: a single dot would
        look like the end of a sentence.
        """
        return [
            (
                segment
                if segment.text.isascii()
                else Segment(self._signs(segment.text), segment.style, segment.control)
            )
            for segment in segments
        ]

    def _signs(self, text: str) -> str:
        return text.replace("…   ", "... ").translate(self._table)


class Harmless(LineFilter):
    """The last of the app's line filters: nothing that a widget draws acts on the terminal.

    Texts are made safe, and their control characters visible, where they become content; this is
    for every one that was forgotten, so cells stay where they are.
    """

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        """Return the same cells without control and invisible characters."""
        return [
            (
                segment
                if segment.text.isprintable()
                else Segment(UNSAFE.sub(_cells, segment.text), segment.style, segment.control)
            )
            for segment in segments
        ]


def _cells(unsafe: re.Match[str]) -> str:
    return "?" * cell_len(unsafe[0])


COLOURS_SETTING = "colours"
"""Key of the setting with the chosen colours."""
HINT_SETTING = "colours hinted"
"""Key of the setting that the hint about more colours has been shown."""


@dataclass(frozen=True, slots=True)
class Display:
    """What the terminal can show, and what was asked for at this start."""

    kind: TerminalKind = field(
        default_factory=lambda: TerminalKind("16 million", light=False, braille=True)
    )
    colours: ColourName | None = None
    """Requested colours; None: those of the last session, or by the terminal."""
    ascii_only: bool = False
    """Draw marks, panels and charts in ASCII."""


class Appearance:
    """The line filters that everything passes on its way to the terminal."""

    def __init__(self, display: Display, settings: dict[str, object]) -> None:
        """`settings` holds the choice of the last session, and takes the next one."""
        self._display, self._settings = display, settings
        self.colours: ColourName = display.kind.colours(
            display.colours, colour_name(settings.get(COLOURS_SETTING))
        )
        """The colours in use."""
        self._ascii: list[LineFilter] = [AsciiMarks()] if display.ascii_only else []
        self._paint = self._paint_filters()
        self._harmless = Harmless()

    @property
    def filters(self) -> Sequence[LineFilter]:
        """The filters that every line of every widget passes, in this order."""
        return [*self._paint, *self._ascii, self._harmless]

    def next(self) -> ColourName:
        """Return the next colours that this terminal can show, and save the choice."""
        choices = [name for name in TABLES if self._display.kind.colours(name) == name]
        chosen = choices[(choices.index(self.colours) + 1) % len(choices)]
        self._settings[COLOURS_SETTING] = chosen
        return chosen

    def use(self, colours: ColourName) -> None:
        """Use these colours from now on."""
        self.colours = colours
        self._paint = self._paint_filters()

    def _paint_filters(self) -> list[LineFilter]:
        """Return no filter if the terminal shows every value of the palette as it is."""
        if self.colours == "dark" and self._display.kind.depth == "16 million":
            return []
        return [Paint(TABLES[self.colours], numbers=self._display.kind.depth == "256")]

    def hint(self) -> str:
        """Return a hint for a terminal that shows 16 colours and could have more, only once."""
        if (
            not self._display.kind.hint
            or self._display.colours is not None
            or self._settings.get(HINT_SETTING)
            or self._settings.get(COLOURS_SETTING)
        ):
            return ""
        self._settings[HINT_SETTING] = True
        return f"this terminal shows 16 colours, the app is drawn in 256\n{self._display.kind.hint}"


def repaint(app: App[int]) -> None:
    """Repaint all screens after a change of colours."""
    for screen in all_screens(app):
        for node in screen.walk_children(with_self=True):
            if isinstance(node, Panel):
                node.redraw()  # without colour, some draw more glyphs
            node.refresh()
