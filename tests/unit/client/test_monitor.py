"""RunMonitor: snapshots of changes, and the derived status."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Literal

import pytest

from rnnlm_tui.client.monitor import (
    EVENTS,
    RunMonitor,
    RunSnapshot,
    summarize,
    summary_or_problem,
)
from rnnlm_tui.client.remaining import SteadyEta
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EventKind, EventRow, HardwareRow, StepRow
from rnnlm_tui.schema.status import STALE_SECONDS
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.checkpoints import read_checkpoints, write_checkpoint
from rnnlm_tui.store.labels import RunLabels, change_labels, pin_checkpoint
from rnnlm_tui.store.lineage import take_parent
from rnnlm_tui.store.log import Row, RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import LockPage, RunLock
from tests.tui.demo_run import demo_run, seen
from tests.unit.client.logs import begin, record
from tests.unit.store.rows import evaluation_row, parent_checkpoint


class Worker:
    """Writes a run's log and lock like a worker."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.lock = RunLock(run.lock_path)
        self.log = begin(run)
        self.append(Facts(max_steps=100))

    def append(self, *rows: Row | Facts) -> None:
        self.log.append(*rows)

    def event(self, kind: EventKind, at: float | None = None, step: int = 0) -> None:
        when = time.time() if at is None else at
        self.append(EventRow(self.log.attempt, step, kind, "", when))

    def steps(
        self, first: int, last: int, *, ended: float | None = None, seconds: float = 0.1
    ) -> None:
        now = time.time() if ended is None else ended
        self.append(*(step_at(step, step * seconds, now) for step in range(first, last + 1)))

    def evaluation(
        self, step: int, loss: float, *, seconds: float = 2.0, name: str = "validation"
    ) -> None:
        row = evaluation_row(step, loss=loss)
        split: Literal["validation", "test"] = "test" if name == "test" else "validation"
        now = time.time()
        self.append(row._replace(split=split, name=name, seconds=seconds, time=now))

    def reading(self, at: float, own: float = 20.0) -> None:
        self.append(HardwareRow(at, 100.0, own, 1, 2, 1, 1))

    def checkpoint(self, step: int, train_loss: float = 3.1) -> None:
        write_checkpoint(self.run, step, lambda folder: None, None, {"train_loss": train_loss})

    def live_since(self, long_ago: float, *, seconds: float = 0.1) -> None:
        """Train with five steps that ended then, the heartbeat is fresh."""
        self.lock.acquire()
        self.event("running", at=long_ago)
        self.steps(1, 5, ended=long_ago, seconds=seconds)


def step_at(step: int, active: float, at: float, loss: float = 4.0) -> StepRow:
    return StepRow(1, step, step * 50, step / 40, loss, 1.0, 0.01, 500.0, active, at)


@pytest.fixture
def worker(run: RunDirectory) -> Iterator[Worker]:
    worker = Worker(run)
    with worker.log:
        yield worker
    worker.lock.release()


def test_a_run_that_never_started_is_a_draft(run: RunDirectory) -> None:
    summary = summarize(run)
    assert (summary.status, summary.step, summary.attempt, summary.started, summary.train.loss) == (
        "draft",
        0,
        0,
        None,
        None,
    )
    assert summary.updated is not None


def test_a_poll_has_a_snapshot_for_each_change_but_a_heartbeat(
    run: RunDirectory, worker: Worker
) -> None:
    monitor = RunMonitor(run)
    worker.event("running")
    assert monitor.poll() is not None
    assert monitor.poll() is None
    worker.steps(1, 3)
    snapshot = monitor.poll()
    assert snapshot is not None
    summary = snapshot.summary
    assert (summary.step, summary.tokens_seen, len(snapshot.series)) == (3, 150, 3)
    assert monitor.poll() is None
    assert monitor.snapshot() is snapshot
    assert snapshot.log_tail == ()
    run.log_path.write_text("Traceback\nValueError: so it ends\n")
    told = monitor.poll()
    assert told is not None
    assert told.log_tail == ("Traceback", "ValueError: so it ends")
    change_labels(run, lambda labels: RunLabels(("paper",), "the one of the talk", pinned=True))
    seen = monitor.poll()
    assert seen is not None
    words = (seen.summary.tags, seen.summary.note, seen.summary.pinned)
    assert words == (("paper",), "the one of the talk", True)
    worker.event("paused")
    worker.lock.acquire()
    assert monitor.snapshot().summary.status == "paused"
    worker.lock.show(LockPage())
    assert monitor.poll() is None, "a heartbeat alone"
    run.config_path.write_bytes(b"damaged" * 1_000)
    assert summary_or_problem(run).tags == ("paper",)


