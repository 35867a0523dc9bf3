"""Draw a terminal's cells as SVG.

Text uses any monospaced font, fitted into its cells; braille, blocks and lines are drawn as shapes,
so that charts look the same in every font.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import pyte.screens

from tests.terminal import Terminal

WIDTH, HEIGHT, FONT_SIZE, MARGIN = 9, 18, 15, 9
DOT = 3
BASELINE = 13
"""From a cell's top to the baseline of its text."""
FOREGROUND, BACKGROUND = "d0d0d0", "121212"
FONTS = "'DejaVu Sans Mono',Menlo,Consolas,'Liberation Mono',monospace"
NAMED = {
    "black": "000000",
    "red": "cd0000",
    "green": "00cd00",
    "brown": "cdcd00",
    "blue": "0000ee",
    "magenta": "cd00cd",
    "cyan": "00cdcd",
    "white": "e5e5e5",
}
BRAILLE_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
LINES = {
    "─": "lr",
    "━": "LR",
    "│": "ud",
    "┃": "UD",
    "┌": "rd",
    "┐": "ld",
    "└": "ru",
    "┘": "lu",
    "╭": "rd",
    "╮": "ld",
    "╰": "ru",
    "╯": "lu",
    "├": "udr",
    "┤": "udl",
    "┬": "lrd",
    "┴": "lru",
    "┼": "lrud",
    "╸": "L",
    "╺": "R",
}
"""The sides that a line glyph reaches: left, right, up, down; capitals are heavy."""
DASHED = {"╌": 1, "╍": 2}
"""Dashes and their thickness."""
ROUNDED = "╭╮╰╯"


def picture_of(terminal: Terminal) -> str:
    """The current screen as an SVG document."""
    width, height = terminal.columns * WIDTH + 2 * MARGIN, terminal.rows * HEIGHT + 2 * MARGIN
    shapes: dict[str, list[str]] = {}
    dots: dict[str, list[str]] = {}
    """Paths by colour: areas, and dots drawn as short lines."""
    texts: list[str] = []
    grounds: dict[str, list[str]] = {}
    for row in range(terminal.rows):
        y = MARGIN + row * HEIGHT
        for column, words, cell in _runs(terminal, row):
            x, cells = MARGIN + column * WIDTH, len(words)
            colour, ground = _colours(cell)
            if ground != BACKGROUND:
                grounds.setdefault(ground, []).append(
                    f"M{x} {y}h{cells * WIDTH}v{HEIGHT}h-{cells * WIDTH}z"
                )
            if (signs := words.strip()) and not _drawn(signs[0]):
                texts.append(_text(words, x, y, colour, cell))
            for index, glyph in enumerate(words):
                if path := _dots(glyph, x + index * WIDTH, y):
                    dots.setdefault(colour, []).append(path)
                if path := _shape(glyph, x + index * WIDTH, y):
                    shapes.setdefault(colour, []).append(path)
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
                f' width="{width}" height="{height}">'
            ),
            f'<rect width="{width}" height="{height}" rx="6" fill="#{BACKGROUND}"/>',
            *(
                f'<path fill="#{colour}" d="{"".join(paths)}"/>'
                for paint in (grounds, shapes)
                for colour, paths in paint.items()
            ),
            *(
                f'<path fill="none" stroke="#{colour}" stroke-width="{DOT}" d="{"".join(paths)}"/>'
                for colour, paths in dots.items()
            ),
            (
                f'<g font-family="{FONTS}" font-size="{FONT_SIZE}" fill="#{FOREGROUND}"'
                ' xml:space="preserve">'
            ),
            *texts,
            "</g>",
            "</svg>\n",
        ]
    )


def _runs(terminal: Terminal, row: int) -> Iterator[tuple[int, str, pyte.screens.Char]]:
    """First column, characters and first cell of each stretch of one style."""
    begin, words, first = 0, "", terminal.screen.buffer[row][0]
    for column in range(terminal.columns):
        cell = terminal.screen.buffer[row][column]
        sign = cell.data or " "
        apart = words and (
            _style(cell) != _style(first)
            or (sign != " " and _drawn(sign) != _drawn(words.lstrip()[:1] or sign))
            or (sign == " " and words[-1] == " ")
        )
        if apart:
            yield from _trimmed(begin, words, first)
            begin, words = column, ""
        if not words:
            first = cell
        words += sign
    yield from _trimmed(begin, words, first)


