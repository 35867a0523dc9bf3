"""What stands on the terminal, so that over a slow line only cells that differ are sent.

Textual repaints whole widgets, several times at its start, and of a changed part of a row all that is left of it. Mixed into an app, `FrugalDisplay` compares every update with what was sent before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, RenderableType
from rich.control import Control
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.app import App, ReturnType
from textual.driver import Driver
from textual.geometry import Size
from textual.screen import Screen
from textual.strip import Strip
from textual.types import CSSPathType

from rnnlm_tui.tui.widgets.strips import cells_of

Cell = tuple[str, Style | None]
GAP = 12
"""Equal cells between two changed ones that are sent along: to jump over them costs as much."""


class TerminalMemory:
    """The cells that were sent last."""

    def __init__(self) -> None:
        self._rows: list[list[Cell | None]] = []
        self._size = Size(0, 0)

    def forget(self) -> None:
        """Nothing is known of the terminal any more (resized, suspended, written on by others): the next update is sent whole."""
        self._size = Size(0, 0)

    def changes(self, update: LayoutUpdate | ChopsUpdate, size: Size, console: Console) -> str:
        """The control sequences for what an update changes, remembered as sent; empty when it changes nothing."""
        if size != self._size:
            self._size, self._rows = size, [[None] * size.width for _ in range(size.height)]
        return "".join(sequence for x, y, strip in _pieces(update) if 0 <= y < size.height for sequence in self._row(x, y, strip, console))

    def _row(self, x: int, y: int, strip: Strip, console: Console) -> Iterator[str]:
        strip = strip.crop(0, max(self._size.width - x, 0))
        new, known = cells_of(strip), self._rows[y]
        for first, last in changed_runs(known[x : x + len(new)], new):
            yield Control.move_to(x + first, y).segment.text
            yield strip.crop(first, last).render(console)
        known[x : x + len(new)] = new


def changed_runs(old: list[Cell | None], new: list[Cell]) -> list[tuple[int, int]]:
    """(first, behind the last) of the parts that differ; wide characters whole, near parts joined."""
    runs: list[tuple[int, int]] = []
    for at, (before, after) in enumerate(zip(old, new, strict=True)):
        if before == after:
            continue
        first, last = at, at + 1
        while first > 0 and (not new[first][0] or _right_half(old[first])):
            first -= 1
        while last < len(new) and (not new[last][0] or _right_half(old[last])):
            last += 1
        if runs and first - runs[-1][1] < GAP:
            runs[-1] = (runs[-1][0], max(last, runs[-1][1]))
        else:
            runs.append((first, last))
    return runs


def _right_half(cell: Cell | None) -> bool:
    return cell is not None and not cell[0]


def _pieces(update: LayoutUpdate | ChopsUpdate) -> Iterator[tuple[int, int, Strip]]:
    """(x, y, strip) of all that an update brings."""
    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            yield update.region.x, y, Strip.join(line)
        return
    for y, first, last in update.spans:
        chops: Iterable[tuple[int, tuple[int, Strip | None]]] = zip(update.chop_ends[y], update.chops[y].items(), strict=False)
        for end, (x, strip) in chops:
            if strip is not None and x < last and end > first:
                yield x, y, strip


class FrugalUpdate(CompositorUpdate):
    """An update that sends only what differs from what the terminal shows."""

    def __init__(self, update: LayoutUpdate | ChopsUpdate, size: Size, memory: TerminalMemory) -> None:
        self._update, self._size, self._memory = update, size, memory

    def render_segments(self, console: Console) -> str:
        """Called when, and only when, the result is written."""
        return self._memory.changes(self._update, self._size, console)


class FrugalDisplay(App[ReturnType]):
    """An app that sends to its terminal only cells that changed."""

    def __init__(
        self, driver_class: type[Driver] | None = None, css_path: CSSPathType | None = None, watch_css: bool = False, ansi_color: bool | None = None
    ) -> None:
        super().__init__(driver_class, css_path, watch_css, ansi_color)
        self.terminal_memory = TerminalMemory()
        """What the terminal shows; `forget()` before a repaint that has to be whole."""

    def _display(self, screen: Screen[object], renderable: RenderableType | None) -> None:
        frugal = FrugalUpdate(renderable, self.size, self.terminal_memory) if isinstance(renderable, LayoutUpdate | ChopsUpdate) else renderable
        super()._display(screen, frugal)  # type: ignore[arg-type]  # Textual takes its own updates here

    def _check_resize(self) -> None:
        self.terminal_memory.forget()  # a terminal moves its lines about when its size changes
        super()._check_resize()

    def on_mount(self) -> None:
        """Others have written on the terminal while the app was suspended."""
        self.app_resume_signal.subscribe(self, lambda _: self.terminal_memory.forget())
