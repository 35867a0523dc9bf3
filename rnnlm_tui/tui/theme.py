"""How the app looks: its theme, its colours for each kind of terminal, and ASCII symbols.

Widgets use one palette, exact values of xterm's 256 colours. Everything sent to the terminal passes
line filters, which replace each value by that of the chosen table. So nothing is ever blended, and
no widget has to know the colours in use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

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

_VARIABLES: Mapping[str, str] = {
    palette.BACKGROUND: "input-cursor-foreground scrollbar-background scrollbar-background-hover"
    " scrollbar-background-active scrollbar-corner-color",
    palette.FIELD: "block-hover-background",
    palette.SELECTED: "block-cursor-background block-cursor-blurred-background",
    palette.BORDER: "border-blurred scrollbar",
    palette.FOCUS: "border input-cursor-background",
    palette.RAW: "input-selection-background",
    palette.DIM: "scrollbar-hover scrollbar-active text-muted text-disabled",
    palette.TEXT: "block-cursor-blurred-foreground text",
    palette.BRIGHT: "block-cursor-foreground input-selection-foreground",
    "none": "block-cursor-blurred-text-style",
}
"""The variables of Textual's widgets that have each value: exact ones, never blends."""
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
    variables={name: value for value, names in _VARIABLES.items() for name in names.split()},
)


Table = Mapping[str, Style]
"""What replaces each value of the palette (`#rrggbb`): a colour or the terminal's own, and whether
it is at half brightness; or as a background, whether it is inverse or the text on it underlined."""


_MATRIX: Mapping[str, tuple[str, str, str, str]] = {
    palette.BACKGROUND: ("#eeeeee", "", "", ""),
    palette.FIELD: ("#e4e4e4", "", "", ""),
    palette.SELECTED: ("#d7d7d7", "underline", "underline", "underline"),
    palette.BORDER: ("#b2b2b2", "dim", "dim", "dim"),
    palette.TEXT: ("#303030", "", "", ""),
    palette.LABEL: ("#303030", "", "", ""),
    palette.BRIGHT: ("#000000", "bright_white", "", ""),
    palette.NEARLY_BRIGHT: ("#000000", "bright_white", "", ""),
    palette.DIM: ("#585858", "dim", "dim", "dim"),
    palette.FAINT: ("#585858", "dim", "dim", "dim"),
    palette.BASELINE: ("#585858", "dim", "dim", "dim"),
    palette.GREY: ("#a8a8a8", "dim", "dim", "dim"),
    palette.FOCUS: ("#005faf", "bright_cyan", "blue", ""),
    palette.RAW: ("#87afd7", "blue", "cyan", "dim reverse"),
    palette.VALIDATION: ("#af5f00", "yellow", "magenta", ""),
    palette.THIRD: ("#8700af", "bright_magenta", "cyan", ""),
    palette.GOOD: ("#005f00", "bright_green", "green", ""),
    palette.WARN: ("#5f5f00", "bright_yellow", "red", ""),
    palette.BAD: ("#af0000", "bright_red", "red", ""),
    palette.band_of(palette.VALIDATION): ("#d7af87", "dim yellow", "dim magenta", "dim"),
    palette.band_of(palette.THIRD): ("#af87af", "magenta", "dim cyan", "dim"),
    palette.band_of(palette.GOOD): ("#87af87", "green", "dim green", "dim"),
    palette.band_of(palette.WARN): ("#afaf5f", "dim yellow", "dim red", "dim"),
    palette.band_of(palette.BAD): ("#d78787", "red", "dim red", "dim"),
    palette.MARK_COLOURS[3]: ("#af005f", "magenta", "bright_red", ""),
    palette.MARK_COLOURS[4]: ("#5f00ff", "bright_blue", "bright_blue", ""),
    palette.MARK_COLOURS[6]: ("#008787", "cyan", "dim green", ""),
    palette.MARK_COLOURS[7]: ("#875f00", "white", "bright_magenta", ""),
    palette.SIDE_BANDS[0][0]: ("#d7ffff", "cyan", "cyan", ""),
    palette.SIDE_BANDS[1][0]: ("#ffd7ff", "magenta", "magenta", ""),
    palette.SIDE_BANDS[1][2]: ("#d787d7", "magenta", "magenta", ""),
    palette.SIDE_BANDS[2][2]: ("#87d787", "green", "green", ""),
    palette.SIDE_BANDS[3][2]: ("#ff8787", "red", "red", ""),
}
"""For each role of the palette: an exact value of the 256 for bright backgrounds, the tones of the
16 colours on a dark and on a bright background, and those without colour.

Each terminal defines the 16 colours itself. There, faint text is at half brightness and a selected
row is underlined: bright black is the background in some terminals, and too bright for text in
others. Six bright colours would vanish on white. Without colour, words, glyphs, bold and half
brightness are enough; a selected row is underlined, marked text inverse.
"""
_LIGHT_SHADES: Mapping[str, str] = {
    "#af5f00": "#d78700", "#d75f00": "#d75f00", "#00afd7": "#0087d7", "#0087af": "#5f87d7",
    "#d78700": "#d75f00", "#008787": "#afd7d7", "#870087": "#d7afff", "#008700": "#afd7af",
    "#870000": "#ffafaf",
}  # fmt: skip
"""The other shades of SURPRISE, DIVERGING and SIDE_BANDS, on a bright background. The 16 colours
have none for them: they are those of the nearest role."""
LIGHT, ANSI_DARK, ANSI_LIGHT, NONE = (
    {value: Style.parse(row[column]) for value, row in _MATRIX.items()} for column in range(4)
)
LIGHT |= {value: Style.parse(shade) for value, shade in _LIGHT_SHADES.items()}
NONE |= dict.fromkeys(_LIGHT_SHADES, Style())
DARK: Table = {value: Style.parse(value) for value in LIGHT}
"""The palette itself."""

