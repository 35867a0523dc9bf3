"""What the app needs of the queue; its methods block, as those of `Services` do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rnnlm_tui.client.queue import Direction
    from rnnlm_tui.schema.queue import QueuedRun, QueueListing
    from rnnlm_tui.schema.summary import RunSummary
    from rnnlm_tui.store.paths import RunDirectory


class QueueServices:
    """The real queue. Imports wait for the first paint."""

    def is_used(self) -> bool:
        """Whether a run was ever queued; cheap, so that the app's start waits for nothing else."""
        from rnnlm_tui.store.paths import queue_file

        return queue_file().exists()

    def listing(self, runs: Iterable[RunSummary]) -> QueueListing:
        """Return the queue with expected starts.

        Args:
            runs: the summaries of all runs.
        """
        from rnnlm_tui.client.queue import list_queue

        return list_queue(runs)

    def restart(self) -> str:
        """Start the queue's process if a run waits.

        Return a warning about a damaged queue that was moved aside, empty if there was none.
        """
        from rnnlm_tui.client.queue import ensure_running

        return ensure_running()

    def add_run(self, run: RunDirectory) -> QueuedRun:
        """Put a draft, or a run to resume, at the end; raises RunStateError for another."""
        from rnnlm_tui.client.queue import add_run

        return add_run(run)

    def put_back(self, removed: QueuedRun) -> QueuedRun:
        """Put a removed run back to its place; raises RunStateError if it was started meanwhile."""
        from rnnlm_tui.client.queue import add_run
        from rnnlm_tui.store.runs import find_run

        run, stop = find_run(removed.run), removed.stop_on_failure
        return add_run(run, stop_on_failure=stop, place=removed.place)

    def move(self, run: str, to: int | Direction) -> int:
        """Move a waiting run and return its place.

        Raises RunStateError if it isn't waiting, InputError beyond the ends.
        """
        from rnnlm_tui.client.queue import move

        return move(run, to)

    def remove(self, run: str) -> None:
        """Remove a waiting run; raises RunStateError if it isn't waiting."""
        from rnnlm_tui.client.queue import remove

        remove(run)

    def pause(self, paused: bool) -> None:
        """Pause or resume the queue."""
        from rnnlm_tui.client.queue import set_paused

        set_paused(paused)

    def stop_on_failure(self, stop: bool) -> None:
        """Set whether any failed run pauses the queue."""
        from rnnlm_tui.client.queue import set_stop_on_failure

        set_stop_on_failure(stop)