def test_visible_steps_have_finer_buckets_than_coarse_curves(
    run: RunDirectory, worker: Worker
) -> None:
    worker.steps(1, 3_000)
    monitor = RunMonitor(run, max_buckets=500)
    whole = monitor.snapshot()
    assert (whole.series.width, whole.detail) == (8, None)
    monitor.look_at((1_001, 1_100))
    near = monitor.poll()
    assert near is not None
    assert near.detail is not None
    assert (near.detail.width, near.detail.step[0], near.detail.step[-1]) == (1, 951, 1_150)
    assert (near.series, near.summary) == (whole.series, whole.summary)
    assert monitor.poll() is None
    worker.steps(3_001, 3_001)
    live = monitor.poll()
    assert live is not None
    assert live.detail is near.detail
    monitor.look_at((1, 3_000))
    assert monitor.snapshot().detail is None
    monitor.look_at((1_001, 1_100))
    assert monitor.snapshot().detail is not None
    monitor.look_at(None)
    assert monitor.snapshot().detail is None


def test_following_a_long_run_keeps_what_it_has_read(run: RunDirectory, worker: Worker) -> None:
    worker.steps(1, 3_000)
    for step in range(10, 3_001, 10):
        worker.evaluation(step, 4.0)
        worker.event("evaluation", step=step)
        worker.reading(1.0 + step)
    worker.checkpoint(3_000)
    monitor = RunMonitor(run)
    before = monitor.snapshot()
    worker.steps(3_001, 3_002)
    worker.evaluation(3_002, 3.9)
    worker.reading(5_000.0)
    after = monitor.snapshot()
    assert (after.summary.step, len(after.evaluations), after.summary.evaluation.best_step) == (
        3_002,
        301,
        3_002,
    )
    for name in ("evaluations", "events", "hardware"):
        old, new = getattr(before, name), getattr(after, name)
        assert all(any(row is other for other in old) for row in new[1:-1])


@pytest.mark.parametrize("read", [RunMonitor.snapshot, RunMonitor.summary])
def test_a_worker_that_begins_while_its_run_is_read_lives(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, read: Callable[[RunMonitor], object]
) -> None:
    begun: list[Worker] = []
    refresh = RunReader.refresh

    def beginning(reader: RunReader, report: object = None) -> object:
        if not begun:
            begun.append(Worker(run))
            begun[0].lock.acquire()
            begun[0].event("started")
        return refresh(reader)

    monkeypatch.setattr(RunReader, "refresh", beginning)
    with closing(RunMonitor(run)) as monitor:
        found = read(monitor)
    summary = found.summary if isinstance(found, RunSnapshot) else found
    assert isinstance(summary, RunSummary)
    assert summary.status == "preparing"


def test_old_events_that_charts_mark_are_included(run: RunDirectory, worker: Worker) -> None:
    worker.steps(1, 50)
    for kind in ("started", "running", "setting", "resumed", "skipped"):
        worker.event(kind)
    for step in range(EVENTS):
        worker.event("evaluation", step=step)
    monitor = RunMonitor(run)
    assert [event.kind for event in monitor.snapshot().events[EVENTS:]] == [
        "skipped",
        "resumed",
        "setting",
        "started",
    ]
    worker.event("setting")
    assert [event.kind for event in monitor.snapshot().events if event.kind != "evaluation"] == [
        "setting",
        "skipped",
        "resumed",
        "setting",
        "started",
    ]