TABLES: Mapping[ColourName, Table] = dict(
    zip(COLOUR_NAMES, (DARK, LIGHT, ANSI_DARK, ANSI_LIGHT, NONE), strict=True)
)
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
_SIGNS = str.maketrans(SIGNS)


def in_ascii(text: str) -> str:
    """Return a text in ASCII mode, so that widgets draw in Unicode always.

    Only charts, which have other shapes, and names of keys, which are longer, differ before it.
    Letters in texts are left alone. A cut text ends with three dots if there is room, otherwise
    with `~`: a single dot would look like the end of a sentence.
    """
    return text if text.isascii() else text.replace("…   ", "... ").translate(_SIGNS)


def harmless(text: str) -> str:
    """Return a text that doesn't act on the terminal: `?` for each cell of unsafe characters.

    Texts are made safe, and their control characters visible, where they become content; this is
    for every one that was forgotten, so cells stay where they are.
    """
    if text.isprintable():
        return text
    return UNSAFE.sub(lambda unsafe: "?" * cell_len(unsafe[0]), text)


class Paint(LineFilter):
    """The app's line filter: replaces palette values by the table's, and unsafe characters.

    Any other value becomes the nearest one in the table. One filter, since each copies every row.
    """

    def __init__(
        self,
        table: Table | None,
        *,
        numbers: bool = False,
        shown: Callable[[str], str] = harmless,
    ) -> None:
        """
        Args:
            table: None: the colours stay.
            numbers: send colours by their number of the 256; given values, Rich sends half of the
                greys one step off.
            shown: replaces each text by another one with as many cells.
        """
        super().__init__()
        self._table, self._numbers, self._shown = table or {}, numbers, shown
        self._styles: dict[Style | None, Style] = {None: Style()}

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:  # noqa: ARG002
        """Return the same cells in the table's colours."""
        known, shown = self._styles, self._shown
        painted: list[Segment] = []
        for text, style, control in segments:
            look = known.get(style)
            if look is None and style is not None:
                look = known[style] = self._painted(style)
            painted.append(Segment(shown(text), look, control))
        return painted

    def _painted(self, style: Style) -> Style:
        if not self._table:
            return style
        over, under, inverse = style.color, style.bgcolor, bool(style.reverse)
        if over and under and over.triplet and over.triplet.hex == palette.BACKGROUND:
            # text in the background's colour: inverse in any table
            over, under, inverse = (under, over, not inverse)
        sign, ground = self._look(over), self._look(under)
        click = {name: action for name, action in style.meta.items() if name == "@click"}
        return Style(
            color=self._sent(sign), bgcolor=self._sent(ground), bold=style.bold,
            dim=bool(sign.dim and not ground.reverse), reverse=inverse != bool(ground.reverse),
            italic=style.italic, underline=style.underline or ground.underline, strike=style.strike,
            meta=click or None,
        )  # fmt: skip

    def _look(self, colour: RichColor | None) -> Style:
        """Return what replaces a colour; one of the 16 stays as it is."""
        if colour is None or colour.triplet is None:
            return Style(color=None if colour is None or colour.is_default else colour)
        exact, triplet = self._table.get(colour.triplet.hex), colour.triplet

        def distance(value: str) -> int:
            parts = zip(Color.parse(value).rgb, triplet, strict=True)
            return sum((one - other) ** 2 for one, other in parts)

        return exact or self._table[min(self._table, key=distance)]

    def _sent(self, look: Style) -> RichColor | None:
        exact = look.color is not None and look.color.triplet is not None and self._numbers
        number = xterm_number(look.color.name) if look.color is not None and exact else None
        return look.color if number is None else RichColor.parse(f"color({number})")


