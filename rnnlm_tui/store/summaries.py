"""Read what a run's files say at one moment, and keep a summary of it in its log.

A worker's last act is to append the summary of its run, so that a list needs no index.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import SUMMARY_VERSION, CheckpointRow, EventKind, SummaryRow
from rnnlm_tui.schema.status import SLOW_STEPS, STALE_SECONDS, RunStatus, failure_prefix
from rnnlm_tui.store.checkpoints import CheckpointEntry, checkpoint_rows
from rnnlm_tui.store.labels import RunLabels, labels_file
from rnnlm_tui.store.lineage import read_parent
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.series import Cached
from rnnlm_tui.store.summary import (
    LOAD_READINGS,
    RECENT_STEPS,
    Evaluations,
    RunState,
    last_activity_time,
    median_step_seconds,
    read_evaluations,
    summarize_state,
)
from rnnlm_tui.system.files import stamp
from rnnlm_tui.system.json_files import Found
from rnnlm_tui.system.locks import LockState, host_name
from rnnlm_tui.system.processes import last_lines

LOG_LINES = 200
MOST_UNREAD = 50 * 2**20
"""Bytes of a log that a worker reads at its end for the summary: about a second."""


@dataclass(slots=True)
class Age:
    """Age of a timestamp in seconds, by the monotonic clock since it was first seen: clock jumps
    don't count. A later one is new, whatever the clock of the host that wrote it."""

    stamp: float | None = None
    age_when_seen: float = 0.0
    seen: float = 0.0

    def of(self, stamp: float | None, now: float | None = None) -> float | None:
        """The age of this timestamp; None if there is none.

        Args:
            now: the time by the clock that it was taken from; None: by ours.
        """
        if stamp is None:
            return None
        if stamp != self.stamp:
            is_later = self.stamp is not None and stamp > self.stamp
            age = 0.0 if is_later else max(0.0, (now or time.time()) - stamp)
            self.stamp, self.age_when_seen, self.seen = stamp, age, time.monotonic()
        return self.age_when_seen + time.monotonic() - self.seen


def settled(path: Path) -> object:
    """A stamp to use as a cache key. Unique within a second of a change: another may get the same
    time."""
    found = stamp(path)
    return found if time.time() - found[1] / 1e9 > 1.0 else object()


class RunStates:
    """Reads the state of one run again and again: of its files only those that changed."""

    def __init__(self, reader: RunReader) -> None:
        self._run, self._reader = reader.run, reader
        self._heartbeat_age, self._activity_age = Age(), Age()
        self._config = Cached[RunConfig]()
        self._evaluations = Cached[Evaluations]()
        self._checkpoints = Cached[list[CheckpointRow]]()
        self._manifests = Cached[dict[int, CheckpointEntry]]()

    def read(self, lock: LockState, readings: int = LOAD_READINGS) -> RunState:
        """The run's state, with this many readings of the machine; `lock` is its worker's."""
        reader, run = self._reader, self._run
        facts, attempts, evaluations = reader.facts(), reader.attempts(), reader.evaluations()
        config = self._config.of(
            (settled(run.config_path), facts.settings),
            lambda: _config_in_effect(run, facts),
        )
        folder, parent = settled(run.checkpoints_path), None
        with suppress(StorageError):  # starting the run reports it
            parent = read_parent(run)
        state = RunState(
            name=run.name,
            config=config,
            config_path=str(run.config_path),
            status="draft",
            facts=facts,
            attempts=attempts,
            pid=lock.pid if lock.held else None,
            page=lock.page,
            created=run.created(),
            parent=parent,
            recent=reader.recent_steps(RECENT_STEPS),
            evaluations=self._evaluations.of(
                evaluations, lambda: read_evaluations(evaluations, config.evaluation.split)
            ),
            checkpoints=self._checkpoints.of(
                (folder, evaluations, len(attempts)),
                # a later attempt may save a step again
                lambda: checkpoint_rows(run, evaluations, self._manifests.of(len(attempts), dict)),
            ),
            last_state=reader.last_state(),
            hardware=reader.hardware(readings),
            ranks=reader.ranks(),
            labels=labels_file(run).look(),
        )
        status = self.status(state, lock)
        words = self._last_words(state) if status == "crashed" else ""
        return state._replace(status=status, last_words=words)

    def _last_words(self, state: RunState) -> str:
        """Why the attempt failed, from its output if the worker couldn't append it to the log;
        empty if it isn't there."""
        opening = failure_prefix(state.attempts[-1].attempt if state.attempts else 0)
        found = (
            line.removeprefix(opening)
            for line in reversed(last_lines(self._run.log_path, LOG_LINES))
            if line.startswith(opening)
        )
        return next(found, "")

    def status(self, state: RunState, lock: LockState) -> RunStatus:
        """The run's status at this moment."""
        same_host = state.host in (None, host_name())
        their_clock = None if same_host or not state.hardware else state.hardware[-1].time
        step_age = self._activity_age.of(last_activity_time(state), their_clock)
        is_old = step_age is not None and step_age > STALE_SECONDS
        return derive_status(
            None if state.last_state is None else state.last_state.kind,
            lock_held=lock.held,
            same_host=same_host,
            heartbeat_age=self._heartbeat_age.of(_heartbeat(state, lock)),
            step_age=step_age,
            median_step_seconds=median_step_seconds(state) if is_old else None,
            activity=lock.page.activity,
            degraded=lock.page.degraded != "",
        )


