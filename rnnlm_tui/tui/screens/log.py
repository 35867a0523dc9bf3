"""Lines with scrolling and search: a worker's output, a run's events, a model's tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.events import Key

from rnnlm_tui.schema.formatting import counted, is_joiner
from rnnlm_tui.system.files import stamp
from rnnlm_tui.system.processes import last_lines
from rnnlm_tui.tui import palette
from rnnlm_tui.tui.screens.overlay import Overlay, key_line
from rnnlm_tui.tui.threads import RepeatedRead
from rnnlm_tui.tui.views.checkpoints import tensor_table
from rnnlm_tui.tui.widgets.log_panel import LogPanel

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


class LinesOverlay(Overlay[None]):
    """A subclass shows its lines in `panel`. `/` searches."""

    BINDINGS = [  # noqa: RUF012 (declared so by Textual)
        Binding("escape,q", "close", show=False),
        Binding("slash", "search", show=False),
    ]

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._typing = False
        self._typed = ""

    def compose(self) -> ComposeResult:
        yield LogPanel(title=self._title, id="log-box")

    def on_resize(self) -> None:
        self._show_keys()

    @property
    def panel(self) -> LogPanel:
        """The panel with the lines."""
        return self.query_one(LogPanel)

    def _show_keys(self) -> None:
        if self._typing:
            self.panel.bottom = Content.assemble(
                ("/", f"bold {palette.FOCUS}"),
                (self._typed, f"bold {palette.BRIGHT}"),
                ("▌", palette.FOCUS),
            )
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
        super().__init__(f"Log, {run.name}")
        self._run = run
        self._events = events
        self._follower: LogFollower | None = None

    def on_mount(self) -> None:
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
        if follower is None or not self.is_mounted:
            return
        if follower.lines or not self._events:
            self.panel.show(follower.lines, "its end" if follower.is_cut else "")
        else:
            self.panel.show(self._events, "No worker output. Events:")


class EventsScreen(LinesOverlay):
    """A run's events, oldest first."""

    def __init__(self, run: str, events: Sequence[str]) -> None:
        super().__init__(f"Events, {run}")
        self._events = events

    def on_mount(self) -> None:
        self.panel.show(self._events)


class TensorsScreen(LinesOverlay):
    """All tensors of a checkpoint: shape, type, size, and how much each changed."""

    BINDINGS = [Binding("z", "close", show=False)]  # noqa: RUF012 (declared so by Textual)

    def __init__(self, detail: CheckpointDetail, changes: Mapping[str, TensorChange]) -> None:
        super().__init__(f"Tensors of step {detail.step:,}")
        self._detail, self._changes = detail, changes

    def on_mount(self) -> None:
        lines = tensor_table(self._detail, self._changes, self.app.size.width - 6)
        parts = [f"{counted(len(lines), 'tensor')}, read from the header"]
        if self._changes and self._detail.before_name:
            parts.append(f"last column: change since {self._detail.before_name}, relative")
        self.panel.show([line.plain for line in lines], "; ".join(parts))
        self.panel.action_start()