COLOURS_SETTING = "colours"
"""Key of the setting with the chosen colours."""
HINT_SETTING = "colours hinted"
"""Key of the setting that the hint about more colours has been shown."""


class Appearance:
    """The line filter that everything passes on its way to the terminal.

    Args:
        settings: they hold the choice of the last session, and take the next one.
        wanted: colours requested at this start; None: those of the last session, or by the
            terminal.
    """

    def __init__(
        self, settings: dict[str, object], kind: TerminalKind, wanted: ColourName | None = None
    ) -> None:
        self._settings, self._kind, self._wanted = settings, kind, wanted
        self.use(kind.colours(wanted, colour_name(settings.get(COLOURS_SETTING))))

    def use(self, colours: ColourName) -> None:
        """Use these colours from now on.

        A terminal that shows every value of the palette as it is gets them as they are.
        """
        self.colours: ColourName = colours
        """The colours in use."""
        depth = self._kind.depth
        exact = colours == "dark" and depth == "16 million"
        self.filter = Paint(
            None if exact else TABLES[colours],
            numbers=depth == "256",
            shown=harmless if self._kind.braille else lambda text: harmless(in_ascii(text)),
        )
        """What every line of every widget passes."""

    def next(self) -> ColourName:
        """Return the next colours that this terminal can show, and save the choice."""
        choices = [name for name in TABLES if self._kind.colours(name) == name]
        chosen = choices[(choices.index(self.colours) + 1) % len(choices)]
        self._settings[COLOURS_SETTING] = chosen
        return chosen

    def hint(self) -> str:
        """Return a hint for a terminal that shows 16 colours and could have more, only once."""
        hint, known = self._kind.hint, {HINT_SETTING, COLOURS_SETTING}
        if not hint or self._wanted or any(map(self._settings.get, known)):
            return ""
        self._settings[HINT_SETTING] = True
        return f"this terminal shows 16 colours, the app is drawn in 256\n{hint}"


def repaint(app: App[int]) -> None:
    """Repaint all screens after a change of colours."""
    for screen in all_screens(app):
        for node in screen.walk_children(with_self=True):
            if isinstance(node, Panel):
                node.redraw()  # without colour, some draw more glyphs
            node.refresh()