def derive_status(
    last_state: EventKind | None,
    *,
    lock_held: bool,
    same_host: bool,
    heartbeat_age: float | None,
    step_age: float | None = None,
    median_step_seconds: float | None = None,
    activity: str = "",
    degraded: bool = False,
) -> RunStatus:
    """Derive the status from lock and heartbeat. An unknown state is never shown as success.

    A run without an event is a draft, whoever holds its lock: a change of its config does too.

    Args:
        last_state: the newest event that changes the state; None if the run was never started.
        same_host: whether the last worker ran on this host. Then a free lock means that the worker
            is dead, also after a reboot.
        heartbeat_age: seconds since the worker's last heartbeat; None if there was none.
        step_age: seconds since the newest step, evaluation or checkpoint ended; None if unknown.
        median_step_seconds: duration of a step; None if unknown.
        activity: the worker's activity besides training. During it a run with a fresh heartbeat
            isn't stalled.
        degraded: whether the worker keeps rows in memory because it can't store them (full disk).
    """
    if last_state is None:
        return "draft"
    if last_state in ("stopped", "finished", "failed"):
        return last_state
    is_fresh = heartbeat_age is not None and heartbeat_age <= STALE_SECONDS
    if not lock_held and (same_host or not is_fresh):
        return "crashed" if same_host else "lost"
    if heartbeat_age is not None and not is_fresh:
        return "stalled"
    if last_state == "paused":
        return "paused"
    if last_state in ("started", "resumed", "preparing"):
        return "preparing"
    if degraded:
        return "degraded"
    limit = max(STALE_SECONDS, SLOW_STEPS * (median_step_seconds or 0.0))
    is_busy = activity != "" and is_fresh
    return "stalled" if step_age is not None and step_age > limit and not is_busy else "running"


def _config_in_effect(run: RunDirectory, facts: Facts) -> RunConfig:
    """The config with what was changed while the run trained."""
    config = run.read_config()
    if facts.settings:
        from rnnlm_tui.schema.steering import config_in_effect  # not before the first paint

        config = config_in_effect(config, facts.settings)
    return config


def _heartbeat(state: RunState, lock: LockState) -> float | None:
    """When the run's worker was last heard of, in Unix seconds; None: never.

    Whoever copies or renames a run touches its lock, so a free one says nothing.
    """
    if lock.held:
        return lock.touched
    heard = [row.time for row in state.hardware[-1:]]
    heard += [state.last_state.time] if state.last_state is not None else []
    return max(heard, default=None)


def append_summary(run: RunDirectory, log: RunLog) -> None:
    """Append the summary of a run whose last row is in its log; `client.listing` reads it.

    None is appended if the attempt has not ended, if its log is too long to read it now, or if the
    summary names the run's folder, which may be moved.

    Raises:
        RnnlmError: config or log can't be read, or the log can't be written.
    """

    def report(done: int, total: int) -> None:
        if total - done > MOST_UNREAD:
            raise StorageError(f"{total - done:,} bytes are too many to read at the end")

    with RunReader(run) as reader:
        reader.refresh(report)
        state = RunStates(reader).read(LockState(held=False))
    if state.status not in ("stopped", "finished", "failed") or state.facts.memory_warning:
        return
    unlabelled = state._replace(labels=Found(RunLabels()))
    summary = summarize_state(unlabelled).model_dump(exclude={"created"}, exclude_defaults=True)
    log.append(SummaryRow(SUMMARY_VERSION, summary, [row.step for row in state.checkpoints]))
    log.sync()
