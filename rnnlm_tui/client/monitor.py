"""Follow a run: build a snapshot of everything that is shown, only if something changed."""

from collections.abc import Callable
from contextlib import closing
from time import sleep
from typing import TYPE_CHECKING, NamedTuple

from rnnlm_tui.client.remaining import estimate_remaining
from rnnlm_tui.errors import RnnlmError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.health import HealthRow
from rnnlm_tui.schema.metrics import CheckpointRow, EvaluationRow, EventRow, HardwareRow, SampleRow
from rnnlm_tui.schema.status import HEARTBEAT_SECONDS
from rnnlm_tui.schema.summary import ModelFigures, RunSummary
from rnnlm_tui.store.averages import list_averages
from rnnlm_tui.store.labels import RunLabels, labels_file
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.series import DETAIL_LIMIT, Cached, MachineTable, SeriesTable, empty_machine
from rnnlm_tui.store.summaries import LOG_LINES, RunStates, settled
from rnnlm_tui.store.summary import LOAD_READINGS, RunState, summarize_state
from rnnlm_tui.system.files import stamp
from rnnlm_tui.system.locks import LockState, host_name, read_lock
from rnnlm_tui.system.processes import last_lines

if TYPE_CHECKING:
    from rnnlm_tui.schema.steering import JournalledChange

EVENTS = 200
SAMPLES = 48
HEALTH = 256
HARDWARE = 600
"""Ten minutes of readings of a run that trains; of an ended one `machine` tells more."""
MACHINE_BUCKETS = 1024


class RunSnapshot(NamedTuple):
    """Everything shown of a run at one moment."""

    summary: RunSummary
    config: RunConfig
    """The config in effect: with the settings changed while the run trained."""
    series: SeriesTable
    evaluations: tuple[EvaluationRow, ...]
    """In order."""
    samples: tuple[SampleRow, ...]
    """Newest first."""
    events: tuple[EventRow, ...]
    """Newest first; older ones only if charts mark them: resumes, changed settings, skipped
    updates."""
    checkpoints: tuple[CheckpointRow, ...]
    """By step."""
    hardware: tuple[HardwareRow, ...]
    """The newest readings of the machine, oldest first."""
    log_tail: tuple[str, ...]
    """The last lines of the worker's output."""
    eta_margin: float | None
    """Margin of error of `summary.eta_seconds` in seconds; None without an ETA."""
    machine: MachineTable = empty_machine()
    """Machine readings of the whole run."""
    labels: RunLabels = RunLabels()
    averages: tuple[CheckpointRow, ...] = ()
    """Kept averages of checkpoints, by step."""
    changes: "tuple[JournalledChange, ...]" = ()
    """Changes of settings while the run trained, in order."""
    detail: SeriesTable | None = None
    """The visible steps, and some around them, in finer buckets; None if `series` is as fine."""
    health: tuple[HealthRow, ...] = ()
    """The newest figures of the net's health, oldest first."""


