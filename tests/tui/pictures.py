"""Snapshots of the screen as text files: the characters, then the colour of each and its
background.

Every state is drawn in full colour at 80×24 and 120×40. `MORE` lists the few states that are also
drawn in another size, in ASCII, or without colour. RNNLM_TESTS_REWRITE=1 rewrites the files; look
at the diff before you commit it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from difflib import unified_diff
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Literal

import pytest
from rich.style import Style
from textual.pilot import Pilot

from rnnlm_tui.tui import palette
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.text import cells_of

SIZES = ((80, 24), (120, 40))
"""Every state is drawn in these sizes."""

Mode = Literal["", "plain", "ascii"]
"""In colour, without colour, or in ASCII."""
SMALL = SIZES[0]
MORE: dict[str, tuple[tuple[tuple[int, int], Mode], ...]] = {
    **dict.fromkeys(
        ("runs", "train", "config", "checkpoints", "inspect-state", "inspect-unit", "versus"),
        ((SMALL, "ascii"), (SMALL, "plain")),
    ),
    **{
        name: ((SMALL, "ascii"), *((size, "plain") for size in SIZES))
        for name in ("prompt", "inspect")
    },
    **dict.fromkeys(
        ("prompt-together", "inspect-reach", "versus-differences", "versus-grid"),
        ((SMALL, "plain"),),
    ),
    "compare-eight": (((120, 40), "ascii"), ((120, 40), "plain")),
    "help": ((SMALL, "ascii"),),
}
"""State → its further snapshots: where a pane has its own layout, and each pane once in ASCII
and once without colour."""
INKS: dict[str, tuple[str, str]] = {
    palette.TEXT: ("t", "text"),
    palette.DIM: ("d", "dim"),
    palette.BRIGHT: ("w", "white"),
    palette.NEARLY_BRIGHT: ("e", "typed"),
    palette.LABEL: ("l", "label"),
    palette.FAINT: ("i", "faint"),
    palette.GREY: ("o", "grey"),
    palette.BORDER: ("b", "border"),
    palette.FOCUS: ("f", "focus, train"),
    palette.RAW: ("n", "raw"),
    palette.VALIDATION: ("v", "validation"),
    palette.THIRD: ("p", "third"),
    palette.BASELINE: ("a", "baseline"),
    palette.GOOD: ("g", "good"),
    palette.WARN: ("y", "warn"),
    palette.BAD: ("r", "bad"),
    palette.BACKGROUND: ("k", "background"),
    palette.MARK_COLOURS[3]: ("s", "fourth run"),
    palette.MARK_COLOURS[4]: ("h", "fifth run"),
    palette.MARK_COLOURS[6]: ("c", "seventh run"),
    palette.MARK_COLOURS[7]: ("j", "eighth run"),
    palette.DIVERGING[1]: ("1", "activation −3"),
    palette.DIVERGING[2]: ("2", "activation −2"),
    palette.DIVERGING[6]: ("6", "activation +2"),
    palette.DIVERGING[7]: ("7", "activation +3"),
    palette.FIELD: ("0", "activation 0"),
    palette.SURPRISE[4]: ("9", "surprise"),
}
"""Colour of a character → its letter and its name; bold characters have the capital letter."""
BAND = "m"
"""Raw bands in colours other than the first."""
BANDS = frozenset(palette.band_of(colour) for colour in INKS)
GROUNDS = {
    palette.FIELD: "field",
    palette.SELECTED: "selected",
    palette.FOCUS: "focus",
    palette.BRIGHT: "white",
    palette.RAW: "marked",
    palette.SURPRISE[1]: "4 bits",
    palette.SURPRISE[2]: "5 bits",
    palette.SURPRISE[3]: "6 bits",
    palette.SURPRISE[4]: "7 bits",
    palette.DIVERGING[1]: "−3",
    palette.DIVERGING[7]: "+3",
    palette.VALIDATION: "+4",
    **{
        ground: f"{letter}{size}"
        for letter, bands in zip("ABCD", palette.SIDE_BANDS, strict=True)
        for size, ground in enumerate(bands, start=1)
    },
    palette.DIVERGING[2]: "−2 A3",  # the same colour
    **{
        colour: f"side {letter}"
        for letter, colour in zip("BCD", palette.MARK_COLOURS[1:], strict=False)
    },
}
"""Backgrounds: those of a text that a side predicts better have its letter and a size."""
LOOKS, LOOK_LETTERS = ("bold", "dim", "underlined", "inverse"), " bdhuUvVrRiIxXyY"
"""How a character can look without colour, and the letters of all combinations."""

Cells = list[list[tuple[str, Style | None]]]


def cells_on(app: RnnlmApp) -> Cells:
    """Character and style of every cell of the screen, row by row."""
    return [cells_of(strip) for strip in app.screen._compositor.render_strips()]


def each_size(*names: str) -> pytest.MarkDecorator:
    """Parametrize a test with every size and mode, and those of the states that are drawn so."""
    views: dict[tuple[tuple[int, int], Mode], list[str]] = {}
    for name in names:
        # those without colour are taken with those in colour
        more = [view for view in MORE.get(name, ()) if view[1] != "plain"]
        for view in (*((size, "") for size in SIZES), *more):
            views.setdefault(view, []).append(name)
    return pytest.mark.parametrize(
        ("names", "size", "mode"),
        [(found, *view) for view, found in views.items()],
        ids=[_file_name(names[0], *view) for view in views],
    )


def each_mode(*names: str) -> pytest.MarkDecorator:
    """Parametrize a test with name and mode: its snapshots of all sizes are of one start."""
    modes: list[tuple[str, Mode]] = [(name, "") for name in names]
    modes += [(name, "ascii") for name in names if (SMALL, "ascii") in MORE.get(name, ())]
    return pytest.mark.parametrize(("name", "mode"), modes)


async def assert_pictures(pilot: Pilot[int], folder: Path, name: str, mode: Mode = "") -> None:
    """The screen comes to equal the snapshots of every size."""
    assert isinstance(pilot.app, RnnlmApp)
    for size in SIZES if not mode else (SMALL,):
        await pilot.resize_terminal(*size)
        await assert_picture(pilot.app, folder, name, size, mode)


async def assert_picture(
    app: RnnlmApp, folder: Path, name: str, size: tuple[int, int], mode: Mode
) -> None:
    """The screen comes to equal the snapshot; without colour no cell of the small size has one, and
    in ASCII every character is ASCII."""
    path = folder / f"{_file_name(name, size, mode)}.txt"
    if os.environ.get("RNNLM_TESTS_REWRITE") == "1":
        path.parent.mkdir(exist_ok=True)
        lines = await _settled_picture(app, mode, None)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    before = path.read_text(encoding="utf-8").splitlines()
    lines = await _settled_picture(app, mode, before)
    assert lines == before, "\n".join(
        [
            "the screen differs from its snapshot:",
            *unified_diff(before, lines, path.name, "now", lineterm="", n=0),
        ]
    )
    if not mode and (size, "plain") in MORE.get(name, ()):
        await assert_picture(app, folder, name, size, "plain")
    elif not mode and size == SMALL:
        _looks(_without_colour(app))


async def _settled_picture(app: RnnlmApp, mode: Mode, wanted: list[str] | None) -> list[str]:
    """The picture once it is the wanted one, or has stayed the same for two seconds; for ten while
    one is wanted, since threads of a busy machine may still read."""
    lines = _picture(app, mode)
    same = 0
    while lines != wanted and same < (20 if wanted is None else 100):
        await asyncio.sleep(0.1)
        before, lines = lines, _picture(app, mode)
        same = same + 1 if lines == before else 0
    return lines


def _picture(app: RnnlmApp, mode: Mode) -> list[str]:
    """The characters, then how each is drawn; in ASCII, an AssertionError for any other one."""
    cells = _without_colour(app) if mode == "plain" else cells_on(app)
    lines = ["".join(sign for sign, _ in row).rstrip() for row in cells]
    if mode == "ascii":
        assert [line for line in lines if not line.isascii()] == []
        return lines
    return [*lines, *(_looks(cells) if mode else _colours(cells))]


def _without_colour(app: RnnlmApp) -> Cells:
    before = app.appearance.colours
    app.use_colours("none")
    cells = cells_on(app)
    app.use_colours(before)
    return cells


def _file_name(name: str, size: tuple[int, int], mode: Mode) -> str:
    return "-".join(part for part in (name, f"{size[0]}x{size[1]}", mode) if part)


@cache
def ink_letter(sign: str, style: Style | None) -> str:
    """The letter of a cell's colour; an AssertionError for a colour that isn't in the palette."""
    assert style is not None
    if not sign.strip():
        return " "
    assert style.color is not None
    colour = style.color.triplet.hex if style.color.triplet else style.color.name
    letter = INKS[colour][0] if colour in INKS else BAND if colour in BANDS else ""
    assert letter, f"{sign!r} is drawn in {colour}, which isn't in the palette"
    return letter.upper() if style.bold else letter


@cache
def ground_name(style: Style | None) -> str:
    """A cell's background, underline and inverse; empty for a plain cell on the app's
    background."""
    assert style is not None
    assert style.bgcolor is not None
    colour = style.bgcolor.triplet.hex if style.bgcolor.triplet else style.bgcolor.name
    assert colour == palette.BACKGROUND or colour in GROUNDS, (
        f"the background {colour} isn't in the palette"
    )
    looks = (("underlined", style.underline), ("inverse", style.reverse))
    words = [GROUNDS.get(colour, ""), *(look for look, has in looks if has)]
    return " ".join(filter(None, words))


@cache
def plain_letter(sign: str, style: Style | None) -> str:
    """The letter for how a cell looks without colour."""
    assert style is not None
    assert style.color is None, f"{sign!r} has the colour {style.color}"
    assert style.bgcolor is None, f"{sign!r} has the background {style.bgcolor}"
    has = (style.bold, style.dim and sign.strip(), style.underline, style.reverse)
    look = sum(bool(one) << bit for bit, one in enumerate(has))
    return LOOK_LETTERS[look] if sign.strip() or style.underline or style.reverse else " "


def _colours(cells: Cells) -> list[str]:
    rows = _letters(cells, ink_letter)
    seen = {letter.lower() for row in rows for letter in row if letter != " "}
    legend = ", ".join(
        [f"{letter} {name}" for letter, name in INKS.values() if letter in seen]
        + ([f"{BAND} another band"] if BAND in seen else [])
    )
    under = [
        f"{y:>3} {name} {spans}" for y, row in enumerate(cells) for name, spans in _grounds(row)
    ]
    return [
        f"--- colours: {legend}; capitals are bold",
        *rows,
        "--- backgrounds, by row and columns",
        *under,
    ]


def _looks(cells: Cells) -> list[str]:
    rows = _letters(cells, plain_letter)
    seen = {letter for row in rows for letter in row}
    used = [
        f"{letter} {' '.join(word for bit, word in enumerate(LOOKS) if look >> bit & 1)}"
        for look, letter in enumerate(LOOK_LETTERS)
        if look and letter in seen
    ]
    return [f"--- without colour: {', '.join(used)}", *rows]


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
