"""The cursor of the list of runs: the run on which it comes to rest becomes the open one, also where a key goes on before it rests."""

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
"""How long the cursor rests on a run before its database is opened: holding a key down opens none."""


class RunCursor(PaneScreen):
    """A screen with the list, whose cursor says which run is open."""

    def __init__(self) -> None:
        super().__init__()
        self._expected: str | None = None
        """The open run, as long as the cursor is not on it yet: it was opened elsewhere, or is so new that the list lacks it."""
        self._settle: Timer | None = None
        """Runs while the cursor has not come to rest."""
        self._moved_from: RunDirectory | None = None
        """The open run when the cursor was moved last."""
        self._covered_on: str | None = None
        """The open run when a box was laid over the list; None where another screen took its place."""

    @property
    def chosen(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.query_one(RunsTable).chosen

    def on_runs_table_chosen(self, message: RunsTable.Chosen) -> None:
        """The cursor moved."""
        self._expected = None
        self._choose_soon(message.name)

    def on_screen_suspend(self, _event: ScreenSuspend) -> None:
        """A key that goes to another screen while the cursor still moves is meant for the run under it."""
        opened = self.context.run_directory
        self._covered_on = opened.name if opened is not None and self.app.current_mode == self.PANE else None
        chosen = self.chosen
        if self._settle is not None and chosen is not None:
            self._stop_settling()
            self.context.in_thread(partial(self.context.services.find, chosen.run), self._take_behind, self._not_found)

    def _follow(self) -> None:
        """The run under the cursor becomes the open one, unless the cursor is still moving or waits for a run that the list lacks."""
        chosen = self.chosen
        opened = self.context.run_directory
        if chosen is not None and self._expected is None and self._settle is None and (opened is None or opened.name != chosen.run):
            self._choose(chosen.run)

    def _choose_soon(self, name: str) -> None:
        self._stop_settling()
        self._moved_from = self.context.run_directory
        self._settle = self.set_interval(SETTLE_SECONDS, partial(self._settled, name))  # not set_timer: one that starts late is never called

    def _settled(self, name: str) -> None:
        self._stop_settling()
        self._choose(name)

    def _stop_settling(self) -> None:
        if self._settle is not None:
            self._settle.stop()
        self._settle = None

    def _choose(self, name: str) -> None:
        self.context.in_thread(partial(self.context.services.find, name), self._take, self._not_found)

    def _not_found(self, error: RnnlmError | OSError) -> None:
        """A run that was deleted or renamed while the cursor came to rest: the list is about to say so."""
        if not isinstance(error, UnknownRunError):
            self.context.report_error(error)

    def _take(self, run: RunDirectory) -> None:
        """Unless the cursor, or the person, has gone on since."""
        chosen = self.chosen
        if self.is_current and chosen is not None and chosen.run == run.name:
            self.context.select_run(run)

    def _take_behind(self, run: RunDirectory) -> None:
        """Unless the key itself has opened one, as `enter` does."""
        if self.context.run_directory is self._moved_from:
            self.context.select_run(run)
