"""A screen as a text file: its signs, below them the colour of each, what lies under them, and how they look without colour.

RNNLM_TUI_REWRITE=1 writes the files anew; look at the difference before committing it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from difflib import unified_diff
from itertools import groupby
from pathlib import Path

from rich.style import Style

from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.strips import cells_of

SIZES = ((80, 24), (120, 40), (200, 60))
INKS: dict[str, tuple[str, str]] = {
    palette.TEXT: ("t", "text"), palette.DIM: ("d", "dim"), palette.BRIGHT: ("w", "white"), palette.NEARLY_BRIGHT: ("e", "typed"), palette.LABEL: ("l", "label"),
    palette.FAINT: ("i", "faint"), palette.GREY: ("o", "grey"), palette.BORDER: ("b", "border"), palette.FOCUS: ("f", "focus, train"), palette.RAW: ("n", "raw"),
    palette.VALIDATION: ("v", "validation"), palette.THIRD: ("p", "third"), palette.BASELINE: ("a", "baseline"), palette.GOOD: ("g", "good"),
    palette.WARN: ("y", "warn"), palette.BAD: ("r", "bad"), palette.BACKGROUND: ("k", "background"),
    **{palette.MARK_COLOURS[place]: ink for place, ink in ((3, ("s", "fourth run")), (4, ("h", "fifth run")), (6, ("c", "seventh run")), (7, ("j", "eighth run")))},
}  # fmt: skip
"""Colour of a sign → its letter and its name; a bold sign has the capital."""
BAND = "m"
"""The raw bands of other colours than the first."""
GROUNDS = {palette.FIELD: "field", palette.SELECTED: "selected", palette.FOCUS: "focus", palette.BRIGHT: "white", palette.RAW: "marked"}
PLAIN = dict(
    zip(
        (" ".join(word for bit, word in enumerate(("bold", "dim", "underlined", "inverse")) if looks >> bit & 1) for looks in range(16)),
        " bdhuUvVrRiIxXyY",
        strict=True,
    )
)
"""How a sign looks without colour."""

Cells = list[list[tuple[str, Style | None]]]


def cells_on(app: RnnlmApp) -> Cells:
    """Sign and style of every cell of the screen, row by row."""
    return [cells_of(strip) for strip in app.screen._compositor.render_strips()]


def assert_picture(app: RnnlmApp, path: Path) -> None:
    """The screen is, cell for cell and colour for colour, what stands in the file; and without colour too."""
    before = app.appearance.colours
    coloured = cells_on(app)
    app.use_colours("none")
    bare = cells_on(app)
    app.use_colours(before)
    others = [f"{y:>3} {now}" for y, (was, now) in enumerate(zip(texts(coloured), texts(bare), strict=True)) if was != now]
    _assert_is(path, [*texts(coloured), *_colours(coloured), *_looks(bare), *(["--- rows with other signs without colour", *others] if others else [])])


def assert_ascii_picture(app: RnnlmApp, path: Path) -> None:
    """The screen of an app in ASCII is what stands in the file, and nothing else than ASCII."""
    seen = texts(cells_on(app))
    assert [line for line in seen if not line.isascii()] == []
    _assert_is(path, seen)


def texts(cells: Cells) -> list[str]:
    """The signs, a text a row."""
    return ["".join(sign for sign, _ in row).rstrip() for row in cells]


def ink_letter(sign: str, style: Style | None) -> str:
    """The letter of a cell's colour; an AssertionError for a colour that is none of the palette's."""
    assert style is not None
    if not sign.strip():
        return " "
    assert style.color is not None
    colour = style.color.triplet.hex if style.color.triplet else style.color.name
    bands = {palette.band_of(known) for known in INKS}
    letter = INKS[colour][0] if colour in INKS else BAND if colour in bands else ""
    assert letter, f"{sign!r} stands there in {colour}, which is no colour of the palette"
    return letter.upper() if style.bold else letter


def ground_name(style: Style | None) -> str:
    """What lies under a cell, and whether it is underlined or inverse; empty: the background."""
    assert style is not None
    assert style.bgcolor is not None
    colour = style.bgcolor.triplet.hex if style.bgcolor.triplet else style.bgcolor.name
    assert colour == palette.BACKGROUND or colour in GROUNDS, f"{colour} lies there, which is no ground of the palette"
    return " ".join(word for word in (GROUNDS.get(colour, ""), "underlined" if style.underline else "", "inverse" if style.reverse else "") if word)


def plain_letter(sign: str, style: Style | None) -> str:
    """The letter of how a cell looks without colour."""
    assert style is not None
    assert style.color is None, f"{sign!r} has the colour {style.color}"
    assert style.bgcolor is None, f"{sign!r} has the ground {style.bgcolor}"
    faint = style.dim and sign.strip()
    look = " ".join(word for word, has in (("bold", style.bold), ("dim", faint), ("underlined", style.underline), ("inverse", style.reverse)) if has)
    return PLAIN[look] if sign.strip() or style.underline or style.reverse else " "


def _colours(cells: Cells) -> list[str]:
    rows = _letters(cells, ink_letter)
    seen = {letter.lower() for row in rows for letter in row if letter != " "}
    legend = ", ".join([f"{letter} {name}" for letter, name in INKS.values() if letter in seen] + ([f"{BAND} another band"] if BAND in seen else []))
    under = [f"{y:>3} {name} {spans}" for y, row in enumerate(cells) for name, spans in _grounds(row)]
    return [f"--- colours: {legend}; capitals are bold", *rows, "--- under them, by row and columns", *under]


def _looks(cells: Cells) -> list[str]:
    rows = _letters(cells, plain_letter)
    seen = {letter for row in rows for letter in row}
    return [f"--- without colour: {', '.join(f'{letter} {look}' for look, letter in PLAIN.items() if look and letter in seen)}", *rows]


def _letters(cells: Cells, letter: Callable[[str, Style | None], str]) -> list[str]:
    return ["".join(letter(sign, style) for sign, style in row).rstrip() for row in cells]


def _grounds(row: Sequence[tuple[str, Style | None]]) -> Iterable[tuple[str, str]]:
    column = 0
    found: dict[str, list[str]] = {}
    for name, group in groupby(row, lambda cell: ground_name(cell[1])):
        width = len(list(group))
        if name:
            found.setdefault(name, []).append(f"{column}-{column + width - 1}")
        column += width
    return [(name, " ".join(spans)) for name, spans in found.items()]


def _assert_is(path: Path, lines: list[str]) -> None:
    if os.environ.get("RNNLM_TUI_REWRITE") == "1":
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    before = path.read_text(encoding="utf-8").splitlines()
    assert lines == before, "\n".join(["the screen is another one:", *unified_diff(before, lines, path.name, "now", lineterm="", n=0)])
