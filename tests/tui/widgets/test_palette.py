"""Every colour is one of xterm's 256, and every status has a glyph."""

from __future__ import annotations

import re
from typing import get_args

from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.theme import SIGNS
from rnnlm_tui.tui.views.status import status_colour


def test_every_colour_is_exactly_one_of_xterms_256() -> None:
    levels, greys = {0, 95, 135, 175, 215, 255}, {8 + 10 * step for step in range(24)}
    colours = {
        value
        for name, value in vars(palette).items()
        if name.isupper() and isinstance(value, str) and value.startswith("#")
    }
    colours |= {palette.band_of(colour) for colour in colours}
    for colour in colours:
        assert re.fullmatch("#[0-9a-f]{6}", colour)
        red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
        assert {red, green, blue} <= levels or (red == green == blue and red in greys), colour


def test_every_status_has_a_glyph_of_its_own_in_ascii_too_and_a_word() -> None:
    glyphs = [palette.STATUS_GLYPHS[status][0] for status in get_args(RunStatus)]
    assert len({SIGNS.get(glyph, glyph) for glyph in glyphs}) == len(glyphs)
    assert palette.STATUS_WORDS["lost"] == "lost contact"
    assert palette.STATUS_WORDS["running"] == "running"


def test_only_failures_are_red() -> None:
    loud = {status for status in get_args(RunStatus) if status_colour(status) == palette.BAD}
    assert loud == {"failed", "crashed"}
