"""Recorder: a thread that writes a worker's rows, and keeps them in memory while the disk is full.

Attempt: what one worker process knows about the run that it trains.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnnlm_tui import __version__
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import (
    AttemptRow,
    CommandRow,
    EventKind,
    EventRow,
    Phase,
    SampleRow,
    StartRow,
    StepRow,
)
from rnnlm_tui.schema.protocol import Command, CommandResult
from rnnlm_tui.schema.status import HEARTBEAT_SECONDS, Activity
from rnnlm_tui.store.log import Row, RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.summaries import append_summary
from rnnlm_tui.system.locks import LockPage, RunLock, boot_id, host_name
from rnnlm_tui.worker.commands import CommandHandler, Inbox

if TYPE_CHECKING:
    from rnnlm_tui.system.machine import MachineReader

MAX_KEPT_ROWS = 200_000
"""Rows kept in memory (67 MiB, measured) before training waits for the disk."""
TEXT_ROW = 400
"""Characters of a sample that count as one row."""
APPENDED_AT_ONCE = 10_000
"""Rows of one write: after a wait, a disk with little space gets some of them."""


class Recorder:
    """Writes one attempt's rows to its log. A full, failing or read-only disk loses nothing: the
    run is degraded.

    `add` only queues a row. A thread appends what is queued, waits for the disk once a second, and
    then also shows that the worker is alive and reads the machine. While degraded it retries once a
    second, and drops readings of the machine. Threads may share a recorder.

    Raises (`add`, `flush` and `check`):
        StorageError: the run's folder or log was removed while the worker ran, or the attempt has
            ended.
    """

    def __init__(
        self,
        run: RunDirectory,
        lock: RunLock,
        *,
        max_kept: int = MAX_KEPT_ROWS,
        seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._run, self._lock = run, lock
        self._max_kept, self._seconds = max_kept, seconds
        self._places: list[tuple[Path, tuple[int, int] | None]] = []
        self._queue_turn, self._page_turn = threading.Lock(), threading.Lock()
        self._storing = threading.Lock()  # only one thread appends
        self._queue: deque[Row | Facts] = deque()
        self._kept = self._stored_late = 0
        self._page = LockPage()
        self._reason = self._unsaved = ""
        self._fatal: StorageError | None = None
        self._machine: MachineReader | None = None
        self._report: Callable[[str], None] = lambda _: None
        self._fault: str | None = None
        self._added, self._closing = threading.Event(), False
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._step = 0

    def begin_attempt(self, start_step: int, environment: Mapping[str, object]) -> int:
        """Begin the next attempt's log and return its number; start the thread.

        Raises:
            StorageError: it can't be stored; nothing has begun yet.
        """
        self._step = start_step
        process, begun = (os.getpid(), host_name(), boot_id()), time.time()
        row = AttemptRow(0, *process, "", start_step, dict(environment), begun)
        self._log = RunLog.begin(self._run, row)
        self._places = [(path, _identity(path)) for path in (self._run.path, self._log.path)]
        self._thread.start()
        return self._log.attempt

    def watch(self, machine: MachineReader, report: Callable[[str], None]) -> None:
        """Read the machine once a second.

        Args:
            report: called with each new fault of the GPU that trains, from the recorder's thread.
        """
        self._machine, self._report = machine, report

    @property
    def degraded(self) -> str:
        """Why the run is degraded, in words; empty while everything is stored."""
        if not self._reason:
            return self._unsaved
        others = (", a checkpoint for space" if self._unsaved else "") + (
            ", and training for the disk" if self.full else ""
        )
        return f"rows wait in memory ({self._kept:,}){others}: {self._reason}"

    @property
    def full(self) -> bool:
        """Memory is used up: training should wait."""
        return self._kept >= self._max_kept

    def check(self) -> None:
        """Raise the error that ends the run: its folder or log is gone."""
        for path, known in self._places:
            if self._fatal is None and _identity(path, unknown=known) != known:
                self._fatal = StorageError(
                    f"{path} was removed or replaced during training",
                    hint="nothing was written in its place; `rnnlm-tui runs` shows what is left",
                )
        if self._fatal is not None:
            raise self._fatal

    def add(self, *rows: Row | Facts) -> None:
        """Queue rows for the log; never waits for the disk."""
        if self._fatal is not None:
            raise self._fatal
        if self._closing:
            raise StorageError(
                f"the attempt on {self._run.name} has ended", hint="nothing more is stored"
            )
        self._enqueue(*rows)
        self._added.set()

    def flush(self) -> None:
        """Wait until everything that was added is on the disk.

        Raises:
            StorageError: the disk refuses it; the rows are kept.
        """
        self._store(sync=True)

    def close(self) -> None:
        """At the end, store what is queued, then the run's summary; rows that can't be stored are
        counted in worker.log."""
        self._closing = True
        self._added.set()
        self._thread.join()
        try:
            self._store(sync=True)
        except Exception as error:  # whatever it is, the end goes on
            what = counted(self._kept, "row") if self._kept else "the last rows"
            why = self._in_words(error) if isinstance(error, StorageError) else repr(error)
            _say(f"{what} could not be stored: {why}")
        else:
            try:
                append_summary(self._run, self._log)
            except Exception as error:  # lists then read the log
                _say(f"no summary at the end of the log: {error}")
        self._log.close()

    def journal_command(self, command: Command, result: CommandResult) -> None:
        """Record a command; it is on the disk at the end, unless the run is degraded."""
        arguments = command.model_dump(mode="json", exclude={"id", "verb"}, exclude_none=True)
        self.add(
            CommandRow(
                self._log.attempt,
                command.id,
                command.verb,
                arguments,
                result.model_dump(mode="json"),
                time.time(),
            )
        )
        with suppress(StorageError):
            self.flush()
        self.check()

    def show(self, **changes: Any) -> None:
        """Show readers what the worker does at the moment: fields of `LockPage`."""
        with self._page_turn:
            self._page = self._page._replace(**changes, degraded=self.degraded)
            with suppress(StorageError):  # then the lock file's age shows it
                self._lock.show(self._page)

    def saving_failed(self, error: StorageError, step: int) -> None:
        """Report that a checkpoint could not be written: the run is degraded until `saved`."""
        self.check()
        first, self._unsaved = not self._unsaved, f"not saved: {self._in_words(error)}"
        self.show()
        if first:
            self.add(self._event("degraded", self._unsaved, step))

    def saved(self, step: int) -> None:
        """Report that a checkpoint was written."""
        if self._unsaved:
            self._unsaved = ""
            self.show()
            self.add(self._event("recovered", "a checkpoint could be written again", step))

    def _work(self) -> None:
        """The thread: append rows as they come, and do the rest once a second."""
        due = time.monotonic() + self._seconds
        while not self._closing:
            self._added.wait(max(0.0, due - time.monotonic()))
            self._added.clear()
            try:
                if time.monotonic() >= due:
                    due = time.monotonic() + self._seconds
                    self._beat()
                elif not self._reason:
                    self._store(sync=False)
            except StorageError:
                pass  # retried in a second; a removed folder ends the run at its next row
            except Exception as error:
                # Any error is only printed: without this thread the run would look stalled, and
                # rows that wait for disk space would never be stored.
                _say(f"not recorded, or not read of the machine: {error}")

    def _beat(self) -> None:
        self.show()  # first: a slow disk must not look like a dead worker
        with suppress(StorageError):
            self._store(sync=True)
        if self._machine is None:
            return
        row = self._machine.sample()
        if not self._reason:
            self.add(row)
        if row.gpu.fault is not None and row.gpu.fault != self._fault:
            self._report(row.gpu.fault)
        self._fault = row.gpu.fault

    def _enqueue(self, *rows: Row | Facts) -> None:
        with self._queue_turn:
            self._queue.extend(rows)
            self._kept += sum(map(_size, rows))
            for row in rows:
                if isinstance(row, StepRow | StartRow):
                    self._step = row.step

    def _store(self, *, sync: bool) -> None:
        """Append what is queued, and wait for the disk if `sync` or after a failure."""
        with self._storing:
            self.check()
            late = bool(self._reason)
            try:
                if late:
                    self._log.sync()  # a server may have dropped what was appended before
                while self._queue:
                    with self._queue_turn:
                        rows = tuple(islice(self._queue, APPENDED_AT_ONCE))
                    self._log.append(*rows)
                    with self._queue_turn:
                        for row in rows:
                            self._queue.popleft()
                            self._kept -= _size(row)
                    self._stored_late += len(rows) if late else 0
                if sync or late:
                    self._log.sync()
                if late:
                    self._recover()
            except StorageError as error:
                self._degrade(error)
                raise

    def _degrade(self, error: StorageError) -> None:
        """Keep rows from now on; the first time, say so in both logs."""
        first, self._reason = not self._reason, self._in_words(error)
        if first:
            _say(f"degraded: {self._reason}")
            words = f"{self._reason}; training continues, rows wait in memory"
            self._enqueue(self._event("degraded", words, self._step))
        self.show()

    def _recover(self) -> None:
        words = f"all rows stored, {counted(self._stored_late, 'row')} after a wait in memory"
        self._log.append(self._event("recovered", words, self._step))
        self._reason, self._stored_late = "", 0
        self.show()

    def _in_words(self, error: StorageError) -> str:
        """The error, short enough for the lock file and a narrow terminal: the run's files without
        their folder."""
        return "; ".join(
            filter(None, (error.message.replace(f"{self._run.path}/", ""), error.hint))
        )

    def _event(self, kind: EventKind, text: str, step: int) -> EventRow:
        return EventRow(self._log.attempt, step, kind, text, time.time())


def _size(row: Row | Facts) -> int:
    """Its share of `MAX_KEPT_ROWS`."""
    return 1 + len(row.text) // TEXT_ROW if isinstance(row, SampleRow) else 1


def _identity(path: Path, *, unknown: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Device and inode; None: nothing there; `unknown`: the disk fails to answer, perhaps only
    now."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return unknown
    return found.st_dev, found.st_ino


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - stderr is worker.log


PACKAGES = ("torch", "numpy", "tokenizers", "safetensors", "transformers")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One life of a worker on a run. Importing it doesn't import torch."""

    run: RunDirectory
    config: RunConfig
    recorder: Recorder
    number: int
    """Counted from 1."""
    checkpoint: Path | None
    """The newest valid checkpoint, from which the attempt resumes; None: it starts at step 0."""
    inbox: Inbox
    commands: CommandHandler
    _activities: list[Activity] = field(default_factory=list, init=False)
    """The current activity, last, inside those that it interrupts."""

    def event(self, kind: EventKind, step: int, text: str) -> None:
        """Add an event to the run's log."""
        self.recorder.add(EventRow(self.number, step, kind, text, time.time()))

    def note(self, step: int, text: str) -> None:
        """Add a note to the run's log."""
        self.event("note", step, text)

    def enter(self, phase: Phase) -> None:
        """Show readers what happens before the first step; a phase may take minutes."""
        self.recorder.show(progress=(phase, 0, 0))

    @contextmanager
    def activity(self, activity: Activity) -> Iterator[None]:
        """Show readers why no step completes for a while; afterwards, the activity around it."""
        self._activities.append(activity)
        try:
            self.recorder.show(activity=activity)
            yield
        finally:
            self._activities.pop()
            self.recorder.show(activity=self._activities[-1] if self._activities else "")


def versions() -> dict[str, str]:
    """Versions of Python, this program and its numeric packages, by name; without those that a run
    can do without and that aren't installed."""
    found = {"python": platform.python_version(), "rnnlm_tui": __version__}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
