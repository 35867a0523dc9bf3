"""Lines with scrolling and search: a worker's output, a run's events, a model's tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Key

from rnnlm_tui.schema.formatting import counted, is_joiner
from rnnlm_tui.system.files import Stamp, stamp
from rnnlm_tui.system.processes import last_lines
from rnnlm_tui.tui.palette import BRIGHT, DIM, FOCUS, TEXT, WARN
from rnnlm_tui.tui.screens.overlay import Overlay, ResultT, key_line
from rnnlm_tui.tui.text import WrappedText, safe_text, selected
from rnnlm_tui.tui.threads import RepeatedRead
from rnnlm_tui.tui.widgets.checkpoints import tensor_table
from rnnlm_tui.tui.widgets.panel import Label, ScrolledPanel

if TYPE_CHECKING:
    from rnnlm_tui.client.checkpoint_detail import CheckpointDetail
    from rnnlm_tui.schema.sampling import TensorChange
    from rnnlm_tui.store.paths import RunDirectory


MOST_BYTES = 1024 * 1024
"""How much of a log's end is read."""
MOST_LINES = 20_000

KEYS = (
    ("↑ ↓", "scroll"), ("/", "search"), ("home end", "ends"), ("pgup pgdn", "pages"),
    ("esc", "close"),
)  # fmt: skip


LONGEST = 4_000
"""Characters of a line that are shown at most."""
END = 1_000_000
"""More rows than any log has."""


@lru_cache(maxsize=MOST_LINES)
def _harmless(line: str) -> str:
    if len(line) <= LONGEST and line.isascii() and line.isprintable():
        return line
    return safe_text(line[:LONGEST], newlines="space")


@lru_cache(maxsize=MOST_LINES)
def _rows_of(line: str, width: int) -> Sequence[str]:
    """Wrap a line; cached, as a log that grows is shown again and again."""
    if len(line) <= width and line.isascii():
        return (line,)
    wrapped = WrappedText(width, line)
    return tuple(wrapped.text[slice(*wrapped.span(row))] for row in range(len(wrapped)))


