"""Updates that send only the cells that changed: what a screen last sent is remembered by row, and the terminal gets the difference. Textual repaints whole regions, at a pane's start the whole screen three times, which over a slow link is several times as much (measured)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from textual._compositor import ChopsUpdate, Compositor, LayoutUpdate
from textual.events import ScreenResume, ScreenSuspend
from textual.geometry import Region
from textual.strip import Strip

from rnnlm_tui.tui.widgets.strips import Cell, cells_of, changed_cells, look_alike

if TYPE_CHECKING:
    from textual.screen import Screen

    Base = Screen[Any]
else:
    Base = object

UNKNOWN: Cell = ("\ue000", None)
"""A sign of no text: a cell of which is not known what the terminal shows."""
RESET = "\x1b[0m"
_COLOUR_LENGTHS = {"5": 3, "2": 5}
"""How many numbers a colour that begins with 38 or 48 has, by its second number."""


@lru_cache(maxsize=4_096)
def style_change(before: str, after: str) -> str:
    """The shortest sequence from one style to another. Textual sets the whole style again for each segment: four of five bytes repeat what has not changed (measured)."""
    if not after:
        return RESET
    (attributes, text, ground), (new_attributes, new_text, new_ground) = _read(before), _read(after)
    whole = f"\x1b[0;{after}m" if before else f"\x1b[{after}m"
    if (text and not new_text) or (ground and not new_ground) or not attributes - new_attributes <= {"1", "2"}:
        return whole
    kept, ends = attributes, []
    if attributes - new_attributes:
        kept, ends = attributes - {"1", "2"}, ["22"]
    codes = [*ends, *sorted(new_attributes - kept), *([new_text] if new_text != text else []), *([new_ground] if new_ground != ground else [])]
    return min(whole, f"\x1b[{';'.join(codes)}m" if codes else "", key=len)


def _read(codes: str) -> tuple[frozenset[str], str, str]:
    """Attributes such as bold, the text colour and the background colour; empty if the codes don't set them."""
    numbers, attributes, text, ground = codes.split(";") if codes else [], set(), "", ""
    while numbers:
        first = numbers[0]
        length = _COLOUR_LENGTHS.get(numbers[1], 1) if first in ("38", "48") and len(numbers) > 1 else 1
        code, numbers = ";".join(numbers[:length]), numbers[length:]
        if first == "38" or 30 <= int(first) <= 39 or 90 <= int(first) <= 97:
            text = code
        elif first == "48" or 40 <= int(first) <= 49 or 100 <= int(first) <= 107:
            ground = code
        else:
            attributes.add(code)
    return frozenset(attributes), text, ground


class SentRows:
    """What the terminal shows, by row, as long as one screen alone writes to it."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Cell]] = {}
        self._ink = ""
        """The style codes in force during an update; empty between updates."""

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
        colours = console._color_system or ColorSystem.TRUECOLOR
        parts: list[str] = []
        for first, last in changed_cells(before, cells):
            parts.append(f"\x1b[{y + 1};{left + first + 1}H")
            self._write(cells[first:last], colours, parts)
        return "".join(parts)

    def _write(self, cells: Sequence[Cell], colours: ColorSystem, parts: list[str]) -> None:
        """Write the characters and the style codes between them; a blank keeps the style before it if it looks the same in both."""
        last: Style | None = None
        for sign, style in cells:
            if style is not last and style is not None and not (sign == " " and last is not None and look_alike(style, last)):
                codes = style._ansi if style._ansi is not None else Strip.render_ansi(style, colours)
                if codes != self._ink:
                    parts.append(style_change(self._ink, codes))
                    self._ink = codes
                last = style
            parts.append(sign)

    def finish(self) -> str:
        """The codes that end an update, so that its style doesn't affect what is written next."""
        ink, self._ink = self._ink, ""
        return RESET if ink else ""


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
        return "".join((*written, self.sent.finish()))


class NarrowLayoutUpdate(LayoutUpdate):
    """An update of the whole screen of which only the difference is written."""

    def __init__(self, strips: list[Iterable[Strip]], region: Region, sent: SentRows) -> None:
        super().__init__([[Strip.join(line)] for line in strips], region)
        self._sent = sent

    def render_segments(self, console: Console) -> str:
        """What goes to the terminal, row by row."""
        written = [self._sent.difference(y, 0, strip, self.region.width, console) for y, line in enumerate(self.strips) for strip in line]
        return "".join((*written, self._sent.finish()))


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
