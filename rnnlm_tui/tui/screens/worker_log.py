"""What the worker of a run printed, as it prints it: for a run that failed, the first place to look. And what happened in the run, an event a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.binding import Binding

from rnnlm_tui.tui.screens.lines_overlay import LinesOverlay

if TYPE_CHECKING:
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.supervisor.worker_log import LogFollower

LOOK_SECONDS = 0.5
"""Between two looks at the file."""


class WorkerLogScreen(LinesOverlay):
    """Follows `worker.log`; a worker that has nothing to complain of prints nothing, and then what happened in the run stands there."""

    BINDINGS = [Binding("L", "close", show=False)]  # noqa: RUF012 (Textual declares it so)

    def __init__(self, run: RunDirectory, happened: Sequence[str] = ()) -> None:
        super().__init__(f"Log, {run.name}")
        self._run = run
        self._happened = happened
        self._follower: LogFollower | None = None
        self._looking = False

    def on_mount(self) -> None:
        self.set_interval(LOOK_SECONDS, self._look)
        self._look()

    def _look(self) -> None:
        """In a thread, one at a time: the file may lie on a slow disk."""
        if not self._looking:
            self._looking = True
            self.context.in_thread(self._read, self._show)

    def _read(self) -> LogFollower | None:
        if self._follower is None:
            self._follower = self.context.services.log(self._run)
            self._follower.look()
            return self._follower
        return self._follower if self._follower.look() else None

    def _show(self, follower: LogFollower | None) -> None:
        self._looking = False
        if follower is None or not self.is_mounted:
            return
        if follower.lines or not self._happened:
            self.panel.show(follower.lines, "the end of it" if follower.skipped or follower.dropped else "")
        else:
            self.panel.show(self._happened, "nothing printed: what happened")


class EventsScreen(LinesOverlay):
    """What happened in the run, oldest first, in full."""

    def __init__(self, run: str, happened: Sequence[str]) -> None:
        super().__init__(f"Events, {run}")
        self._happened = happened

    def on_mount(self) -> None:
        self.panel.show(self._happened)
