"""The worker's output while it is printed, and a run's events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.binding import Binding

from rnnlm_tui.tui.screens.lines_overlay import LinesOverlay

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.worker_log import LogFollower

READ_SECONDS = 0.5
"""Seconds between two reads of the file."""


class WorkerLogScreen(LinesOverlay):
    """Follows `worker.log`, or shows the run's events if the worker printed nothing."""

    BINDINGS = [Binding("L", "close", show=False)]  # noqa: RUF012 (declared so by Textual)

    def __init__(self, run: RunDirectory, events: Sequence[str] = ()) -> None:
        super().__init__(f"Log, {run.name}")
        self._run = run
        self._events = events
        self._follower: LogFollower | None = None
        self._reading = False

    def on_mount(self) -> None:
        self.set_interval(READ_SECONDS, self._update)
        self._update()

    def _update(self) -> None:
        """Read in a thread, one read at a time: the file may be on a slow disk."""
        if not self._reading:
            self._reading = True
            self.context.in_thread(self._read, self._show)

    def _read(self) -> LogFollower | None:
        if self._follower is None:
            self._follower = self.context.services.log(self._run)
            self._follower.look()
            return self._follower
        return self._follower if self._follower.look() else None

    def _show(self, follower: LogFollower | None) -> None:
        self._reading = False
        if follower is None or not self.is_mounted:
            return
        if follower.lines or not self._events:
            self.panel.show(follower.lines, "its end" if follower.skipped or follower.dropped else "")
        else:
            self.panel.show(self._events, "No worker output. Events:")


class EventsScreen(LinesOverlay):
    """A run's events, oldest first."""

    def __init__(self, run: str, events: Sequence[str]) -> None:
        super().__init__(f"Events, {run}")
        self._events = events

    def on_mount(self) -> None:
        self.panel.show(self._events)
