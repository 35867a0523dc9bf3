"""SampleStream: one sampling request at a time, shown as it runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

from textual.timer import Timer

from rnnlm_tui.tui.sampling import draw, stop_drawing
from rnnlm_tui.tui.views.prompt import Drawing

if TYPE_CHECKING:
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.screens.pane import PaneScreen

UPDATE_SECONDS = 0.1
"""Seconds between updates of the text: ten a second read as a stream."""
CELLS_PER_SECOND, CELLS_AT_ONCE = 5_500, 2_000
"""Cells that text in progress may change, for a link of 8 KiB/s; text that comes faster is shown
less often."""


class CellBudget:
    """How many cells texts in progress may change now, of so many per second."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._credit, self._updated = 0.0, 0.0

    def begin(self) -> None:
        """Allow the first texts at once."""
        self._credit, self._updated = float(CELLS_AT_ONCE), monotonic()

    def allows(self) -> bool:
        """Return whether cells may be changed by now."""
        now = monotonic()
        self._credit += self._per_second * (now - self._updated)
        self._credit, self._updated = min(self._credit, CELLS_AT_ONCE), now
        return self._credit > 0

    def spend(self, cells: int) -> None:
        """Note that cells were changed."""
        self._credit -= cells


class SampleStream:
    """Draws samples for a screen, one request at a time.

    Args:
        update: called ten times a second while samples are drawn.
        ended: called at their end, also after an error.
    """

    def __init__(
        self,
        screen: PaneScreen,
        update: Callable[[Drawing], None],
        ended: Callable[[Drawing], None],
    ) -> None:
        self._screen, self._update, self._ended = screen, update, ended
        self.drawing: Drawing | None = None
        """The running request."""
        self._ticker: Timer | None = None

    def begin(self, drawing: Drawing, run: RunDirectory) -> None:
        """Send a request."""
        self.drawing = drawing
        self._ticker = self._screen.set_interval(UPDATE_SECONDS, partial(self._update, drawing))
        self._update(drawing)
        self._screen.run_worker(self._draw(drawing, run), group="sample")

    async def _draw(self, drawing: Drawing, run: RunDirectory) -> None:
        await draw(self._screen.context, drawing, run)
        self._end(drawing)

    def _end(self, drawing: Drawing) -> None:
        """Show the end of a request, unless that is done, or it was abandoned."""
        drawing.over = True
        if drawing is self.drawing:
            self._forget()
            self._ended(drawing)

    def stop(self) -> None:
        """Stop the request; one that wasn't sent ends at once."""
        if self.drawing is not None:
            stop_drawing(self._screen.context, self.drawing)
            if self.drawing.over:
                self._end(self.drawing)

    def abandon(self) -> None:
        """Stop the request, and show nothing more of it."""
        if self.drawing is not None:
            stop_drawing(self._screen.context, self.drawing)
        self._forget()

    def _forget(self) -> None:
        self.drawing = None
        if self._ticker is not None:
            self._ticker.stop()
