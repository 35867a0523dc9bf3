"""One-line text fields without control characters, and one for a path.

Textual draws what is pasted into its inputs unchanged, escape sequences included.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Key, Paste
from textual.geometry import Offset, Region
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip
from textual.widgets import Input

from rnnlm_tui.schema.formatting import UNSAFE, is_joiner
from rnnlm_tui.tui.folders import complete_path
from rnnlm_tui.tui.palette import DIM
from rnnlm_tui.tui.threads import to_thread

_LINE_BREAK = re.compile("\r\n?|[\x85\u2028\u2029]")
"""Terminals send a pasted line break as CR, some as LF or CRLF."""


def with_line_breaks(text: str) -> str:
    """Turn every kind of line break into a line feed."""
    return _LINE_BREAK.sub("\n", text)


def without_controls(text: str, *, keep: str = "\n\t") -> str:
    """Remove characters that could act on a terminal or are invisible, except those in `keep`."""
    return UNSAFE.sub(lambda match: match[0] if match[0] in keep else "", with_line_breaks(text))


MOST_CANDIDATES = 40
"""Names that are shown; more don't help."""


class SafeInput(Input):
    """An input without control characters, with `…` at a cut end, and with pastes of several lines.

    Textual itself would keep only the first line of a paste.
    """

    DEFAULT_CSS = """
    SafeInput { width: 100%; height: 1; border: none; padding: 0; background: #262626;
        color: #ffffff; }
    SafeInput:focus { border: none; }
    SafeInput > .input--cursor { background: #5fd7ff; color: #121212; text-style: none; }
    SafeInput > .input--selection { background: #005f87; color: #eeeeee; }
    SafeInput > .input--placeholder { color: #808080; }
    """
    cursor_blink = var(False, init=False)
    line_break: str = ""
    """Replaces pasted line breaks; empty: lines are stripped and joined with a space."""

    @dataclass
    class Candidates(Message):
        """Several names fit what was typed, or none does (empty)."""

        names: str
        """Separated by blanks."""

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """Take every key that types a character, before the screen's bindings (Textual's hook).

        Textual asks with `character` None for keys that it doesn't name as Unicode does.
        """
        return key in ("slash", "minus", "plus") or super().check_consume_key(key, character)

    def validate_value(self, value: str) -> str:
        """Sanitize every change of the value (Textual's hook)."""
        return without_controls(value, keep="")

    def on_paste(self, event: Paste) -> None:
        lines = without_controls(event.text).replace("\t", " ").split("\n")
        if len(lines) > 1 and not self.line_break:
            lines = [line.strip() for line in lines if line.strip()]
        event.text = (self.line_break or " ").join(lines)

    def scroll_to_region(self, region: Region, **named: Any) -> Offset:
        """Keep a cell free on either side of the cursor for `…` (Textual's hook)."""
        left = max(0, region.x - 1)
        return super().scroll_to_region(
            Region(left, region.y, region.right + 1 - left, region.height), **named
        )

    def on_resize(self) -> None:
        """Scroll to the cursor: it is at the end of a value that was longer than no width."""
        if self.has_focus:
            at = cell_len(self.value[: self.cursor_position])
            self.scroll_to_region(Region(at, 0, 1, 1), force=True, animate=False)

    def render_line(self, y: int) -> Strip:
        """Draw `…` at an end that is cut, so that 100000 never shows as 10000 (Textual's hook)."""
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

    async def on_key(self, event: Key) -> None:
        """Insert a typed joiner: Textual takes it for a key without a character."""
        if is_joiner(event.character):
            event.stop()
            event.prevent_default()
            self.replace(event.character or "", *self.selection)

    async def complete(self, words: Sequence[str] = ()) -> bool:
        """Complete the path in a thread, because disks may be slow; return if there is anything."""
        typed = self.value
        text, names = await to_thread(complete_path, typed, words)
        more = len(names) - MOST_CANDIDATES
        if self.value == typed:  # not typed on meanwhile
            self.value = text
            self.cursor_position = len(text)
            rest = f"  and {more:,} more" if more > 0 else ""
            self.post_message(self.Candidates("  ".join(names[:MOST_CANDIDATES]) + rest))
        return bool(names) or text != typed


class PathInput(SafeInput):
    """An input whose tab completes a path, as in a shell."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "complete", show=False, priority=True)]

    async def action_complete(self) -> None:
        """Complete the path."""
        await self.complete()
