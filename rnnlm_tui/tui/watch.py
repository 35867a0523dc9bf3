"""The thread that looks at run directories for the app: the open run a few times a second, the list of runs less often."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from time import monotonic, sleep, thread_time
from typing import TYPE_CHECKING

from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.tui import crash
from rnnlm_tui.tui.compared_runs import ComparedRuns
from rnnlm_tui.tui.messages import ComparedChanged, MachineRead, MachineSeen, Notice, Noticed, RunsChanged, SnapshotChanged
from rnnlm_tui.tui.own_readings import OwnReadings

if TYPE_CHECKING:
    from textual.message import Message

    from rnnlm_tui.contract.summary import RunSummary
    from rnnlm_tui.store.run_directory import RunDirectory
    from rnnlm_tui.tui.services import Monitor, Services

RUNS_SECONDS, HIDDEN_RUNS_SECONDS = 2.0, 20.0
"""Between two looks at the list of runs, where it shows and where it does not."""
LOOKS_SHARE = 100
"""Reading the list takes at most one part in this many of the time."""
FIRST_LOOK_SECONDS = 0.05
"""Until the frame is painted: what is read before would be painted twice. Slept here, for a Textual timer that starts late is never called."""
PAINT_SECONDS = 0.5
"""At most this long, everything else waits until a run is first painted."""
MACHINE_SECONDS = 60.0
"""Between two looks at the machine's memory and disk."""


def seconds_to_next_list(took: float, *, shown: bool) -> float:
    """Seconds until the list of runs is read again, after a read that took `took` seconds: thousands of runs must not keep a core busy."""
    return min(HIDDEN_RUNS_SECONDS, max(RUNS_SECONDS, LOOKS_SHARE * took)) if shown else HIDDEN_RUNS_SECONDS