@pytest.mark.parametrize(
    "problem", [StorageError("a log can't be read"), KeyError("a bug of ours")]
)
def test_a_failed_poll_is_repeated(
    run: RunDirectory, worker: Worker, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    monitor = RunMonitor(run)
    assert monitor.snapshot().summary.step == 0
    worker.steps(1, 3)
    with monkeypatch.context() as patched:
        patched.setattr(
            RunReader,
            "facts",
            lambda reader: (_ for _ in ()).throw(problem),
        )
        for _ in range(2):
            with pytest.raises(type(problem)):
                monitor.poll()
    snapshot = monitor.poll()
    assert snapshot is not None
    assert snapshot.summary.step == 3


def test_machine_history_starts_with_the_first_reading(run: RunDirectory, worker: Worker) -> None:
    monitor = RunMonitor(run)
    assert len(monitor.snapshot().machine) == 0
    for second in range(600):
        worker.reading(1.0 + second)
    snapshot = monitor.snapshot()
    assert (len(snapshot.machine), snapshot.machine.time[0]) == (600, 1.0)
    assert [row.time for row in snapshot.hardware] == [591.0 + row for row in range(10)]
    worker.steps(1, 2)
    assert monitor.snapshot().machine is snapshot.machine


def test_a_pin_is_noticed_at_once_without_a_worker(run: RunDirectory, worker: Worker) -> None:
    for step in (500, 1_000):
        worker.checkpoint(step)
    monitor = RunMonitor(run)
    assert monitor.snapshot().summary.checkpoints.pinned == ()
    pin_checkpoint(run, 500)
    snapshot = monitor.poll()
    assert snapshot is not None
    assert snapshot.summary.checkpoints.pinned == tuple(snapshot.labels.pins) == (500,)
    assert monitor.poll() is None


def test_a_step_that_a_later_attempt_saves_again_is_read_again(
    run: RunDirectory, worker: Worker
) -> None:
    worker.checkpoint(40, train_loss=3.1)
    monitor = RunMonitor(run)
    assert monitor.snapshot().checkpoints[0].train_loss == 3.1
    record(run, EventRow(2, 0, "running", "", time.time()))
    worker.checkpoint(40, train_loss=2.5)
    assert monitor.snapshot().checkpoints[0].train_loss == 2.5


def test_preparing_shows_its_progress(run: RunDirectory, worker: Worker) -> None:
    worker.lock.acquire()
    worker.event("preparing")
    worker.lock.show(LockPage(progress=("encoding", 5, 10)))
    summary = summarize(run)
    assert summary.status == "preparing"
    assert summary.preparing is not None
    assert (summary.preparing.phase, summary.preparing.done, summary.preparing.total) == (
        "encoding",
        5,
        10,
    )
    assert summary.pid == os.getpid()


def test_a_worker_that_ended_without_an_event_has_crashed(
    run: RunDirectory, worker: Worker
) -> None:
    worker.event("running")
    monitor = RunMonitor(run)
    worker.lock.acquire()
    assert monitor.snapshot().summary.status == "running"
    worker.lock.release()
    snapshot = monitor.poll()
    assert snapshot is not None
    assert snapshot.summary.status == "crashed"
    assert snapshot.summary.message is not None
    assert snapshot.summary.pid is None


def test_a_reason_found_only_in_the_log_is_quoted_for_that_attempt(
    run: RunDirectory, worker: Worker
) -> None:
    worker.event("running")
    run.log_path.write_text(
        "Traceback (most recent call last):\nStorageError: gone\nattempt 1 failed: the folder was"
        " moved\n`rnnlm-tui runs` shows what is left\n"
    )
    assert (
        summarize(run).message == "its worker failed and could not store why: the folder was moved"
    )
    record(run, EventRow(2, 0, "running", "", time.time()))
    summary = summarize(run)
    assert (summary.attempt, summary.status) == (2, "crashed")
    assert "was killed" in str(summary.message)


def test_a_stopped_run_hints_at_the_step_of_a_resume(run: RunDirectory, worker: Worker) -> None:
    worker.event("stopped")
    assert (
        summarize(run).hint
        == "`rnnlm-tui resume plain-otter` restarts from step 0: no checkpoint was saved"
    )
    worker.checkpoint(40)
    assert (
        summarize(run).hint
        == "`rnnlm-tui resume plain-otter` resumes from step 40, the last checkpoint"
    )


def test_a_failed_run_has_diverged_if_its_newest_steps_are_not_finite(
    run: RunDirectory, worker: Worker
) -> None:
    worker.steps(1, 30)
    worker.event("failed")
    assert not summarize(run).diverged
    bad = [step_at(step, step * 0.1, time.time(), math.nan) for step in range(31, 51)]
    worker.append(*bad[:-1])
    assert not summarize(run).diverged
    worker.append(bad[-1])
    assert summarize(run).diverged
    worker.event("stopped")
    assert not summarize(run).diverged


@pytest.mark.fault("no step ends for a long time")
def test_a_run_without_steps_for_long_is_stalled_with_the_time(
    run: RunDirectory, worker: Worker
) -> None:
    long_ago = time.time() - 2 * STALE_SECONDS
    worker.live_since(long_ago)
    summary = summarize(run)
    assert summary.status == "stalled"
    assert f"no step since {time.strftime('%H:%M:%S', time.localtime(long_ago))}" in str(
        summary.message
    )


def test_a_worker_that_keeps_rows_in_memory_is_degraded_with_the_reason(
    run: RunDirectory, worker: Worker
) -> None:
    long_ago = time.time() - 2 * STALE_SECONDS
    worker.live_since(long_ago)
    os.utime(run.lock_path, (long_ago, long_ago))
    monitor = RunMonitor(run)
    assert monitor.snapshot().summary.status == "stalled"
    worker.lock.show(LockPage(degraded="7 rows wait in memory: can't append to the log: disk full"))
    summary = monitor.snapshot().summary
    assert (summary.status, summary.message) == (
        "degraded",
        "it keeps training, on disk: metrics up to step 5 and no checkpoint; 7 rows wait in"
        " memory: can't append to the log: disk full",
    )
    worker.lock.show(LockPage(degraded="8 rows wait in memory: can't append to the log: disk full"))
    assert "; 8 rows wait in memory" in str(monitor.snapshot().summary.message)
    os.utime(run.lock_path, (long_ago, long_ago))
    assert monitor.summary().status == "stalled"
    worker.lock.show(LockPage())
    assert monitor.summary().status == "stalled"


def test_a_removed_run_is_reported_and_not_shown_as_a_draft(
    run: RunDirectory, worker: Worker
) -> None:
    worker.event("running")
    monitor = RunMonitor(run)
    assert monitor.poll() is not None
    run.path.rename(run.path.with_name("elsewhere"))
    with pytest.raises(StorageError, match="is gone: it was removed or moved") as caught:
        monitor.poll()
    assert "rnnlm-tui runs" in caught.value.hint
    assert not run.path.exists()
    run.path.with_name("elsewhere").rename(run.path)


def test_a_stall_is_measured_by_the_usual_step_or_the_trial_step(
    run: RunDirectory, worker: Worker
) -> None:
    long_ago = time.time() - 2 * STALE_SECONDS
    worker.lock.acquire()
    worker.event("running", at=long_ago)
    assert summarize(run).status == "stalled"
    worker.append(Facts(rehearsed_seconds=STALE_SECONDS / 2))  # no step of its own yet
    assert summarize(run).status == "running"
    worker.steps(1, 5, ended=long_ago, seconds=STALE_SECONDS / 2)
    assert summarize(run).status == "running"
    # many quick ones: the mean is long, the median short
    start = 5 * STALE_SECONDS / 2
    worker.append(*(step_at(step, start + step / 10, long_ago) for step in range(6, 60)))
    assert summarize(run).status == "stalled"
    worker.lock.show(LockPage(activity="evaluating"))
    assert summarize(run).status == "running"
    worker.lock.show(LockPage())
    assert summarize(run).status == "stalled"


def test_a_run_on_a_silent_host_is_lost(run: RunDirectory) -> None:
    """Also if its lock was just copied or touched."""
    long_ago = time.time() - 2 * STALE_SECONDS
    with RunLock(run.lock_path):
        record(run, EventRow(1, 0, "running", "", long_ago), host="elsewhere")
    summary = summarize(run)
    assert summary.status == "lost"
    assert "elsewhere" in str(summary.message)
    with RunLog(run, 1) as log:
        log.append(EventRow(1, 0, "running", "", time.time()))
    assert summarize(run).status == "running"


def test_summaries_have_the_newest_and_the_best_evaluation(
    run: RunDirectory, worker: Worker
) -> None:
    worker.steps(1, 60)
    for step, loss in [(20, 4.0), (40, 3.0), (60, 3.5)]:
        worker.evaluation(step, loss)
    worker.evaluation(60, 3.6, name="test")
    for step in (40, 60):
        worker.checkpoint(step)
    worker.append(Facts(source_loss=1.0))
    worker.event("failed")
    worker.append(Facts(message="the disk is full"))
    summary = summarize(run)
    assert (summary.validation.step, summary.validation.loss, summary.validation.best_step) == (
        60,
        3.5,
        40,
    )
    assert summary.validation.best_perplexity == pytest.approx(20.0855, abs=1e-3)
    assert (summary.test.name, summary.test.loss) == ("test", 3.6)
    assert (
        summary.checkpoints.best,
        summary.checkpoints.last,
        summary.checkpoints.count,
    ) == (40, 60, 2)
    assert summary.checkpoints.bytes == sum(row.bytes for row in read_checkpoints(run))
    assert summary.source.perplexity == pytest.approx(2.71828, abs=1e-4)
    assert (summary.status, summary.message) == ("failed", "the disk is full")


def damage_config(run: RunDirectory) -> None:
    run.config_path.write_bytes(b"this was a config" * 1_000)


def lose_logs(run: RunDirectory) -> None:
    run.logs_path.touch()


def of_an_unreleased_version(run: RunDirectory) -> None:
    (run.path / "run.db").touch()


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (damage_config, "config.toml is damaged"),
        (lose_logs, "can't look into"),
        (of_an_unreleased_version, "plain-otter was made by an unreleased version"),
    ],
)
def test_an_unreadable_run_has_a_summary_with_the_reason(
    run: RunDirectory, harm: Callable[[RunDirectory], None], why: str
) -> None:
    harm(run)
    with pytest.raises(StorageError, match=why):
        summarize(run)
    summary = summary_or_problem(run)
    assert (summary.run, summary.status, summary.unreadable) == (
        "plain-otter", "lost", "can't be read"
    )  # fmt: skip
    assert why in str(summary.message)