class LogPanel(ScrolledPanel, can_focus=True):
    """Lines of a log, sanitized; follows the end until you scroll up."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("up,k", "scroll(-1)"), ("down,j", "scroll(1)"), ("pageup", "page(-1)"),
        ("pagedown,space", "page(1)"), ("home", f"scroll(-{END})"), ("end,f", f"scroll({END})"),
        ("n", "found(-1)"), ("N", "found(1)"),
    ]  # fmt: skip

    def __init__(self, *, title: str, id: str | None = None) -> None:
        super().__init__(title=title, id=id)
        self.following = True
        """Whether the newest line is kept in view."""
        self.search = ""
        """The text searched for; empty: none."""
        self.found: int | None = None
        """The line with it that was gone to."""
        self.colours: dict[str, str] = {}
        """Styles of texts, by their regular expressions."""
        self._texts: list[str] = []
        self._rows: list[tuple[int, str]] = []
        """The number of a line and a part of it."""
        self._width = 0
        self._note = ""

    def show(self, lines: Sequence[str], note: str = "") -> None:
        """Show these lines; the note appears in the legend."""
        self._texts, self._note = [_harmless(line) for line in lines], note
        self._wrap()
        self.redraw()

    def _wrap(self) -> None:
        texts = enumerate(self._texts if self._width > 0 else ())
        self._rows = [(at, row) for at, text in texts for row in _rows_of(text, self._width)]
        self.row_count = len(self._rows)

    def action_scroll(self, by: int) -> None:
        """Scroll down, or up if negative; follow the end again once it is reached."""
        self.following = by > 0 and self.top + by >= self.last_top
        self.show_from(self.top + by)

    scroll_lines = action_scroll

    def action_page(self, pages: int) -> None:
        """Scroll by pages, less one row."""
        self.action_scroll(pages * max(1, self.inner_size.height - 1))

    def find(self, search: str) -> None:
        """Search from the end up, ignoring case."""
        self.search, self.found = search, None
        self.action_found(-1)

    def action_found(self, by: int) -> None:
        """Go to the next match towards the end (1) or the beginning (-1), wrapping around."""
        wanted, at, height = self.search.lower(), self.found, self.inner_size.height
        texts = self._texts if wanted else ()
        hits = [index for index, text in enumerate(texts) if wanted in text.lower()][::by]
        further = [hit for hit in hits if at is not None and (hit - at) * by > 0]
        self.found = next(iter(further or hits), None)
        if self.found is None:
            self.redraw()
            return
        row = next(number for number, (line, _) in enumerate(self._rows) if line == self.found)
        self.following = False
        self.show_from(self.top if self.top <= row < self.top + height else row - height // 2)

    def legends(self) -> Iterable[Label]:
        """Return the position in the log."""
        last = min(self.top + self.inner_size.height, self.row_count)
        where = "follows" if self.following else f"{100 * last // max(self.row_count, 1)} %"
        return Content.styled(f"{self._note}  {where}".lstrip(), DIM), Content.styled(where, DIM)

    def prepare(self, width: int, height: int) -> None:
        """Wrap the lines to the width, and draw those in view."""
        if width != self._width:
            first = self._rows[self.top][0] if self.top < len(self._rows) else 0
            self._width = width
            self._wrap()
            self.top = next((at for at, (line, _) in enumerate(self._rows) if line >= first), 0)
        self.top = self.last_top if self.following else max(0, min(self.top, self.last_top))
        self.lines = [
            selected(Content.styled(row, f"bold {BRIGHT}"), width)
            if line == self.found
            else self._styled(row)
            for line, row in self._rows[self.top : self.top + height]
        ] or [Content.styled("no output", DIM)]

    def _styled(self, row: str) -> Content:
        content = Content.styled(row, TEXT)
        for pattern, style in self.colours.items():
            content = content.highlight_regex(pattern, style=style)
        return content


MOST_SEARCH = 200


class SearchOverlay(Overlay[ResultT]):
    """An overlay with a search: `/` begins it, keys write it, enter keeps it, and esc drops it."""

    typing, search = False, ""

    def searched(self) -> None:
        """Show what is searched for, and what was found."""

    def on_key(self, event: Key) -> None:
        """Search on each key.

        The key that begins it is handled here too: a binding runs only after the letters that were
        typed right after it have arrived.
        """
        edits = {"enter": self.search, "escape": "", "ctrl+u": "", "backspace": self.search[:-1]}
        character = event.character or ""
        if event.key == "slash" and not self.typing:
            self.typing, self.search = True, ""
        elif self.typing and (event.key in edits or event.is_printable or is_joiner(character)):
            self.typing = event.key not in ("enter", "escape")
            self.search = edits.get(event.key, self.search + character)[:MOST_SEARCH]
        else:
            return
        event.stop()
        event.prevent_default()
        self.searched()


class LinesOverlay(SearchOverlay[None]):
    """Lines, such as a run's events; a subclass shows others in `fill`."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape,q", "dismiss")]

    def __init__(self, title: str, lines: Sequence[str] = ()) -> None:
        super().__init__()
        self._lines = lines
        self.panel = LogPanel(title=title, id="log-box")

    def compose(self) -> ComposeResult:
        yield self.panel

    def on_mount(self) -> None:
        self.fill()

    def fill(self) -> None:
        """Show the lines."""
        self.panel.show(self._lines)

    def searched(self) -> None:
        self.panel.find(self.search)
        self._show_keys()

    def _show_keys(self) -> None:
        """Show what is typed, or the keys."""
        panel, typed = self.panel, self.search
        if self.typing:
            missing = "  not found" if typed and panel.found is None else ""
            sign, end = ("/", f"bold {FOCUS}"), ("▌", FOCUS)
            panel.bottom = Content.assemble(sign, (typed, f"bold {BRIGHT}"), end, (missing, WARN))
            return
        keys = [("n N", f"next {typed}"), *KEYS] if typed else KEYS
        panel.bottom = key_line(keys, panel.size.width, self.app)

    on_resize = _show_keys


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
        self._stamp: Stamp | None = None

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

    BINDINGS: ClassVar[list[BindingType]] = [Binding("L", "dismiss", id="show_log")]

    def __init__(self, run: RunDirectory, events: Sequence[str] = ()) -> None:
        super().__init__(f"Log, {run.name}", events)
        self._log = LogFollower(run.log_path)

    def fill(self) -> None:
        # in a thread: the file may be on a slow disk
        look = partial(RepeatedRead(self.context).start, self._log.look, self._show)
        self.set_interval(READ_SECONDS, look)
        look()

    def _show(self, changed: bool) -> None:
        if not changed or not self.is_open:
            return
        if self._log.lines or not self._lines:
            self.panel.show(self._log.lines, "its end" if self._log.is_cut else "")
        else:
            self.panel.show(self._lines, "No worker output. Events:")


class TensorsScreen(LinesOverlay):
    """All tensors of a checkpoint: shape, type, size, and how much each changed."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("z", "dismiss", id="tensors")]

    def __init__(self, detail: CheckpointDetail, changes: Mapping[str, TensorChange]) -> None:
        super().__init__(f"Tensors of step {detail.step:,}")
        self._detail, self._changes = detail, changes

    def fill(self) -> None:
        lines = tensor_table(self._detail, self._changes, self.app.size.width - 6)
        parts = [f"{counted(len(lines), 'tensor')}, read from the header"]
        if self._changes and self._detail.before_name:
            parts.append(f"last column: change since {self._detail.before_name}, relative")
        self.panel.show([line.plain for line in lines], "; ".join(parts))
        self.panel.action_scroll(-END)
