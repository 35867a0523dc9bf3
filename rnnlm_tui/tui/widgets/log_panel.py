"""A log in a panel: wrapped, scrolled, followed and searched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.strip import Strip

from rnnlm_tui.tui import palette
from rnnlm_tui.tui.palette import ink
from rnnlm_tui.tui.text import WrappedText, safe_text
from rnnlm_tui.tui.widgets.panel import Label, Panel, padded, segments_of

LONGEST = 4_000
"""Characters of a line that are shown at most."""


class LogPanel(Panel, can_focus=True):
    """Lines of a log, sanitized; follows the end until you scroll up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home", "start", show=False),
        Binding("end,f", "end", show=False),
        Binding("n", "found(-1)", show=False),
        Binding("N", "found(1)", show=False),
    ]

    def __init__(self, *, title: str, id: str | None = None) -> None:
        super().__init__(title=title, id=id)
        self.following = True
        """Whether the newest line is kept in view."""
        self.search = ""
        """The text searched for; empty: none."""
        self._source: list[str] = []
        self._lines: list[str] = []
        self._rows: list[tuple[int, str]] = []
        self._wrapped_to = 0
        self._top = 0
        self._found: int | None = None
        self._note = ""

    @property
    def top(self) -> int:
        """The first visible row."""
        return self._top

    def show(self, lines: Sequence[str], note: str = "") -> None:
        """Show these lines, wrapping only new ones; the note appears in the legend."""
        same = 0
        if self._source and lines[: len(self._source) - 1] == self._source[:-1]:
            same = len(self._source) - 1
        self._lines = [*self._lines[:same], *(_harmless(line) for line in lines[same:])]
        self._source, self._note = list(lines), note
        self._wrap(same)
        self._settle()

    def action_scroll(self, rows: int) -> None:
        """Scroll down, or up if negative; follow the end again once it is reached."""
        self._top += rows
        self.following = rows > 0 and self._top >= self._last_top()
        self._settle()

    def action_page(self, pages: int) -> None:
        """Scroll by pages, less one row."""
        self.action_scroll(pages * max(1, self.inner_size.height - 1))

    def action_start(self) -> None:
        """Scroll to the first line that was read."""
        self.following, self._top = False, 0
        self._settle()

    def action_end(self) -> None:
        """Scroll to the newest line and follow."""
        self.following = True
        self._settle()

    def find(self, search: str) -> bool:
        """Search from the end up, ignoring case; return whether the text was found."""
        self.search, self._found = search, None
        return self.action_found(-1) if search else self._nothing()

    def action_found(self, by: int) -> bool:
        """Go to the next match towards the end (1) or the beginning (-1), wrapping around."""
        wanted = self.search.lower()
        hits = (
            [index for index, line in enumerate(self._lines) if wanted in line.lower()]
            if wanted
            else []
        )
        if not hits:
            return self._nothing()
        if self._found is None:
            self._found = hits[-1]
        elif by > 0:
            self._found = next((index for index in hits if index > self._found), hits[0])
        else:
            self._found = next((index for index in reversed(hits) if index < self._found), hits[-1])
        row = next(number for number, (line, _) in enumerate(self._rows) if line == self._found)
        if not self._top <= row < self._top + self.inner_size.height:
            self._top = row - self.inner_size.height // 2
        self.following = False
        self._settle()
        return True

    def _nothing(self) -> bool:
        self._found = None
        self.redraw()
        return False

    def legend_within(self, room: int) -> Label:
        """Return the position in the log."""
        rows, height = len(self._rows), self.inner_size.height
        last = min(self._top + height, rows)
        where = "follows" if self.following else f"{100 * last // max(rows, 1)} %"
        texts = (f"{self._note}  {where}" if self._note else where, where)
        return next((Content.styled(text, palette.DIM) for text in texts if len(text) <= room), "")

    def prepare(self, width: int, height: int) -> None:  # noqa: ARG002 (the panel's)
        """Wrap the lines to the current width."""
        if width != self._wrapped_to:
            line = self._rows[self._top][0] if self._top < len(self._rows) else 0
            self._wrap(0)
            self._top = next((number for number, (of, _) in enumerate(self._rows) if of >= line), 0)
        self._top = self._last_top() if self.following else max(0, min(self._top, self._last_top()))

    def content_line(self, y: int, width: int) -> Strip:
        """Return one row."""
        number = self._top + y
        if not self._rows and not y:
            return padded(segments_of("no output", palette.DIM), width)
        if number >= len(self._rows):
            return padded([], width)
        line, text = self._rows[number]
        chosen = line == self._found
        style = ink(palette.BRIGHT if chosen else palette.TEXT, bold=chosen)
        strip = padded([Segment(text, style)], width)
        return (
            strip.apply_style(ink(palette.TEXT, background=palette.SELECTED)) if chosen else strip
        )

    def _settle(self) -> None:
        self._top = self._last_top() if self.following else max(0, min(self._top, self._last_top()))
        self.redraw()

    def _last_top(self) -> int:
        return max(0, len(self._rows) - max(1, self.inner_size.height))

    def _wrap(self, first: int) -> None:
        """Rebuild the rows from line `first` on."""
        width = self.inner_size.width
        if width != self._wrapped_to:
            self._wrapped_to, first = width, 0
        while self._rows and self._rows[-1][0] >= first:
            self._rows.pop()
        if width < 1:
            return
        for index in range(first, len(self._lines)):
            line = self._lines[index]
            if len(line) <= width and line.isascii():
                self._rows.append((index, line))
            else:
                wrapped = WrappedText(width, line)
                self._rows += [
                    (index, wrapped.text[slice(*wrapped.span(row))]) for row in range(len(wrapped))
                ]


def _harmless(line: str) -> str:
    return (
        line
        if len(line) <= LONGEST and line.isascii() and line.isprintable()
        else safe_text(line[:LONGEST], newlines="space")
    )
