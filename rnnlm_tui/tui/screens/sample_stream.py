"""SampleStream: one sampling request at a time, shown in the transcript as it runs."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from textual.content import Content
from textual.timer import Timer

from rnnlm_tui.tui.palette import BAD, DIM
from rnnlm_tui.tui.sampling import SamplePlan, SampleTask
from rnnlm_tui.tui.views.sample_tree import Weights
from rnnlm_tui.tui.widgets.transcript import Transcript, TranscriptEntry

if TYPE_CHECKING:
    from rnnlm_tui.schema.metrics import CheckpointRow
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.tui.screens.pane import PaneScreen

UPDATE_SECONDS = 0.1
"""Seconds between updates of the text: ten a second read as a stream."""
CELLS_PER_SECOND, CELLS_AT_ONCE = 5_500, 2_000
"""Cells that text in progress may change, for a link of 8 KiB/s; text that comes faster is shown
less often."""


class CellBudget:
    """How many cells texts in progress may change now, of so many per second."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._credit, self._updated = 0.0, 0.0

    def begin(self) -> None:
        """Allow the first texts at once."""
        self._credit, self._updated = float(CELLS_AT_ONCE), monotonic()

    def allows(self) -> bool:
        """Return whether cells may be changed by now."""
        now = monotonic()
        self._credit += self._per_second * (now - self._updated)
        self._credit, self._updated = min(self._credit, CELLS_AT_ONCE), now
        return self._credit > 0

    def spend(self, cells: int) -> None:
        """Note that cells were changed."""
        self._credit -= cells


class SampleStream:
    """Runs requests whose samples belong to the newest entry of a screen's transcript.

    Args:
        took: called with current weights, once the worker has written them.
        ended: called with a request that has ended, after its end is shown.
    """

    def __init__(
        self,
        screen: PaneScreen,
        took: Callable[[Weights], None],
        ended: Callable[[SampleTask | None], None],
    ) -> None:
        self._screen, self._took, self._ended = screen, took, ended
        self._task: SampleTask | None = None
        """The running request."""
        self._ticker: Timer | None = None
        self._budget = CellBudget(CELLS_PER_SECOND)

    @property
    def running(self) -> bool:
        """Whether a request is running."""
        return self._task is not None

    @property
    def _transcript(self) -> Transcript:
        return self._screen.query_one(Transcript)

    def begin(
        self,
        plan: SamplePlan,
        entry: TranscriptEntry,
        run: RunDirectory,
        row: CheckpointRow | None,
    ) -> None:
        """Send a request whose samples belong to an entry, the newest one or a new one."""
        self._task = SampleTask(self._screen.context, plan, run, row, self._show_end)
        entry.begin(plan.count, plan.prompt + plan.text)
        if entry is self._transcript.newest:
            self._transcript.show_newest()
        else:
            self._transcript.add(entry)
        self._budget.begin()
        self._ticker = self._screen.set_interval(UPDATE_SECONDS, self._update)
        self._update()
        self._screen.run_worker(self._task.run(), group="sample")

    def stop(self) -> None:
        """Stop the request; the texts so far come with its answer."""
        if self._task is not None:
            self._screen.run_worker(self._task.stop(), group="cancel")

    def abandon(self) -> None:
        """Stop the request, and show nothing more of it."""
        if self._task is not None:
            self.stop()
            self._finish(None)

    def _update(self, *, ended: bool = False) -> None:
        task, entry = self._task, self._transcript.newest
        if task is None or entry is None:
            return
        if task.weights is not None and task.weights.row is None:
            self._took(task.weights)
        transcript = self._transcript
        before = transcript.repainted
        if self._budget.allows() or ended:
            for done in task.results:
                entry.live[done.sample].ended = True
            transcript.extend(task.progress.drain())
        transcript.show_status(task.progress.living(self._cells))
        self._budget.spend(transcript.repainted - before)

    @property
    def _cells(self) -> int:
        return max(20, self._transcript.size.width - 4)

    def _show_end(self, task: SampleTask) -> None:
        """Show the end of a request; an abandoned one has nothing to show any more."""
        entry = self._transcript.newest
        if task is not self._task or entry is None:
            return
        self._update(ended=True)
        branches = task.branches([text.text for text in entry.live])
        if task.error:
            word = "incomplete" if branches else "no text"
            status = Content.assemble(("✗ ", BAD), (word, DIM))
        elif task.dropped:
            status = task.progress.given_up()
        else:
            status = task.progress.ended(task.results, self._cells)
        entry.finish(branches, task.error, status)
        self._transcript.show_newest(current=len(branches) > 1)
        self._transcript.show_status(status)
        self._finish(task)

    def _finish(self, task: SampleTask | None) -> None:
        self._task = None
        if self._ticker is not None:
            self._ticker.stop()
            self._ticker = None
        self._ended(task)
