"""Records: all that a worker stores of its run; what the disk does not take is kept in memory, in order, until it does."""

from __future__ import annotations

import sys
import time as clock
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock, RLock

from rnnlm_tui.contract.figures import counted
from rnnlm_tui.contract.metrics import CheckpointRow, EvaluationRow, EventKind, EventRow, HardwareRow, Progress, SampleRow, StepRow
from rnnlm_tui.errors import DatabaseError, StorageError
from rnnlm_tui.store.ballast import Ballast
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.free_space import ROOM_FOR_ROWS, free_bytes, is_full
from rnnlm_tui.store.locks import RunLock
from rnnlm_tui.store.run_directory import RunDirectory

MAX_KEPT_ROWS = 200_000
"""So many rows are kept in memory (75 MiB, measured) before training waits for the disk."""
TEXT_ROW = 400
"""Characters of a sample that weigh as much as a row of metrics."""


class Records:
    """Stands between one attempt and its database: a full disk, one that fails or one that became read-only makes the run degraded and loses nothing.

    While it is degraded every call is kept and repeated in its order, once a second by `heartbeat`, until all of it is stored; heartbeats, hardware
    readings and progress are left out instead, and the lock's file says why and that the worker lives. Threads may share it.

    Raises (every method that stores something):
        StorageError: the run's folder or its database was removed under the worker.
        DatabaseError: the database is damaged.
    """

    def __init__(self, run: RunDirectory, lock: RunLock, database: RunDatabase, *, max_kept: int = MAX_KEPT_ROWS) -> None:
        self._run = run
        self._lock = lock
        self._database = database
        self._ballast = Ballast(database.path)
        self._max_kept = max_kept
        self._places = [(path, _identity(path)) for path in (run.path, database.path)]
        self._turn = RLock()
        self._storing = Lock()  # one repeats at a time
        self._kept: deque[tuple[Callable[[], None], int]] = deque()
        self._kept_rows = self._kept_in_all = 0
        self._answers: dict[str, str] = {}
        self._reason = self._unsaved = ""
        self._fatal: StorageError | None = None
        self._closed = False
        self._attempt = self._step = 0

    @property
    def degraded(self) -> str:
        """Why the run is degraded, for people; empty while everything is stored."""
        if not self._reason:
            return self._unsaved
        others = (", a checkpoint for space" if self._unsaved else "") + (", and training for the disk" if self.full else "")
        return f"rows wait in memory ({self._kept_rows:,}){others}: {self._reason}"

    @property
    def full(self) -> bool:
        """So much is kept that nothing more should be measured."""
        return self._kept_rows >= self._max_kept

    def check(self) -> None:
        """Raises what ends the run: its folder or database is gone, or damaged."""
        if self._fatal is not None:
            raise self._fatal
        for path, known in self._places:
            if _identity(path, unknown=known) != known:
                self._fatal = StorageError(
                    f"{path} was removed or replaced while its worker ran", hint="nothing was written in its place; `rnnlm-tui runs` shows what is left"
                )
                raise self._fatal

    def make_ballast(self) -> None:
        """Before the first row: some space that is given up when the disk is full.

        Raises:
            StorageError: there is none, with need and have.
        """
        self._ballast.make()

    def close(self) -> None:
        """At the run's end: give the ballast up, and store in its room what is still kept. What can't be stored is told in the log."""
        with suppress(StorageError):
            self.check()  # a folder that stands in the place of the run's own is not ours
            self._ballast.release()
            self._store_kept(recover=True)
        if self._kept:
            _log(f"{counted(self._kept_rows, 'row')} could not be stored: {self._reason}")
        self._closed = True

    def store_all(self) -> None:
        """Store what is kept now, in the room that the ballast gave up where there is no other; the run stays degraded until there is.

        Raises:
            StorageError: not all of it can be stored; the rest is kept.
        """
        self.check()
        self._store_kept(recover=False)

    def saving_failed(self, error: StorageError, step: int) -> None:
        """A checkpoint could not be written: the run is degraded until `saved`."""
        first, self._unsaved = not self._unsaved, f"not saved: {self._in_words(error)}"
        self._tell()
        if first:
            self.add_event(self._event("degraded", self._unsaved, step))

    def saved(self, step: int) -> None:
        """A checkpoint was written."""
        if self._unsaved:
            self._unsaved = ""
            self._tell()
            self.add_event(self._event("recovered", "a checkpoint could be written again", step))

    def begin_attempt(self, pid: int, host: str, boot_id: str, device: str, start_step: int, environment: Mapping[str, object]) -> int:
        """As `RunDatabase.begin_attempt`; raises StorageError where it can't be stored, for nothing has begun yet."""
        self._step = start_step
        try:
            self._attempt = self._database.begin_attempt(pid, host, boot_id, device, start_step, environment)
        except StorageError:
            self._ballast.release()
            raise
        return self._attempt

    def go_back(self, attempt: int, start_step: int) -> None:
        """As `RunDatabase.go_back`."""
        self._step = start_step
        self._store(partial(self._database.go_back, attempt, start_step))

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
        """As `RunDatabase.set_progress`; while the run is degraded only the end of it is kept."""
        self._store(partial(self._database.set_progress, progress), 1 if progress is None else 0)

    def add_hardware(self, row: HardwareRow) -> None:
        """As `RunDatabase.add_hardware`; left out while the run is degraded."""
        self._store(partial(self._database.add_hardware, row), 0)

    def heartbeat(self, time: float) -> None:
        """As `RunDatabase.heartbeat`. While the run is degraded the lock's file tells instead, and what is kept is tried again."""
        self.check()
        if self.degraded:
            self._tell()
        beat = partial(self._database.heartbeat, time)
        with suppress(StorageError):  # there is no room yet, or it is full again: in a second once more
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
        """As `RunDatabase.journalled`, what is still kept among it."""
        return self._answers.get(id) or self._database.journalled(id)

    def _store(self, write: Callable[[], None], rows: int = 1) -> None:
        """Store it now, or keep it behind what is kept already; 0 rows: it is not worth keeping."""
        self.check()
        if self._closed:
            raise StorageError(f"the attempt on {self._run.name} has ended", hint="nothing more of it is stored")
        if not self._keep_behind(write, rows):
            try:
                write()
            except DatabaseError:
                raise
            except StorageError as error:
                if self._closed:  # meanwhile, by a stop that another thread heeded
                    raise
                self._keep(write, rows)
                self._degrade(error)

    def _keep_behind(self, write: Callable[[], None], rows: int) -> bool:
        with self._turn:
            if self._reason:
                self._keep(write, rows)
            return bool(self._reason)

    def _keep(self, write: Callable[[], None], rows: int) -> None:
        with self._turn:
            if rows:
                self._kept.append((write, rows))
                self._kept_rows += rows
                self._kept_in_all += rows

    def _degrade(self, error: StorageError, *, again: bool = False) -> None:
        """From now on rows are kept; the first time, and `again` when it was said to be over, it is told in the room that the ballast gives up."""
        with self._turn:
            first, self._reason = again or not self._reason, self._in_words(error)
        if is_full(error) or self._no_space():
            self._ballast.release()
        self._tell()
        if not first:
            return
        _log(f"degraded: {self._reason}")
        event = self._event("degraded", f"{self._reason}; training goes on, and its rows wait in memory", self._step)
        try:
            self._database.add_event(event)  # before what is kept: readers should know at once
        except StorageError:
            self._keep(partial(self._database.add_event, event), 1)

    def _no_space(self) -> bool:
        """SQLite has other words for a full disk as well, where it could not make its shared memory larger for one."""
        try:
            return free_bytes(self._database.path) < ROOM_FOR_ROWS
        except StorageError:
            return False

    def _store_kept(self, *, recover: bool, first: Callable[[], None] | None = None) -> None:
        """Repeat what is kept until nothing is, and tell it; raises StorageError where the disk takes no more of it.

        Args:
            recover: then keep nothing any more: the run is as it was.
            first: has to succeed before anything else is tried.
        """
        if not self._reason:
            return
        with self._storing:
            told = False
            while self._reason:
                with self._turn:
                    if not first and not self._kept and (told or not recover):
                        if recover:
                            self._reason = ""
                            self._kept_in_all = 0
                            self._answers.clear()
                        break
                    kept = self._kept[0] if self._kept else None
                try:
                    (first or (kept[0] if kept else self._tell_recovered))()
                except DatabaseError as error:
                    self._fatal = error
                    raise
                except StorageError as error:
                    self._degrade(error, again=told)
                    raise
                if first:
                    first = None
                elif not kept:
                    told = True
                else:
                    with self._turn:
                        self._kept.popleft()
                        self._kept_rows -= kept[1]
        self._tell()

    def _tell_recovered(self) -> None:
        self._database.add_event(
            self._event("recovered", f"everything is stored, {counted(self._kept_in_all, 'row')} of it after a wait in memory", self._step)
        )

    def _tell(self) -> None:
        with suppress(StorageError):  # a disk that takes not even this: the lock's age tells it then
            self._lock.report_degraded(self.degraded)

    def _in_words(self, error: StorageError) -> str:
        """Short enough for the lock's file and a narrow terminal: the run's own files by their names."""
        return "; ".join(filter(None, (error.message.replace(f"{self._run.path}/", ""), error.hint)))

    def _event(self, kind: EventKind, text: str, step: int) -> EventRow:
        return EventRow(self._attempt, step, kind, text, clock.time())


def _identity(path: Path, *, unknown: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Device and inode; None where there is nothing, `unknown` where the disk doesn't tell: it may again."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return unknown
    return found.st_dev, found.st_ino


def _log(text: str) -> None:
    """To stderr, which is the run's log."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - a worker has no other voice
