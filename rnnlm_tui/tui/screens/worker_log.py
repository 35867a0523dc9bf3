"""What the worker of a run printed, as it prints it: for a run that failed, the first place to look."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.events import Key

from rnnlm_tui.tui.screens.overlay import Overlay
from rnnlm_tui.tui.screens.pane import Laboratory
from rnnlm_tui.tui.widgets import palette
from rnnlm_tui.tui.widgets.key_line import key_line
from rnnlm_tui.tui.widgets.log_panel import LogPanel

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.worker_log import LogFollower

LOOK_SECONDS = 0.5
"""Between two looks at the file."""
KEYS = (("↑ ↓", "scroll"), ("/", "search"), ("home end", "ends"), ("pgup pgdn", "pages"), ("esc", "close"))


class WorkerLogScreen(Overlay[None]):
    """Follows `worker.log`; `/` searches, `n` and `N` go on."""

    BINDINGS = [  # noqa: RUF012 (Textual declares it so)
        Binding("escape,q,L", "close", show=False),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home", "start", show=False),
        Binding("end,f", "end", show=False),
        Binding("slash", "search", show=False),
        Binding("n", "found(-1)", show=False),
        Binding("N", "found(1)", show=False),
    ]

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self._run = run
        self._follower: LogFollower | None = None
        self._looking = False
        self._typing = False
        self._typed = ""

    def compose(self) -> ComposeResult:
        yield LogPanel(title=f"Log, {self._run.name}", id="log-box")

    def on_mount(self) -> None:
        self.panel.highlighted = True
        self.set_interval(LOOK_SECONDS, self._look)
        self._look()

    def on_resize(self) -> None:
        self._tell_keys()

    @property
    def panel(self) -> LogPanel:
        """The lines."""
        return self.query_one(LogPanel)

    def _look(self) -> None:
        """In a thread, one at a time: the file may lie on a slow disk."""
        if not self._looking:
            self._looking = True
            cast(Laboratory, self.app).in_thread(self._read, self._show)

    def _read(self) -> LogFollower | None:
        if self._follower is None:
            self._follower = cast(Laboratory, self.app).services.log(self._run)
            self._follower.look()
            return self._follower
        return self._follower if self._follower.look() else None

    def _show(self, follower: LogFollower | None) -> None:
        self._looking = False
        if follower is not None and self.is_mounted:
            self.panel.show(follower.lines, "the end of it" if follower.skipped or follower.dropped else "")

    def _tell_keys(self) -> None:
        if self._typing:
            self.panel.bottom = Content.assemble(("/", f"bold {palette.FOCUS}"), (self._typed, f"bold {palette.BRIGHT}"), ("▌", palette.FOCUS))
            return
        keys = [("n N", f"next {self._typed}"), *KEYS] if self._typed else KEYS
        self.panel.bottom = key_line(keys, self.panel.size.width)

    def on_key(self, event: Key) -> None:
        """What is typed after `/` is searched at once; enter keeps it, esc lets it go."""
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
        elif event.is_printable and event.character:
            self._typed += event.character
        else:
            return
        there = self.panel.find(self._typed)
        self._tell_keys()
        if self._typing and self._typed and not there:
            self.panel.bottom = Content.assemble(self.panel.bottom, ("  not found", palette.WARN))

    def action_close(self) -> None:
        """Back to the pane."""
        self.dismiss(None)

    def action_scroll(self, rows: int) -> None:
        """By so many rows."""
        self.panel.scroll_rows(rows)

    def action_page(self, pages: int) -> None:
        """By what shows."""
        self.panel.scroll_pages(pages)

    def action_start(self) -> None:
        """To the first line that was read."""
        self.panel.to_start()

    def action_end(self) -> None:
        """To the newest line, and on with it."""
        self.panel.to_end()

    def action_search(self) -> None:
        """Type what to look for."""
        self._typing, self._typed = True, ""
        self._tell_keys()

    def action_found(self, by: int) -> None:
        """The next place, towards the beginning or the end."""
        self.panel.find_next(by)