def test_a_run_is_shown_without_a_damaged_note_of_its_parent(run: RunDirectory) -> None:
    take_parent(run, parent_checkpoint(create_run(RunConfig(), "calm-heron")), RunConfig())
    summary = summarize(run)
    assert (summary.parent, summary.lineage and summary.lineage.run) == (
        "calm-heron@500", "calm-heron"
    )  # fmt: skip
    (run.path / "parent.json").write_text("{")
    assert summarize(run).parent is None


def test_cores_used_by_other_processes_are_reported_during_training(
    run: RunDirectory, worker: Worker
) -> None:
    worker.lock.acquire()
    worker.event("running")
    worker.steps(1, 5)
    worker.append(Facts(device="cpu, 2 threads", threads=2, cores=2))
    for own in (95.0, *[45.0] * 10):
        worker.reading(time.time(), own)
    summary = summarize(run)
    assert (summary.others_cores, summary.cores) == (1.1, 2)
    worker.append(Facts(device="cuda:0 NVIDIA L4"))
    assert summarize(run).others_cores is None
    worker.append(Facts(device="cpu, 2 threads"))
    worker.event("paused")
    assert summarize(run).others_cores is None


def test_the_time_left_counts_down_and_starts_over_with_another_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter((0.0, 10.0, 20.0, 21.0))
    monkeypatch.setattr("rnnlm_tui.client.remaining.monotonic", lambda: next(clock))
    steady, run = SteadyEta(), seen(demo_run(curve=False)).summary
    one, other, paused = (
        run.model_copy(update=changes)
        for changes in (
            {"eta_seconds": 100.0},
            {"run": "calm-badger", "eta_seconds": 101.0},
            {"status": "paused"},
        )
    )
    shown = [steady.of(summary, 2.0) for summary in (one, one, other, paused)]
    assert [None if eta is None else eta.seconds for eta in shown] == [100.0, 90.0, 101.0, None]
