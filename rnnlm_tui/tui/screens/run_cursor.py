"""RunCursor: the run on which the list's cursor rests becomes the open one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from textual.events import ScreenSuspend
from textual.timer import Timer

from rnnlm_tui.errors import RnnlmError, UnknownRunError
from rnnlm_tui.tui.screens.pane import PaneScreen
from rnnlm_tui.tui.widgets.runs_table import RunsTable

if TYPE_CHECKING:
    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.store.run_directory import RunDirectory

SETTLE_SECONDS = 0.15
"""How long the cursor rests on a run before its database is opened; holding a key down opens
none."""


class RunCursor(PaneScreen):
    """A screen with the list of runs, whose cursor selects the open run."""

    def __init__(self) -> None:
        super().__init__()
        self._expected: str | None = None
        """The run that the cursor should move to: it was opened elsewhere, or is too new for the
        list."""
        self._settle: Timer | None = None
        """Runs until the cursor rests."""
        self._moved_from: RunDirectory | None = None
        """The open run when the cursor was last moved."""
        self._open_when_covered: str | None = None
        """The open run when an overlay opened; None if another screen was shown."""

    @property
    def chosen(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.query_one(RunsTable).chosen

    def on_runs_table_chosen(self, message: RunsTable.Chosen) -> None:
        """Select the run soon."""
        self._expected = None
        self._choose_soon(message.name)

    def on_screen_suspend(self, _event: ScreenSuspend) -> None:
        """Open the run under the cursor at once when a key leaves the screen while it moves."""
        opened = self.context.run_directory
        self._open_when_covered = opened.name if opened is not None and self.app.current_mode == self.PANE else None
        chosen = self.chosen
        if self._settle is not None and chosen is not None:
            self._stop_settling()
            self.context.in_thread(partial(self.context.services.find, chosen.run), self._open_behind, self._not_found)

    def _follow(self) -> None:
        """Open the run under the cursor, unless the cursor still moves or waits for a new run."""
        chosen = self.chosen
        opened = self.context.run_directory
        if chosen is not None and self._expected is None and self._settle is None and (opened is None or opened.name != chosen.run):
            self._choose(chosen.run)

    def _choose_soon(self, name: str) -> None:
        self._stop_settling()
        self._moved_from = self.context.run_directory
        self._settle = self.set_interval(SETTLE_SECONDS, partial(self._settled, name))  # not set_timer: a timer that starts late is never called

    def _settled(self, name: str) -> None:
        self._stop_settling()
        self._choose(name)

    def _stop_settling(self) -> None:
        if self._settle is not None:
            self._settle.stop()
        self._settle = None

    def _choose(self, name: str) -> None:
        self.context.in_thread(partial(self.context.services.find, name), self._open_found, self._not_found)

    def _not_found(self, error: RnnlmError | OSError) -> None:
        """Report an error, except for a run that was just deleted or renamed."""
        if not isinstance(error, UnknownRunError):
            self.context.report_error(error)

    def _open_found(self, run: RunDirectory) -> None:
        """Open the run, unless the cursor or the user has moved on."""
        chosen = self.chosen
        if self.is_current and chosen is not None and chosen.run == run.name:
            self.context.select_run(run)

    def _open_behind(self, run: RunDirectory) -> None:
        """Open the run, unless the key has opened one itself, as `enter` does."""
        if self.context.run_directory is self._moved_from:
            self.context.select_run(run)
