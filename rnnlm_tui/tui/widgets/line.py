"""One row of text that redraws only changed cells: a cheap way to show numbers over a slow link."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from rnnlm_tui.tui.widgets.palette import BACKGROUND, TEXT, ink
from rnnlm_tui.tui.widgets.strips import changed_spans, padded, segments_of


class Line(Widget):
    """A row of text that may be updated often."""

    DEFAULT_CSS = f"Line {{ height: 1; width: 100%; background: {BACKGROUND}; }}"

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._content = Content("")
        self._strip: Strip | None = None

    @property
    def plain(self) -> str:
        """The text shown."""
        return self._content.plain

    def put(self, content: Content) -> None:
        """Show this content; unchanged cells aren't redrawn."""
        same = content.plain == self._content.plain and content.spans == self._content.spans
        self._content = content
        before = self._strip
        if before is not None and before.cell_length == self.size.width and same:
            return
        if before is None or before.cell_length != self.size.width:
            self._strip = None
            self.refresh()
            return
        self._strip = self._drawn()
        for first, last in changed_spans(before, self._strip):
            self.refresh(Region(first, 0, last - first, 1))

    def render_line(self, y: int) -> Strip:
        """Return the row."""
        if self._strip is None or self._strip.cell_length != self.size.width:
            self._strip = self._drawn()
        return self._strip if y == 0 else Strip.blank(self.size.width, ink(TEXT, background=BACKGROUND))

    def _drawn(self) -> Strip:
        width = self.size.width
        return padded(segments_of(self._content, TEXT), width).apply_style(ink(TEXT, background=BACKGROUND))
