"""Lines with scrolling and search: a worker's output, a run's events, a model's tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Key
from textual.strip import Strip

from rnnlm_tui.schema.formatting import counted, is_joiner
from rnnlm_tui.system.files import stamp
from rnnlm_tui.system.processes import last_lines
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.palette import ink
from rnnlm_tui.tui.screens.overlay import Overlay, key_line
from rnnlm_tui.tui.text import WrappedText, safe_text
from rnnlm_tui.tui.threads import RepeatedRead
from rnnlm_tui.tui.widgets.checkpoints import tensor_table
from rnnlm_tui.tui.widgets.panel import Label, ScrolledPanel, padded, segments_of

if TYPE_CHECKING:
    from rnnlm_tui.client.checkpoint_detail import CheckpointDetail
    from rnnlm_tui.schema.sampling import TensorChange
    from rnnlm_tui.store.paths import RunDirectory


MOST_BYTES = 1024 * 1024
"""How much of a log's end is read."""
MOST_LINES = 20_000

KEYS = (
    ("↑ ↓", "scroll"),
    ("/", "search"),
    ("home end", "ends"),
    ("pgup pgdn", "pages"),
    ("esc", "close"),
)


LONGEST = 4_000
"""Characters of a line that are shown at most."""


class LogPanel(ScrolledPanel, can_focus=True):
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
        self._found: int | None = None
        self._note = ""

    @property
    def row_count(self) -> int:
        return len(self._rows)

    def show(self, lines: Sequence[str], note: str = "") -> None:
        """Show these lines, wrapping only new ones; the note appears in the legend."""
        same = 0
        if self._source and lines[: len(self._source) - 1] == self._source[:-1]:
            same = len(self._source) - 1
        self._lines = [*self._lines[:same], *(_harmless(line) for line in lines[same:])]
        self._source, self._note = list(lines), note
        self._wrap(same)
        self.show_from(self.last_top if self.following else self.top)

    def action_scroll(self, by: int) -> None:
        """Scroll down, or up if negative; follow the end again once it is reached."""
        self.following = by > 0 and self.top + by >= self.last_top
        self.show_from(self.top + by)

    scroll_lines = action_scroll

    def action_page(self, pages: int) -> None:
        """Scroll by pages, less one row."""
        self.action_scroll(pages * max(1, self.inner_size.height - 1))

    def action_start(self) -> None:
        """Scroll to the first line that was read."""
        self.following = False
        self.show_from(0)

    def action_end(self) -> None:
        """Scroll to the newest line and follow."""
        self.following = True
        self.show_from(self.last_top)

    def find(self, search: str) -> bool:
        """Search from the end up, ignoring case; return whether the text was found."""
        self.search, self._found = search, None
        return self.action_found(-1) if search else self._nothing()

    def action_found(self, by: int) -> bool:
        """Go to the next match towards the end (1) or the beginning (-1), wrapping around."""
        wanted = self.search.lower()
        hits = [index for index, line in enumerate(self._lines) if wanted in line.lower()]
        if not hits or not wanted:
            return self._nothing()
        if self._found is None:
            self._found = hits[-1]
        elif by > 0:
            self._found = next((index for index in hits if index > self._found), hits[0])
        else:
            self._found = next((index for index in reversed(hits) if index < self._found), hits[-1])
        row = next(number for number, (line, _) in enumerate(self._rows) if line == self._found)
        self.following, height = False, self.inner_size.height
        self.show_from(self.top if self.top <= row < self.top + height else row - height // 2)
        return True

    def _nothing(self) -> bool:
        self._found = None
        self.redraw()
        return False

    def legend_within(self, room: int) -> Label:
        """Return the position in the log."""
        rows, height = len(self._rows), self.inner_size.height
        last = min(self.top + height, rows)
        where = "follows" if self.following else f"{100 * last // max(rows, 1)} %"
        texts = (f"{self._note}  {where}" if self._note else where, where)
        return next((Content.styled(text, palette.DIM) for text in texts if len(text) <= room), "")

    def prepare(self, width: int, height: int) -> None:  # noqa: ARG002 (the panel's)
        """Wrap the lines to the current width."""
        if width != self._wrapped_to:
            line = self._rows[self.top][0] if self.top < len(self._rows) else 0
            self._wrap(0)
            self.top = next((number for number, (of, _) in enumerate(self._rows) if of >= line), 0)
        self.top = self.last_top if self.following else max(0, min(self.top, self.last_top))

    def content_line(self, y: int, width: int) -> Strip:
        """Return one row."""
        number = self.top + y
        if not self._rows and not y:
            return padded(segments_of("no output", palette.DIM), width)
        if number >= len(self._rows):
            return padded([], width)
        line, text = self._rows[number]
        chosen = line == self._found
        style = ink(palette.BRIGHT if chosen else palette.TEXT, bold=chosen)
        strip = padded([Segment(text, style)], width)
        under = ink(palette.TEXT, background=palette.SELECTED)
        return strip.apply_style(under) if chosen else strip

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
    if len(line) <= LONGEST and line.isascii() and line.isprintable():
        return line
    return safe_text(line[:LONGEST], newlines="space")


class LinesOverlay(Overlay[None]):
    """Lines, such as a run's events; a subclass shows others in `fill`. `/` searches."""

    BINDINGS = [  # noqa: RUF012 (declared so by Textual)
        Binding("escape,q", "close", show=False),
        Binding("slash", "search", show=False),
    ]

    def __init__(self, title: str, lines: Sequence[str] = ()) -> None:
        super().__init__()
        self._title, self._lines = title, lines
        self._typing = False
        self._typed = ""

    def compose(self) -> ComposeResult:
        yield LogPanel(title=self._title, id="log-box")

    def on_mount(self) -> None:
        self.fill()

    def fill(self) -> None:
        """Show the lines."""
        self.panel.show(self._lines)

    def on_resize(self) -> None:
        self._show_keys()

    @property
    def panel(self) -> LogPanel:
        """The panel with the lines."""
        return self.query_one(LogPanel)

    def _show_keys(self) -> None:
        if self._typing:
            sign, end = ("/", f"bold {palette.FOCUS}"), ("▌", palette.FOCUS)
            typed = (self._typed, f"bold {palette.BRIGHT}")
            self.panel.bottom = Content.assemble(sign, typed, end)
            return
        keys = [("n N", f"next {self._typed}"), *KEYS] if self._typed else KEYS
        self.panel.bottom = key_line(keys, self.panel.size.width, self.app)

    def on_key(self, event: Key) -> None:
        """Search on each key after `/`; enter keeps the search, esc drops it."""
        if not self._typing:
            return
        event.stop()
        event.prevent_default()
        if event.key in ("enter", "escape"):
            self._typing = False
            if event.key == "escape":
                self._typed = ""
        elif event.key == "backspace":
            self._typed = self._typed[:-1]
        elif event.character and (event.is_printable or is_joiner(event.character)):
            self._typed += event.character
        else:
            return
        found = self.panel.find(self._typed)
        self._show_keys()
        if self._typing and self._typed and not found:
            self.panel.bottom = Content.assemble(self.panel.bottom, ("  not found", palette.WARN))

    def action_close(self) -> None:
        """Close."""
        self.dismiss(None)

    def action_search(self) -> None:
        """Start a search."""
        self._typing, self._typed = True, ""
        self._show_keys()


READ_SECONDS = 0.5
"""Seconds between two reads of the file."""


class LogFollower:
    """The end of a log, read again by each `look` if the log changed. For one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: tuple[str, ...] = ()
        """Oldest first; the last one may still grow. Invalid UTF-8 is replaced."""
        self.is_cut = False
        """Whether the log's start was not read."""
        self._stamp = (0, 0, 0)

    def look(self) -> bool:
        """Read the log if it changed, and return whether it did; a missing one is empty."""
        before, self._stamp = self._stamp, stamp(self.path)
        if self._stamp == before:
            return False
        lines = last_lines(self.path, MOST_LINES + 1, max_bytes=MOST_BYTES)
        self.is_cut = self._stamp[0] > MOST_BYTES or len(lines) > MOST_LINES
        self.lines = lines[-MOST_LINES:]
        return True


class WorkerLogScreen(LinesOverlay):
    """Follows `worker.log`, or shows the run's events if the worker printed nothing."""

    BINDINGS = [Binding("L", "close", show=False)]  # noqa: RUF012 (declared so by Textual)

    def __init__(self, run: RunDirectory, events: Sequence[str] = ()) -> None:
        super().__init__(f"Log, {run.name}", events)
        self._run = run
        self._follower: LogFollower | None = None

    def fill(self) -> None:
        self._reading = RepeatedRead(self.context)
        self.set_interval(READ_SECONDS, self._update)
        self._update()

    def _update(self) -> None:
        """Read in a thread: the file may be on a slow disk."""
        self._reading.start(self._read, self._show)

    def _read(self) -> LogFollower | None:
        if self._follower is None:
            self._follower = LogFollower(self._run.log_path)
            self._follower.look()
            return self._follower
        return self._follower if self._follower.look() else None

    def _show(self, follower: LogFollower | None) -> None:
        if follower is None or not self.is_attached:
            return
        if follower.lines or not self._lines:
            self.panel.show(follower.lines, "its end" if follower.is_cut else "")
        else:
            self.panel.show(self._lines, "No worker output. Events:")


class TensorsScreen(LinesOverlay):
    """All tensors of a checkpoint: shape, type, size, and how much each changed."""

    BINDINGS = [Binding("z", "close", show=False)]  # noqa: RUF012 (declared so by Textual)

    def __init__(self, detail: CheckpointDetail, changes: Mapping[str, TensorChange]) -> None:
        super().__init__(f"Tensors of step {detail.step:,}")
        self._detail, self._changes = detail, changes

    def fill(self) -> None:
        lines = tensor_table(self._detail, self._changes, self.app.size.width - 6)
        parts = [f"{counted(len(lines), 'tensor')}, read from the header"]
        if self._changes and self._detail.before_name:
            parts.append(f"last column: change since {self._detail.before_name}, relative")
        self.panel.show([line.plain for line in lines], "; ".join(parts))
        self.panel.action_start()