class RunMonitor:
    """Follows one run. `poll` costs only a few system calls if nothing changed.

    Args:
        report: called with the bytes that were read of the logs and those to read, if that takes
            long.

    Raises (every method):
        RnnlmError: the run's folder is gone, or its config or a log can't be read.
    """

    def __init__(
        self,
        run: RunDirectory,
        *,
        max_buckets: int = 2048,
        report: Callable[[int, int], None] | None = None,
    ) -> None:
        self.run = run
        self.reader = RunReader(run)
        self._max_buckets, self._report = max_buckets, report
        self._states = RunStates(self.reader)
        self._seen: tuple[object, ...] = ()
        self._state: RunState | None = None
        self._snapshot: RunSnapshot | None = None
        self._looked_at: tuple[int, int] | None = None
        self._averages = Cached[tuple[CheckpointRow, ...]]()

    def look_at(self, steps: tuple[int, int] | None) -> None:
        """Include these steps (first, last) in `detail` from the next `poll` on; None: no
        longer."""
        self._looked_at = steps

    def poll(self) -> RunSnapshot | None:
        """The new snapshot, or None if nothing changed since the last one."""
        lock = self._look_at_lock()
        seen = (
            self.reader.refresh(self._report),
            self._looked_at,
            lock._replace(touched=None),  # without the heartbeat
            stamp(self.run.config_path),
            stamp(self.run.log_path),
            stamp(self.run.checkpoints_path),
            stamp(labels_file(self.run).path),
        )
        state = self._state
        if seen == self._seen and state and self._states.status(state, lock) == state.status:
            return None
        with self.reader.read_transaction():
            snapshot = self._build(lock)
        self._seen = seen
        if snapshot == self._snapshot:
            return None
        self._snapshot = snapshot
        return snapshot

    def snapshot(self) -> RunSnapshot:
        """The current snapshot."""
        self.poll()
        assert self._snapshot is not None  # the first poll returns one
        return self._snapshot

    def summary(self) -> RunSummary:
        """The run's summary, without curves and logs."""
        return self.summary_and_config()[0]

    def summary_and_config(self) -> tuple[RunSummary, RunConfig]:
        """The run's summary, and its config in effect."""
        lock = self._look_at_lock()
        self.reader.refresh(self._report)
        with self.reader.read_transaction():
            state = self._states.read(self._lock_of_rows(lock))
        eta = estimate_remaining(state)
        return summarize_state(state, None if eta is None else eta.seconds), state.config

    def close(self) -> None:
        """Close the index of the run's logs."""
        self.reader.close()

    def _look_at_lock(self) -> LockState:
        self.run.check_there()
        return read_lock(self.run.lock_path)

    def _lock_of_rows(self, before: LockState) -> LockState:
        """The lock as it was while the rows were read: a worker takes it before its first row, and
        frees it after its last."""
        return before if before.held else self._look_at_lock()

    def _build(self, lock: LockState) -> RunSnapshot:
        lock = self._lock_of_rows(lock)
        readings = HARDWARE if lock.held else LOAD_READINGS
        self._state = state = self._states.read(lock, readings)
        eta = estimate_remaining(state)
        series = self.reader.series(self._max_buckets)
        return RunSnapshot(
            summary=summarize_state(state, None if eta is None else eta.seconds),
            config=state.config,
            series=series,
            evaluations=state.evaluations.rows,
            samples=tuple(self.reader.samples(SAMPLES)),
            events=self._read_events(),
            checkpoints=tuple(state.checkpoints),
            hardware=tuple(state.hardware),
            log_tail=last_lines(self.run.log_path, LOG_LINES),
            eta_margin=None if eta is None else eta.margin,
            machine=self.reader.machine(MACHINE_BUCKETS),
            labels=state.labels.value,
            averages=self._averages.of(
                settled(self.run.checkpoints_path),
                lambda: tuple(entry.row() for entry in list_averages(self.run)),
            ),
            changes=tuple(self.reader.changes()),
            detail=self._detail(series),
            health=tuple(self.reader.health(HEALTH)),
        )

    def _read_events(self) -> tuple[EventRow, ...]:
        """The newest events, and older ones that charts mark."""
        newest = self.reader.events(EVENTS)
        known = set(newest)
        return (*newest, *(row for row in self.reader.landmarks(EVENTS) if row not in known))

    def _detail(self, series: SeriesTable) -> SeriesTable | None:
        """The visible steps with half as many before and after, so that scrolling shows data at
        once."""
        if self._looked_at is None or series.width == 1:
            return None
        first, last = self._looked_at
        beside = min((last - first + 1) // 2, max(0, (DETAIL_LIMIT - (last - first + 1)) // 2))
        detail = self.reader.stretch(max(1, first - beside), last + beside, self._max_buckets)
        return detail if detail.width < series.width and len(detail) else None


def summarize(run: RunDirectory, report: Callable[[int, int], None] | None = None) -> RunSummary:
    """The summary of a run, as in `show --json`; `report` as in `RunMonitor`.

    Raises:
        RnnlmError: the config or a log can't be read.
    """
    with closing(RunMonitor(run, report=report)) as monitor:
        summary = monitor.summary()
        if may_differ_in_time(summary):
            sleep(SECOND_LOOK_SECONDS)
            summary = monitor.summary()
        return summary


SECOND_LOOK_SECONDS = 1.5 * HEARTBEAT_SECONDS
"""How long to wait for a heartbeat on another host."""


def may_differ_in_time(summary: RunSummary) -> bool:
    """Whether a run may only seem dead because the clock of its host differs from ours: then a
    second look shows whether there is a new heartbeat."""
    return summary.status in ("stalled", "lost") and summary.host not in (None, host_name())


def summary_or_problem(run: RunDirectory) -> RunSummary:
    """The summary of a run; an unreadable one has the status `lost` with message and hint."""
    try:
        return summarize(run)
    except RnnlmError as error:
        return problem_summary(run, error)


def problem_summary(run: RunDirectory, error: RnnlmError) -> RunSummary:
    """The summary of an unreadable run."""
    labels, damage = labels_file(run).look()
    return RunSummary(
        run=run.name,
        status="lost",
        model=ModelFigures(cell_type="unknown", num_layers=0, hidden_size=0, tie_weights=False),
        message=error.message,
        hint=error.hint or None,
        unreadable="can't be read",
        labels_damaged=bool(damage),
        **labels.of_run,
    )
