"""Recorder: writes a worker's rows, and keeps them in memory while the disk is full.

Attempt: what one worker process knows about the run that it trains.

Heartbeat: a thread that writes a heartbeat and a hardware reading every second.
"""

from __future__ import annotations

import platform
import sys
import threading
import time
import time as clock
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock, RLock
from typing import Protocol

from rnnlm_tui import __version__
from rnnlm_tui.errors import DatabaseError, StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.formatting import counted
from rnnlm_tui.schema.metrics import (
    CheckpointRow,
    EvaluationRow,
    EventKind,
    EventRow,
    HardwareRow,
    Phase,
    Progress,
    SampleRow,
    StepRow,
)
from rnnlm_tui.schema.status import ACTIVITY_KEY, HEARTBEAT_SECONDS, Activity
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.system.disk import ROOM_FOR_ROWS, Ballast, free_bytes, is_full
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.worker.commands import CommandHandler, Inbox

MAX_KEPT_ROWS = 200_000
"""Rows kept in memory (75 MiB, measured) before training waits for the disk."""
TEXT_ROW = 400
"""Characters of a sample that count as one row."""


class Recorder:
    """Writes one attempt's rows to the database. A full, failing or read-only disk loses nothing:
    the run is degraded.

    While degraded, every call is kept and repeated in order, once a second by `heartbeat`, until
    all of them are stored. Heartbeats, hardware readings and progress are dropped instead; the lock
    file shows the reason and that the worker is alive. Threads may share a recorder.

    Raises (every method that stores something):
        StorageError: the run's folder or database was removed while the worker ran.
        DatabaseError: the database is damaged.
    """

    def __init__(
        self,
        run: RunDirectory,
        lock: RunLock,
        database: RunDatabase,
        *,
        max_kept: int = MAX_KEPT_ROWS,
    ) -> None:
        self._run = run
        self._lock = lock
        self._database = database
        self._ballast = Ballast(database.path)
        self._max_kept = max_kept
        self._places = [(path, _identity(path)) for path in (run.path, database.path)]
        self._kept_lock = RLock()
        self._storing = Lock()  # only one thread repeats kept calls
        self._kept: deque[tuple[Callable[[], None], int]] = deque()
        self._kept_rows = self._kept_in_all = 0
        self._answers: dict[str, str] = {}
        self._reason = self._unsaved = ""
        self._fatal: StorageError | None = None
        self._closed = False
        self._attempt = self._step = 0

    @property
    def degraded(self) -> str:
        """Why the run is degraded, in words; empty while everything is stored."""
        if not self._reason:
            return self._unsaved
        others = (", a checkpoint for space" if self._unsaved else "") + (
            ", and training for the disk" if self.full else ""
        )
        return f"rows wait in memory ({self._kept_rows:,}){others}: {self._reason}"

    @property
    def full(self) -> bool:
        """Memory is used up: training should wait."""
        return self._kept_rows >= self._max_kept

    def check(self) -> None:
        """Raise the error that ends the run: its folder or database is gone or damaged."""
        if self._fatal is not None:
            raise self._fatal
        for path, known in self._places:
            if _identity(path, unknown=known) != known:
                self._fatal = StorageError(
                    f"{path} was removed or replaced during training",
                    hint="nothing was written in its place; `rnnlm-tui runs` shows what is left",
                )
                raise self._fatal

    def make_ballast(self) -> None:
        """Before the first row, reserve some space to release when the disk is full.

        Raises:
            StorageError: not enough space, with need and have.
        """
        self._ballast.make()

    def close(self) -> None:
        """At the end, release the ballast and store the kept rows; those that can't be stored are
        counted in the log."""
        with suppress(StorageError):
            self.check()  # a folder that replaced the run's is not ours to write to
            self._ballast.release()
            self._store_kept(recover=True)
        if self._kept:
            _log(f"{counted(self._kept_rows, 'row')} could not be stored: {self._reason}")
        self._closed = True

    def store_all(self) -> None:
        """Store the kept rows now, if need be in the space that the ballast released. The run stays
        degraded until there is more.

        Raises:
            StorageError: not all rows can be stored; the rest is kept.
        """
        self.check()
        self._store_kept(recover=False)

    def saving_failed(self, error: StorageError, step: int) -> None:
        """Report that a checkpoint could not be written: the run is degraded until `saved`."""
        first, self._unsaved = not self._unsaved, f"not saved: {self._in_words(error)}"
        self._show_state()
        if first:
            self.add_event(self._event("degraded", self._unsaved, step))

    def saved(self, step: int) -> None:
        """Report that a checkpoint was written."""
        if self._unsaved:
            self._unsaved = ""
            self._show_state()
            self.add_event(self._event("recovered", "a checkpoint could be written again", step))

    def begin_attempt(
        self,
        pid: int,
        host: str,
        boot_id: str,
        device: str,
        start_step: int,
        environment: Mapping[str, object],
    ) -> int:
        """As `RunDatabase.begin_attempt`; raises StorageError if it can't be stored, since nothing
        has begun yet."""
        self._step = start_step
        try:
            self._attempt = self._database.begin_attempt(
                pid, host, boot_id, device, start_step, environment
            )
        except StorageError:
            self._ballast.release()
            raise
        return self._attempt

    def move_start_back(self, attempt: int, start_step: int) -> None:
        """As `RunDatabase.move_start_back`."""
        self._step = start_step
        self._store(partial(self._database.move_start_back, attempt, start_step))

    def add_steps(self, rows: Sequence[StepRow]) -> None:
        """As `RunDatabase.add_steps`."""
        if rows:
            self._step = rows[-1].step
            self._store(partial(self._database.add_steps, tuple(rows)), len(rows))

    def add_evaluation(self, row: EvaluationRow) -> None:
        """As `RunDatabase.add_evaluation`."""
        self._store(partial(self._database.add_evaluation, row))

    def add_sample(self, row: SampleRow) -> None:
        """As `RunDatabase.add_sample`."""
        self._store(partial(self._database.add_sample, row), 1 + len(row.text) // TEXT_ROW)

    def add_event(self, row: EventRow) -> None:
        """As `RunDatabase.add_event`."""
        self._store(partial(self._database.add_event, row))

    def put_checkpoint(self, row: CheckpointRow) -> None:
        """As `RunDatabase.put_checkpoint`."""
        self._store(partial(self._database.put_checkpoint, row))

    def remove_checkpoint(self, step: int) -> None:
        """As `RunDatabase.remove_checkpoint`."""
        self._store(partial(self._database.remove_checkpoint, step))

    def set_meta(self, key: str, value: str) -> None:
        """As `RunDatabase.set_meta`."""
        self._store(partial(self._database.set_meta, key, value))

    def set_progress(self, progress: Progress | None) -> None:
        """As `RunDatabase.set_progress`; while degraded, only the end of progress is kept."""
        self._store(partial(self._database.set_progress, progress), 1 if progress is None else 0)

    def add_hardware(self, row: HardwareRow) -> None:
        """As `RunDatabase.add_hardware`; dropped while degraded."""
        self._store(partial(self._database.add_hardware, row), 0)

    def heartbeat(self, time: float) -> None:
        """As `RunDatabase.heartbeat`. While degraded, update the lock file instead and retry the
        kept rows."""
        self.check()
        if self.degraded:
            self._show_state()
        beat = partial(self._database.heartbeat, time)
        with suppress(StorageError):  # still full: retried in a second
            self._ballast.make()
            self._store_kept(recover=True, first=beat)
        self._store(beat, 0)

    def journal_command(self, id: str, verb: str, arguments_json: str, result_json: str) -> None:
        """As `RunDatabase.journal_command`."""
        self._answers[id] = result_json
        self._store(partial(self._database.journal_command, id, verb, arguments_json, result_json))
        if not self._reason:
            self._answers.clear()

    def journalled(self, id: str) -> str | None:
        """As `RunDatabase.journalled`, including results that are still kept in memory."""
        return self._answers.get(id) or self._database.journalled(id)

    def _store(self, write: Callable[[], None], rows: int = 1) -> None:
        """Store now, or keep it behind the rows that are kept already; 0 rows: drop it instead."""
        self.check()
        if self._closed:
            raise StorageError(
                f"the attempt on {self._run.name} has ended", hint="nothing more is stored"
            )
        if not self._keep_behind(write, rows):
            try:
                write()
            except DatabaseError:
                raise
            except StorageError as error:
                if self._closed:  # meanwhile, by a stop in another thread
                    raise
                self._keep(write, rows)
                self._degrade(error)

    def _keep_behind(self, write: Callable[[], None], rows: int) -> bool:
        with self._kept_lock:
            if self._reason:
                self._keep(write, rows)
            return bool(self._reason)

    def _keep(self, write: Callable[[], None], rows: int) -> None:
        with self._kept_lock:
            if rows:
                self._kept.append((write, rows))
                self._kept_rows += rows
                self._kept_in_all += rows

    def _degrade(self, error: StorageError, *, again: bool = False) -> None:
        """Keep rows from now on. The first time, and `again` after a recovery was reported, log it
        in the ballast's space."""
        with self._kept_lock:
            first, self._reason = again or not self._reason, self._in_words(error)
        if is_full(error) or self._no_space():
            self._ballast.release()
        self._show_state()
        if not first:
            return
        _log(f"degraded: {self._reason}")
        event = self._event(
            "degraded", f"{self._reason}; training continues, rows wait in memory", self._step
        )
        try:
            self._database.add_event(event)  # before the kept rows: readers should know at once
        except StorageError:
            self._keep(partial(self._database.add_event, event), 1)

    def _no_space(self) -> bool:
        """Whether the disk is full: SQLite reports another error if it can't enlarge its shared
        memory."""
        try:
            return free_bytes(self._database.path) < ROOM_FOR_ROWS
        except StorageError:
            return False

    def _store_kept(self, *, recover: bool, first: Callable[[], None] | None = None) -> None:
        """Store the kept rows in order; raises StorageError when the disk refuses one.

        Args:
            recover: when all are stored, log the recovery and stop keeping rows.
            first: must succeed before anything else is tried.
        """
        if not self._reason:
            return
        with self._storing:
            reported = False
            while self._reason:
                with self._kept_lock:
                    if not first and not self._kept and (reported or not recover):
                        if recover:
                            self._reason = ""
                            self._kept_in_all = 0
                            self._answers.clear()
                        break
                    kept = self._kept[0] if self._kept else None
                try:
                    (first or (kept[0] if kept else self._log_recovery))()
                except DatabaseError as error:
                    self._fatal = error
                    raise
                except StorageError as error:
                    self._degrade(error, again=reported)
                    raise
                if first:
                    first = None
                elif not kept:
                    reported = True
                else:
                    with self._kept_lock:
                        self._kept.popleft()
                        self._kept_rows -= kept[1]
        self._show_state()

    def _log_recovery(self) -> None:
        self._database.add_event(
            self._event(
                "recovered",
                f"all rows stored, {counted(self._kept_in_all, 'row')} after a wait in memory",
                self._step,
            )
        )

    def _show_state(self) -> None:
        # If even this can't be written, the lock file's age shows it.
        with suppress(StorageError):
            self._lock.report_degraded(self.degraded)

    def _in_words(self, error: StorageError) -> str:
        """The error, short enough for the lock file and a narrow terminal: the run's files without
        their folder."""
        return "; ".join(
            filter(None, (error.message.replace(f"{self._run.path}/", ""), error.hint))
        )

    def _event(self, kind: EventKind, text: str, step: int) -> EventRow:
        return EventRow(self._attempt, step, kind, text, clock.time())


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


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - stderr is the run's log


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
        self.recorder.add_event(EventRow(self.number, step, kind, text, time.time()))

    def note(self, step: int, text: str) -> None:
        """Add a note to the run's log."""
        self.event("note", step, text)

    def enter(self, phase: Phase) -> None:
        """Show readers what happens before the first step; a phase may take minutes."""
        self.recorder.set_progress(Progress(phase))

    @contextmanager
    def activity(self, activity: Activity) -> Iterator[None]:
        """Show readers why no step completes for a while; afterwards, the activity around it."""
        self._activities.append(activity)
        try:
            self.recorder.set_meta(ACTIVITY_KEY, activity)
            yield
        finally:
            self._activities.pop()
            self.recorder.set_meta(ACTIVITY_KEY, self._activities[-1] if self._activities else "")


def versions() -> dict[str, str]:
    """Versions of Python, this program and its numeric packages, by name; without those that a run
    can do without and that aren't installed."""
    found = {"python": platform.python_version(), "rnnlm_tui": __version__}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class HeartbeatStore(Protocol):
    """Where heartbeats are written; safe to call from a second thread."""

    def heartbeat(self, time: float) -> None: ...

    def add_hardware(self, row: HardwareRow) -> None: ...


class HardwareReader(Protocol):
    def sample(self) -> HardwareRow: ...


class Heartbeat:
    """Writes until `stop`, also while paused and during evaluations: it shows that the process is
    alive.

    A heartbeat that can't be written (a full disk) or a reading that fails is skipped with a line
    in the log.

    Args:
        report: called with each new fault of the GPU that trains, from the heartbeat's thread.
    """

    def __init__(
        self,
        store: HeartbeatStore,
        probe: HardwareReader,
        *,
        report: Callable[[str], None] = lambda _: None,
        seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._store = store
        self._probe = probe
        self._report = report
        self._fault: str | None = None
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Write the first heartbeat, then start the thread."""
        self._store.heartbeat(time.time())
        self._thread.start()

    def stop(self) -> None:
        """End the thread; nothing is written after this."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._stopping.wait(self._seconds):
            try:
                self._store.heartbeat(time.time())
                row = self._probe.sample()
                self._store.add_hardware(row)
                if row.gpu_fault is not None and row.gpu_fault != self._fault:
                    self._report(row.gpu_fault)
                self._fault = row.gpu_fault
            except Exception as error:
                # Any error is only printed, to the run's log: without heartbeats the run would look
                # stalled, and rows that wait for disk space would never be stored.
                print(f"no heartbeat written: {error}", file=sys.stderr, flush=True)  # noqa: T201
