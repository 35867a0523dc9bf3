"""A run's status as text with a coloured glyph: `● running`; and the colour of its progress bar."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content

from rnnlm_tui.tui.widgets import palette

if TYPE_CHECKING:
    from rnnlm_tui.contract.status import RunStatus
    from rnnlm_tui.contract.summary import RunSummary


def status_glyph(status: RunStatus, *, ascii_only: bool = False) -> Content:
    """Return the coloured glyph, one column wide."""
    sign, colour = palette.glyph(status, ascii_only)
    return Content.styled(sign, f"bold {colour}" if status in ("paused", "crashed", "stalled", "degraded", "lost") else colour)


def status_word(status: RunStatus, *, bold: bool = False) -> Content:
    """Return the word, coloured for running runs and trouble only."""
    colour = {"running": palette.TRAIN, "preparing": palette.TRAIN, "stalled": palette.WARN, "degraded": palette.WARN}.get(status, palette.word_colour(status))
    return Content.styled(palette.STATUS_WORDS[status], f"bold {colour}" if bold and colour != palette.TEXT else colour)


def status_content(status: RunStatus, *, ascii_only: bool = False, bold: bool = False) -> Content:
    """Return glyph and word."""
    return Content.assemble(status_glyph(status, ascii_only=ascii_only), " ", status_word(status, bold=bold))


def run_status(run: RunSummary, *, ascii_only: bool = False) -> Content:
    """Return a listed run's glyph and word, or what of it can't be read."""
    word = Content.styled(run.unreadable, palette.WARN) if run.unreadable else status_word(run.status)
    return Content.assemble(status_glyph(run.status, ascii_only=ascii_only), " ", word)


def progress_colour(status: RunStatus) -> str:
    """Return the colour of a run's progress bar."""
    alive, slow, ended = palette.TRAIN, palette.WARN, palette.BAD
    colours: dict[RunStatus, str] = {"running": alive, "preparing": alive, "stalled": slow, "degraded": slow, "failed": ended, "crashed": ended}
    return colours.get(status, palette.BASELINE)