class Watcher:
    """Polls in its own thread and posts what changed; nothing is posted while nothing changes."""

    def __init__(self, services: Services, post: Callable[[Message], object], *, fps: float, reads_machine: Callable[[], bool] = lambda: False) -> None:
        self._services = services
        self._post = post
        self._seconds = 1.0 / fps
        self._wake = threading.Event()
        self._painted = threading.Event()
        self._painted.set()
        self._closing = False
        self._run: RunDirectory | None = None
        self._monitor: Monitor | None = None
        self._monitored: RunDirectory | None = None
        self._steps: tuple[int, int] | None = None
        self._list_wanted = self._list_asked = True
        self._list_took = 0.0
        """CPU seconds of the last read of the list. The lower of the last two counts, because the first read is much slower."""
        self._summaries: tuple[RunSummary, ...] | None = None
        self._complaints: dict[str, str] = {}
        self._taken: frozenset[str] = frozenset()
        """Runs that the app itself deletes or renames, or has: that they are gone is no news."""
        self._compared = ComparedRuns(services, lambda snapshots: self._post(ComparedChanged(snapshots)), self._unreadable)
        self._readings = OwnReadings(services, reads_machine, lambda rows, live: self._post(MachineRead(rows, live=live)))
        self.looks = 0
        """How often the thread has looked, for whoever waits for it."""

    def open(self, run: RunDirectory | None, *, paint_first: bool = False) -> None:
        """Watch this run from now on, at once, and all of its steps. `paint_first`: read nothing else before `painted` is called, because that would slow down the first paint."""
        if paint_first:
            self._painted.clear()
        self._steps = None
        self._run = run
        self.look_now()

    def painted(self) -> None:
        """The run has been painted."""
        self._painted.set()

    def look_at(self, steps: tuple[int, int] | None) -> None:
        """The charts show only these steps, the first and the last of them: read them as fine as they lie, at once. None: they show the whole run."""
        if steps != self._steps:
            self._steps = steps
            self._wake.set()

    def compare(self, names: tuple[str, ...]) -> None:
        """Follow these runs as well; none while nothing shows them."""
        self._compared.want(names)
        self._wake.set()

    def look_at_compared(self, steps: Mapping[str, tuple[int, int]]) -> None:
        """The charts show only these steps of the compared runs: read them as fine as they lie, at once."""
        if self._compared.look_at(steps):
            self._wake.set()

    def take_away(self, name: str) -> None:
        """The app is about to delete or rename this run: nobody is told that it can't be read any more."""
        self._taken |= {name}

    def bring_back(self, name: str) -> None:
        """There is a run of this name again, or still."""
        self._taken -= {name}

    def has_taken(self, name: str) -> bool:
        """Whether the app itself has deleted or renamed the run, or is about to."""
        return name in self._taken

    def want_list(self, wanted: bool) -> None:
        """Whether anything on the screen shows the list of runs."""
        self._list_wanted = wanted
        if wanted:
            self.look_now()

    def look_now(self) -> None:
        """Look at once, at the list too, for a command was just answered."""
        self._list_asked = True
        self._wake.set()

    def attend(self) -> None:
        """Somebody is there: a key was pressed."""
        self._readings.attend()

    def close(self) -> None:
        """End the thread within the time of one look."""
        self._closing = True
        self._wake.set()
        self._painted.set()

    def loop(self) -> None:
        """The thread: look, post, wait for the next turn or to be woken."""
        sleep(FIRST_LOOK_SECONDS)
        next_list = next_machine = 0.0
        while not self._closing:
            self._wake.clear()
            now = monotonic()
            self._look_at_run()
            self._guarded("compared", self._compared.look)
            self._guarded("readings", self._readings.look)
            self.looks += 1
            if now >= next_list or (self._list_asked and self._list_wanted):
                self._list_asked = False
                before, began = self._list_took, thread_time()
                self._look_at_list()
                self._list_took = thread_time() - began
                if not self._services.list_complete:
                    continue  # the rest, at once
                next_list = monotonic() + seconds_to_next_list(min(before, self._list_took), shown=self._list_wanted)
            if now >= next_machine:
                self._guarded("machine", lambda: self._post(MachineSeen(self._services.machine())))
                next_machine = monotonic() + MACHINE_SECONDS
            self._wake.wait(self._seconds)
        self._leave_run()
        self._compared.close()
        self._readings.close()

    def _look_at_run(self) -> None:
        run = self._run
        if run is not self._monitored:
            self._leave_run()
            self._monitored = run
        if run is None:
            return

        def look() -> None:
            if self._monitor is None:
                self._monitor = self._services.monitor(run)
            self._monitor.look_at(self._steps)
            snapshot = self._monitor.poll()
            if snapshot is not None and run is self._run:
                self._post(SnapshotChanged(snapshot))
                self._painted.wait(PAINT_SECONDS)
                self._painted.set()

        def look_unless_taken() -> None:
            try:
                look()
            except (RnnlmError, OSError):
                if run is self._run and not self.has_taken(run.name):
                    raise

        self._guarded("run", look_unless_taken)

    def _leave_run(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
        self._monitor = None

    def _look_at_list(self) -> None:
        def look() -> None:
            summaries = tuple(self._services.summaries())
            if summaries != self._summaries:
                self._summaries = summaries
                self._post(RunsChanged(summaries, complete=self._services.list_complete))

        self._guarded("list", look)

    def _guarded(self, what: str, look: Callable[[], object]) -> None:
        """A run that can't be read is said once, and looked at again: its disk may come back. So is a mistake of ours, which must not end the app."""
        try:
            look()
        except (RnnlmError, OSError) as error:
            text, hint = (error.message, error.hint) if isinstance(error, RnnlmError) else (str(error), "")
            self._complain(what, text, text if self._run is None else text.replace(f"{self._run.path}/", ""), hint)
        except Exception as error:
            if type(error).__name__ != self._complaints.get(what):
                log = crash.keep_traceback(error)
                self._complain(what, type(error).__name__, f"looking at the runs failed ({type(error).__name__})", f"the details are in {log}" if log else "")

    def _unreadable(self, name: str, error: RnnlmError | OSError) -> None:
        if self.has_taken(name):
            return
        text, hint = (error.message, error.hint) if isinstance(error, RnnlmError) else (str(error), "")
        self._complain(f"compared {name}", text, f"{name}: {text}", hint)

    def _complain(self, what: str, about: str, text: str, hint: str) -> None:
        """Said once of each that is looked at: a disk that is away fails them all, each look, in words of their own."""
        if about != self._complaints.get(what):
            self._complaints[what] = about
            self._post(Noticed(Notice(text, "trouble", hint)))
