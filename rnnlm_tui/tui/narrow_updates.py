"""Updates that send only the cells that changed: what a screen last sent is remembered by row, and the terminal gets the difference. Textual repaints whole regions, at a pane's start the whole screen three times, which over a slow link is several times as much (measured)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor, LayoutUpdate
from textual.events import ScreenResume, ScreenSuspend
from textual.geometry import Region
from textual.strip import Strip

from rnnlm_tui.tui.widgets.strips import Cell, cells_of, changed_cells

if TYPE_CHECKING:
    from textual.screen import Screen

    Base = Screen[Any]
else:
    Base = object

UNKNOWN: Cell = ("\ue000", None)
"""A sign of no text: a cell of which is not known what the terminal shows."""


class SentRows:
    """What the terminal shows, by row, as long as one screen alone writes to it."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Cell]] = {}

    def forget(self) -> None:
        """Another screen has written, or the terminal has changed: everything is sent again."""
        self._rows.clear()

    def difference(self, y: int, left: int, strip: Strip, width: int, console: Console) -> str:
        """What has to be written so that `strip` stands in row `y` from column `left` on; remembered as written."""
        row = self._rows.get(y)
        if row is None or len(row) != width:
            row = self._rows[y] = [UNKNOWN] * width
        cells = cells_of(strip)[: width - left]
        right = left + len(cells)
        before = row[left:right]
        if before == cells:
            return ""
        row[left:right] = cells
        return "".join(Control.move_to(left + first, y).segment.text + strip.crop(first, last).render(console) for first, last in changed_cells(before, cells))


class NarrowUpdate(ChopsUpdate):
    """A partial update of which only the difference is written."""

    sent: SentRows

    def render_segments(self, console: Console) -> str:
        """What goes to the terminal: for each span a move and its cells."""
        written: list[str] = []
        for y, first, last in self.spans:
            width = self.chop_ends[y][-1]
            for end, (start, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                if strip is None or start >= last or end <= first:
                    continue
                left, right = max(start, first), min(end, last)
                written.append(self.sent.difference(y, left, strip.crop(left - start, right - start), width, console))
        return "".join(written)


class NarrowLayoutUpdate(LayoutUpdate):
    """An update of the whole screen of which only the difference is written."""

    def __init__(self, strips: list[Iterable[Strip]], region: Region, sent: SentRows) -> None:
        super().__init__([[Strip.join(line)] for line in strips], region)
        self._sent = sent

    def render_segments(self, console: Console) -> str:
        """What goes to the terminal, row by row."""
        return "".join(self._sent.difference(y, 0, strip, self.region.width, console) for y, line in enumerate(self.strips) for strip in line)


class NarrowCompositor(Compositor):
    """Textual's compositor with narrow updates. Only what is really written counts as sent, for Textual throws updates away."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = SentRows()

    def render_full_update(self, simplify: bool = False) -> LayoutUpdate:
        """Everything; written is what differs from what was sent."""
        update = super().render_full_update(simplify)
        return NarrowLayoutUpdate(update.strips, update.region, self.sent)

    def render_partial_update(self) -> ChopsUpdate | None:
        """What changed since the last update; None: nothing."""
        update = super().render_partial_update()
        if update is None:
            return None
        narrow = NarrowUpdate(update.chops, update.spans, update.chop_ends)
        narrow.sent = self.sent
        return narrow


class NarrowScreen(Base):
    """Goes before Textual's screen class: it sends only the cells that changed, and everything after something else has written to the terminal."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._compositor: NarrowCompositor = NarrowCompositor()

    def forget_terminal(self, _app: object = None) -> None:
        """Something else writes to the terminal now, or has: this screen is sent whole the next time."""
        self._compositor.sent.forget()

    def on_mount(self) -> None:
        self.app.app_resume_signal.subscribe(self, self.forget_terminal, immediate=True)

    def on_screen_suspend(self, _event: ScreenSuspend) -> None:
        self.forget_terminal()

    def on_screen_resume(self, _event: ScreenResume) -> None:
        self.forget_terminal()
