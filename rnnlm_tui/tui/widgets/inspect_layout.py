"""Layout of the pane Inspect by terminal size, and by the view chosen below the text."""

from __future__ import annotations

from typing import Literal, get_args

from textual.geometry import Region, Size

from rnnlm_tui.tui import WIDE_FROM

View = Literal["alternatives", "state", "unit", "reach"]
VIEWS: tuple[View, ...] = get_args(View)
LARGE, HUGE = Size(WIDE_FROM, 30), Size(190, 50)
"""Sizes of the body from which two views, or all of them, are shown."""
UNITS_CELLS = 30
"""Cells of the list of units."""


def shows_all(size: Size) -> bool:
    """Whether a body of this size shows all views."""
    return size.width >= HUGE.width and size.height >= HUGE.height


def shows_two(size: Size) -> bool:
    """Whether a body of this size shows the alternatives beside the text."""
    return size.width >= LARGE.width and size.height >= LARGE.height


def inspect_places(size: Size, view: View, *, alone: bool = False) -> dict[str, Region]:
    """Return the regions of the pane's widgets by id, for a body of this size.

    Args:
        view: the view below the text.
        alone: it gets the whole body; of the alternatives it is the text.
    """
    width, height = size
    body = Region(0, 0, width, height)
    if alone:
        return {"strip": body} if view == "alternatives" else view_places(body, view)
    modes = 1 if height >= LARGE.height else 0
    if not shows_two(size):
        top = max(4, min(height * 2 // 5, height - 9 - modes))
        below = Region(0, top, width, height - top - modes)
        places = {"strip": Region(0, 0, width, top), **view_places(below, view)}
    else:
        top = height * 16 // 37
        side = 46 if width < 150 else 56
        token = 36 if shows_all(size) else 0
        left = width - side - token
        places = {
            "strip": Region(0, 0, left, top),
            "alternatives": Region(left, 0, side, top),
        }
        if token:
            places["token"] = Region(left + side, 0, token, top)
        below = Region(0, top, width, height - top - modes)
        if shows_all(size):
            half, middle = width * 5 // 8, below.height // 2
            places |= view_places(Region(0, top, half, below.height), "state")
            places |= view_places(Region(half, top, width - half, middle), "unit")
            lower = Region(half, top + middle, width - half, below.height - middle)
            places |= view_places(lower, "reach")
        else:
            places |= view_places(below, "state" if view == "alternatives" else view)
    if modes:
        places["modes"] = Region(0, height - 1, width, 1)
    return places


def view_places(body: Region, view: View) -> dict[str, Region]:
    """Return the regions of the widgets of one view."""
    x, y, width, height = body
    match view:
        case "state":
            return {"state": body}
        case "unit":
            side = UNITS_CELLS if width >= 2 * UNITS_CELLS else 0
            places = {"unit": Region(x, y, width - side, height)}
            return places | ({"units": Region(x + width - side, y, side, height)} if side else {})
        case "reach":
            return {
                "reach": Region(x, y, width, height - 1),
                "reach-words": Region(x, y + height - 1, width, 1),
            }
        case "alternatives":
            side = 32 if width >= 76 else 0
            places = {"alternatives": Region(x, y, width - side, height)}
            return places | ({"token": Region(x + width - side, y, side, height)} if side else {})