def _trimmed(
    begin: int, words: str, cell: pyte.screens.Char
) -> Iterator[tuple[int, str, pyte.screens.Char]]:
    """Strip invisible blanks at both ends."""
    if _colours(cell)[1] == BACKGROUND and not cell.underscore:
        begin, words = begin + len(words) - len(words.lstrip()), words.strip()
    if words:
        yield begin, words, cell


def _style(cell: pyte.screens.Char) -> tuple[object, ...]:
    return (*_colours(cell), cell.bold, cell.underscore)


def _colours(cell: pyte.screens.Char) -> tuple[str, str]:
    """Foreground and background, as six hexadecimal digits each."""
    colour = FOREGROUND if cell.fg == "default" else NAMED.get(cell.fg, cell.fg)
    ground = BACKGROUND if cell.bg == "default" else NAMED.get(cell.bg, cell.bg)
    return (ground, colour) if cell.reverse else (colour, ground)


def _text(words: str, x: int, y: int, colour: str, cell: pyte.screens.Char) -> str:
    given = "" if colour == FOREGROUND else f' fill="#{colour}"'
    given += ' font-weight="bold"' if cell.bold else ""
    given += ' text-decoration="underline"' if cell.underscore else ""
    return (
        f'<text x="{x}" y="{y + BASELINE}" textLength="{len(words) * WIDTH}"'
        f' lengthAdjust="spacingAndGlyphs"{given}>{escape(words, quote=False)}</text>'
    )


def _drawn(glyph: str) -> bool:
    """Whether a character is drawn as a shape."""
    return (
        0x2800 <= ord(glyph) <= 0x28FF
        or 0x2581 <= ord(glyph) <= 0x258F
        or glyph in LINES
        or glyph in DASHED
    )


def _dots(glyph: str, x: int, y: int) -> str:
    """The dots of a braille character, each a line as long as it is thick.

    Empty for other characters.
    """
    bits = ord(glyph) - 0x2800
    if not 0 <= bits <= 0xFF:
        return ""
    found = [
        (row, column)
        for row, pair in enumerate(BRAILLE_BITS)
        for column, bit in enumerate(pair)
        if bits & bit
    ]
    return "".join(
        f"M{x + 1 + round(column * WIDTH / 2)} {y + 2 + round(row * HEIGHT / 4)}.5h{DOT}"
        for row, column in found
    )


def _shape(glyph: str, x: int, y: int) -> str:
    """The area of a block or a line; empty for other characters."""
    code, middle = ord(glyph), (x + WIDTH // 2, y + HEIGHT // 2)
    if 0x2581 <= code <= 0x2588:
        high = round(HEIGHT * (code - 0x2580) / 8)
        return _box(x, y + HEIGHT - high, WIDTH, high)
    if 0x2589 <= code <= 0x258F:
        return _box(x, y, round(WIDTH * (0x2590 - code) / 8), HEIGHT)
    if glyph in DASHED:
        thick = DASHED[glyph]
        return _box(x + 1, middle[1], 3, thick) + _box(x + 5, middle[1], 3, thick)
    if glyph in ROUNDED:
        side, end = (x + WIDTH if glyph in "╭╰" else x), (y + HEIGHT if glyph in "╭╮" else y)
        return _corner(side, end, *middle)
    return "".join(_arm(side, x, y) for side in LINES.get(glyph, ""))


def _arm(side: str, x: int, y: int) -> str:
    """A line from the middle of a cell to one of its sides."""
    across, down, thick = x + WIDTH // 2, y + HEIGHT // 2, 2 if side.isupper() else 1
    return {
        "l": _box(x, down, across - x + thick, thick),
        "r": _box(across, down, x + WIDTH - across, thick),
        "u": _box(across, y, thick, down - y + thick),
        "d": _box(across, down, thick, y + HEIGHT - down),
    }[side.lower()]


def _corner(side: int, end: int, across: int, down: int) -> str:
    """A round corner one unit thick, from the cell's side to its upper or lower end."""
    right, below = side > across, end > down
    outer_y, outer_x = down + (not below), across + (not right)
    inner_y, inner_x = down + below, across + right
    far_x, far_y = across + (4 if right else -3), down + (4 if below else -3)
    outer = f"M{side} {outer_y}H{far_x}Q{outer_x} {outer_y} {outer_x} {far_y}V{end}"
    inner = f"h{1 if right else -1}V{far_y}Q{inner_x} {inner_y} {far_x} {inner_y}H{side}z"
    return outer + inner


def _box(x: int, y: int, width: int, height: int) -> str:
    return f"M{x} {y}h{width}v{height}h-{width}z"
