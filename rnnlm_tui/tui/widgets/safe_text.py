"""One-line fields that take no control characters: what is pasted into them is drawn by Textual as it is, escape sequences included."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.events import Key, Paste
from textual.geometry import Offset, Region
from textual.strip import Strip
from textual.widgets import Input

from rnnlm_tui.contract.outside_text import UNSAFE, is_joiner
from rnnlm_tui.tui.widgets.palette import DIM

if TYPE_CHECKING:
    Mixed = Input
else:
    Mixed = object  # of a widget Textual would take the styles of the first base alone

_LINE_BREAK = re.compile("\r\n?|[\x85\u2028\u2029]")
"""Terminals send a pasted line break as CR, some as LF or CRLF."""


def with_line_breaks(text: str) -> str:
    """The text with every kind of line break as a line feed."""
    return _LINE_BREAK.sub("\n", text)


def without_controls(text: str, *, keep: str = "\n\t") -> str:
    """The text without what could act on a terminal or stand in it unseen; `keep` passes."""
    return UNSAFE.sub(lambda match: match[0] if match[0] in keep else "", with_line_breaks(text))


class OneLine(Mixed):
    """Mixed into an input: no control characters, a cut value is marked with `…`, and a paste of several lines is taken whole, where Textual takes the first line."""

    line_break: str = ""
    """What a pasted line break becomes; empty: a space between lines that are not blank."""

    def validate_value(self, value: str) -> str:
        """Textual's hook for every change of the value."""
        return without_controls(value, keep="")

    def _on_paste(self, event: Paste) -> None:
        lines = without_controls(event.text).replace("\t", " ").split("\n")
        if len(lines) > 1:
            event.text = self.line_break.join(lines) if self.line_break else " ".join(filter(None, map(str.strip, lines)))
        else:
            event.text = lines[0]

    def scroll_to_region(self, region: Region, **named: Any) -> Offset:
        """Textual's hook that brings the cursor into view, with a cell on either side for `…`."""
        left = max(0, region.x - 1)
        return super().scroll_to_region(Region(left, region.y, region.right + 1 - left, region.height), **named)

    def render_line(self, y: int) -> Strip:
        """Textual's hook that draws the value, with `…` at an end that is cut: 100000 never shows as 10000."""
        strip, width = super().render_line(y), self.size.width
        if y or not self.value or width < 2:
            return strip
        before = round(self.scroll_offset.x)
        cursor = cell_len(self.value[: self.cursor_position]) - before if self.has_focus else None
        sign = Strip([Segment("…", self.rich_style + Style(color=DIM))], 1)
        if before > 0 and cursor != 0:
            strip = Strip.join([sign, strip.crop(1)])
        if cell_len(self.value) - before > width and cursor != width - 1:
            strip = Strip.join([strip.crop(0, width - 1), sign])
        return strip

    async def _on_key(self, event: Key) -> None:
        """Insert a typed joiner: Textual takes it for a key without a character."""
        if is_joiner(event.character):
            event.stop()
            event.prevent_default()
            self.replace(event.character or "", *self.selection)


class SafeInput(OneLine, Input):
    """One line, without control characters."""
