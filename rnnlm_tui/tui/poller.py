"""The thread that polls runs and machine for the app.

It polls the followed runs, which are the open one and those marked for comparison, a few times a
second and the list of runs less often. While nothing trains it also reads the machine's load, but
only while the user is present: a machine is never quite idle, and an idle app must send nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from time import monotonic, thread_time
from typing import TYPE_CHECKING

from textual.message import Message

from rnnlm_tui import client, store
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.formatting import percent
from rnnlm_tui.store.paths import listed_run
from rnnlm_tui.tui import terminal
from rnnlm_tui.tui.messages import Notice, words_of
from rnnlm_tui.tui.views.machine import Readings

if TYPE_CHECKING:
    from rnnlm_tui.client.listing import RunList
    from rnnlm_tui.client.monitor import RunMonitor, RunSnapshot
    from rnnlm_tui.client.slurm import Jobs
    from rnnlm_tui.schema.summary import JobFigures, RunSummary
    from rnnlm_tui.store.paths import RunDirectory
    from rnnlm_tui.system.machine import MachineReader


class Polled(Message):
    """Something has changed: the app sets its attributes of these names to these values."""

    def __init__(self, **values: object) -> None:
        super().__init__()
        self.values = values


READING_SECONDS = 2.0
"""Seconds between two readings."""
FIRST_READING_SECONDS = 0.5
"""A load is measured over at least this long."""
KEPT = 30
"""Readings that are kept."""
RUNS_SECONDS, HIDDEN_RUNS_SECONDS = 2.0, 20.0
"""Seconds between two reads of the list of runs, while it is shown and while it isn't."""
LIST_PATIENCE = 0.25
"""Seconds after which the first read of the list shows the runs that it has."""
LIST_SHARE = 100
"""Reading the list takes at most one part in this many of the time."""
PAINT_SECONDS = 0.5
"""How long everything else waits at most until a run is first painted."""
LONG_SECONDS, TELL_SECONDS = 0.5, 0.25
"""A read of a log that takes longer says so, and how often."""
MACHINE_SECONDS = 60.0
"""Seconds between two reads of the machine's memory and disk."""


def seconds_to_next_list(took: float, *, shown: bool) -> float:
    """Return the seconds until the next read of the list, after a read that took `took` seconds.

    Thousands of runs must not keep a core busy.
    """
    least = max(RUNS_SECONDS, LIST_SHARE * took) if shown else HIDDEN_RUNS_SECONDS
    return min(HIDDEN_RUNS_SECONDS, least)


