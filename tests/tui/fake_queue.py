"""The app's queue in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rnnlm_tui.client.queue import Direction
from rnnlm_tui.errors import InputError, RunStateError, StorageError
from rnnlm_tui.schema.queue import QueuedRun, QueueListing, QueueProcess
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.paths import RunDirectory


def waiting(name: str, starts: float | None = None, **values: object) -> QueuedRun:
    """A waiting run; its place follows from the order."""
    facts = {
        "run": name,
        "state": "waiting",
        "status": "draft",
        "added": 1.0,
        "max_steps": 4_754,
        "starts": starts,
    }
    return QueuedRun.model_validate({**facts, **values})


class FakeQueue:
    """A queue that changes at once; `refuse` is raised by every change."""

    def __init__(
        self,
        running: Sequence[QueuedRun] = (),
        waits: Sequence[QueuedRun] = (),
        ended: Sequence[QueuedRun] = (),
        *,
        process: QueueProcess | None = None,
    ) -> None:
        self.running, self.waits, self.ended = list(running), list(waits), tuple(ended)
        self.process = process
        self.removed: dict[str, QueuedRun] = {}
        self.paused = self.stops = False
        self.reason = ""
        self.unreadable: StorageError | None = None
        """Raised when the queue is read."""
        self.restarts = 0
        self.warning = ""
        """Returned by `restart`."""

    def is_used(self) -> bool:
        return True

    def listing(self, runs: Iterable[RunSummary]) -> QueueListing:
        if self.unreadable is not None:
            raise self.unreadable
        placed = [
            run.model_copy(update={"place": place, **({"starts": None} if self.paused else {})})
            for place, run in enumerate(self.waits, 1)
        ]
        return QueueListing(
            paused=self.paused,
            reason=self.reason,
            stop_on_failure=self.stops,
            process=self.process,
            runs=(*self.running, *placed),
            ended=self.ended,
        )

    def restart(self) -> str:
        self.restarts += 1
        return self.warning

    def add_run(
        self, run: RunDirectory, *, stop_on_failure: bool = False, place: int | None = None
    ) -> QueuedRun:
        place = place or len(self.waits) + 1
        self.waits.insert(place - 1, self.removed.get(run.name, waiting(run.name)))
        return self.waits[place - 1].model_copy(update={"place": place})

    def move(self, run: str, to: int | Direction) -> int:
        place = self._place(run)
        new = place + (1 if to == "down" else -1)
        if not 0 <= new < len(self.waits):
            raise InputError(f"{run} is {'last' if new else 'first'} in the queue already")
        self.waits.insert(new, self.waits.pop(place))
        return new + 1

    def remove(self, run: str) -> None:
        self.removed[run] = self.waits.pop(self._place(run))

    def pause(self, paused: bool) -> None:
        self.paused = paused

    def stop_on_failure(self, stop: bool) -> None:
        self.stops = stop

    def _place(self, run: str) -> int:
        names = [one.run for one in self.waits]
        if run not in names:
            raise RunStateError(
                f"{run} has started: it can't be moved", hint=f"`rnnlm-tui stop {run}` stops it"
            )
        return names.index(run)