class Watcher:
    """Polls in its own thread and posts only what changed.

    Args:
        post: takes what changed, in that thread.
        fps: polls of the followed runs a second.
        reads_machine: whether a present user sees the machine's load, and no worker reads it.
    """

    def __init__(
        self,
        post: Callable[[Message], object],
        *,
        fps: float,
        reads_machine: Callable[[], bool] = lambda: False,
    ) -> None:
        self._post = post
        self._seconds = 1.0 / fps
        self._wake = threading.Event()
        self.painted = threading.Event()
        """Set once the open run has been painted."""
        self.painted.set()
        self._closing = False
        self._run: RunDirectory | None = None
        self._marked: tuple[str, ...] = ()
        self._steps: Mapping[str, tuple[int, int]] = {}
        self._shown: tuple[RunDirectory | None, tuple[str, ...]] = (None, ())
        """The open run and the marked ones at the last poll."""
        self._monitors: dict[str, RunMonitor] = {}
        self._snapshots: dict[str, RunSnapshot] = {}
        """The followed runs that have been read, frozen."""
        self._list_shown = self._list_due = True
        self._list_took = 0.0
        """CPU seconds of the last read of the list. The lower of the last two counts, because the
        first read is much slower."""
        self._summaries: tuple[RunSummary, ...] | None = None
        self._jobs: Jobs | None = None
        """What Slurm says; None while no run has a job."""
        self._job_answer: Mapping[str, JobFigures] = {}
        """What Slurm said at the last poll."""
        self._queue_restarted = False
        self._reported: dict[str, str] = {}
        """Why each poll failed, until it succeeds."""
        self.removed = set[str]()
        """Runs that the app itself has deleted or renamed, or is about to: no error is reported
        when they are gone."""
        self._reads_machine = reads_machine
        self._reader: MachineReader | None = None
        self._next_reading = 0.0
        self._readings = Readings()
        self._read_run = ""
        """Whose log is read just now."""
        self._tell_read = 0.0
        """When to say so next."""
        self._told_read = False
        self.polls = 0
        """How often the thread has polled; tests wait for it."""

    @cached_property
    def runs(self) -> RunList:
        """All runs with their configs; first used in a thread, because its import is slow."""
        return client.listing.RunList(self._report_read)

    def open(self, run: RunDirectory | None, *, paint_first: bool = False) -> None:
        """Poll all steps of this run from now on, and at once.

        With `paint_first`, nothing else is read before `painted` is called, because that would slow
        down the first paint.
        """
        if paint_first:
            self.painted.clear()
        self._steps = {}
        self._run = run
        self.poll_now()

    def look_at(self, steps: Mapping[str, tuple[int, int]]) -> None:
        """Read these steps of each run at full resolution, at once.

        Of the other followed runs, all steps are read.
        """
        if steps != self._steps:
            self._steps = steps
            self._wake.set()

    def compare(self, names: tuple[str, ...]) -> None:
        """Poll these runs as well; none while nothing shows them."""
        self._marked = names
        self._wake.set()

    def show_list(self, wanted: bool) -> None:
        """Note whether anything on the screen shows the list of runs."""
        self._list_shown = wanted
        if wanted:
            self.poll_now()

    def poll_now(self) -> None:
        """Poll at once, the list too: a command was just answered."""
        self._list_due = True
        self._wake.set()

    def close(self) -> None:
        """End the thread within the time of one poll."""
        self._closing = True
        self._wake.set()
        self.painted.set()

    def loop(self) -> None:
        """Run the thread: poll, post, wait for the next turn or to be woken."""
        next_list = next_machine = 0.0
        while not self._closing:
            self._wake.clear()
            now = monotonic()
            self._poll_followed()
            with self._reporting("readings"):
                self._poll_load()
            self.polls += 1
            if now >= next_list or (self._list_due and self._list_shown):
                self._list_due = False
                before, began = self._list_took, thread_time()
                complete = True
                with self._reporting("list"):
                    complete = self._poll_list()
                self._list_took = thread_time() - began
                if not complete:
                    continue  # read the rest at once
                with self._reporting("queue"):
                    self._poll_queue()
                next_list = monotonic() + seconds_to_next_list(
                    min(before, self._list_took), shown=self._list_shown
                )
            if now >= next_machine:
                with self._reporting("machine"):
                    from rnnlm_tui.system.machine import describe_machine

                    self._post(Polled(machine=describe_machine(store.paths.home())))
                next_machine = monotonic() + MACHINE_SECONDS
            self._end_read()
            self._wake.wait(self._seconds)
        for monitor in self._monitors.values():
            monitor.close()
        self._poll_load()

    def _poll_followed(self) -> None:
        """Poll the open run and the marked ones.

        At first each is posted as soon as it has been read, later all together.
        """
        opened, marked = self._run, self._marked
        runs: dict[str, RunDirectory | None] = {} if opened is None else {opened.name: opened}
        for name in marked:
            runs.setdefault(name)
        answer = self._job_answer if self._jobs is None else self._jobs.answer
        changed = self._shown != (opened, marked) or answer is not self._job_answer
        self._shown, self._job_answer = (opened, marked), answer
        for name in self._monitors.keys() - runs.keys():
            self._monitors.pop(name).close()
            self._snapshots.pop(name, None)
            self._reported.pop(f"run {name}", None)
        for name, run in runs.items():
            first = name not in self._snapshots
            with self._reporting(f"run {name}", name):
                if name not in self._monitors:
                    self._monitors[name] = client.monitor.RunMonitor(
                        run or listed_run(name), report=partial(self._report_read, name)
                    )
                self._monitors[name].look_at(self._steps.get(name))
                snapshot = self._monitors[name].poll()
                if snapshot is not None:
                    self._snapshots[name] = snapshot
                    changed = True
            if changed and (first or run is not None):
                self._post_followed()
                changed = False
                if run is not None and name in self._snapshots:
                    self.painted.wait(PAINT_SECONDS)
                    self.painted.set()
        if changed:
            self._post_followed()

    def _post_followed(self) -> None:
        read, (_, marked) = self._snapshots, self._shown
        if self._jobs is not None:
            with_answer = self._jobs.with_answer
            read = {
                name: one._replace(summary=with_answer(one.summary)) for name, one in read.items()
            }
        compared = tuple(read[name] for name in marked if name in read)
        self._post(Polled(followed=dict(read), compared=compared))

    def _report_read(self, run: str, done: int, total: int) -> None:
        """Say how much of a run's log is read, if that takes long: it has no index yet."""
        now = monotonic()
        if run != self._read_run:
            self._read_run, self._tell_read = run, now + LONG_SECONDS
        if now >= self._tell_read:
            self._told_read, self._tell_read = True, now + TELL_SECONDS
            part = percent(done / max(1, total))
            self._tell(Notice(f"reading the log of {run}: {part}"))

    def _end_read(self) -> None:
        """Say that the log is read, if the app said that it reads it."""
        if self._told_read:
            self._tell(Notice(f"the log of {self._read_run} is read", "done"))
        self._read_run, self._told_read = "", False

    def _poll_list(self) -> bool:
        """Read the list. Return False if it has more runs: of hundreds, the first read takes those
        that it can read in a moment."""
        summaries = self._with_jobs(tuple(self.runs.look(LIST_PATIENCE)))
        complete = self.runs.complete
        if summaries != self._summaries:
            self._summaries = summaries
            self._post(Polled(all_listed=complete, summaries=summaries))
        return complete

    def _with_jobs(self, summaries: tuple[RunSummary, ...]) -> tuple[RunSummary, ...]:
        """Add what Slurm last said, and ask it again in a thread if a run has a job."""
        if self._jobs is None:
            if not any(listed_run(run.run).has_job for run in summaries):
                return summaries
            self._jobs = client.slurm.Jobs()
        return tuple(self._jobs.look(summaries))

    def _poll_load(self) -> None:
        """Read the machine's load if it is time to. Or stop: the last readings stay, with their
        time."""
        now = monotonic()
        if self._closing or not self._reads_machine():
            if self._reader is not None:
                self._reader.close()
                self._reader = None
                if self._readings.rows:
                    self._post(Polled(readings=self._readings._replace(live=False)))
        elif self._reader is None:
            from rnnlm_tui.system.machine import MachineReader

            self._reader = MachineReader(store.paths.home(), worker=False)
            self._next_reading = now + FIRST_READING_SECONDS
            self._readings = Readings()
        elif now >= self._next_reading:
            rows = (*self._readings.rows, self._reader.sample())[-KEPT:]
            self._readings = Readings(rows, live=True)
            self._next_reading = now + READING_SECONDS
            self._post(Polled(readings=self._readings))

    def _poll_queue(self) -> None:
        """Read the queue; the first time, start its process if a run waits."""
        if not store.paths.queue_file().exists():
            return
        if not self._queue_restarted:
            self._queue_restarted = True
            if warning := client.queue.ensure_running():
                self._tell(Notice(warning, "trouble", stays=True))
        self._post(Polled(queue=client.queue.list_queue(self._summaries or ())))

    @contextmanager
    def _reporting(self, what: str, run: str = "") -> Iterator[None]:
        """Report an error once until the poll succeeds, and continue.

        A disk may come back, and a mistake of ours must not end the app. A missing disk fails all
        polls, each with its own text.
        """
        try:
            yield
        except Exception as error:
            expected = isinstance(error, RnnlmError | OSError)
            cause = words_of(error)[0] if expected else type(error).__name__
            if run in self.removed or cause == self._reported.get(what):
                return
            self._reported[what] = cause
            if expected:
                text, hint = words_of(error)
                if self._run is not None:
                    text = text.replace(f"{self._run.path}/", "")
                if run and (self._run is None or run != self._run.name):
                    text = f"{run}: {text}"
            else:
                log = terminal.log_traceback(error)
                text, hint = f"polling the runs failed ({cause})", f"details: {log}" if log else ""
            self._tell(Notice(text, "trouble", hint))
        else:
            self._reported.pop(what, None)

    def _tell(self, notice: Notice) -> None:
        self._post(Polled(pending_notice=notice))
