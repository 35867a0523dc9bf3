"""RunMonitor: snapshots of changes, and the derived status."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator

import pytest
from rnnlm_tui.store.database import RunDatabase

from rnnlm_tui.client.monitor import EVENTS, RunMonitor, summarize, summary_or_problem
from rnnlm_tui.errors import DatabaseError, StorageError
from rnnlm_tui.schema.metrics import (
    CheckpointRow,
    EvaluationRow,
    EventKind,
    EventRow,
    HardwareRow,
    Progress,
    StepRow,
)
from rnnlm_tui.schema.status import STALE_SECONDS
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.labels import RunLabels, change_labels
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.retention import pin_checkpoint
from rnnlm_tui.system.locks import RunLock, boot_id, host_name


class Worker:
    """Writes a run's database like a worker."""

    def __init__(self, run: RunDirectory, database: RunDatabase) -> None:
        self.database = database
        self.attempt = database.begin_attempt(4_242, host_name(), boot_id(), "cpu", 0, {})
        self.lock = RunLock(run.lock_path)
        database.set_meta("max_steps", "100")

    def event(self, kind: EventKind, at: float | None = None) -> None:
        self.database.add_event(
            EventRow(self.attempt, 0, kind, "", time.time() if at is None else at)
        )

    def steps(
        self, first: int, last: int, *, ended: float | None = None, seconds: float = 0.1
    ) -> None:
        now = time.time() if ended is None else ended
        rows = [
            StepRow(
                self.attempt,
                step,
                step * 50,
                step / 40,
                5.0 - step / 100,
                1.0,
                0.01,
                500.0,
                step * seconds,
                now,
            )
            for step in range(first, last + 1)
        ]
        self.database.add_steps(rows)

    def evaluation(
        self, step: int, loss: float, *, seconds: float = 2.0, name: str = "validation"
    ) -> None:
        self.database.add_evaluation(
            EvaluationRow(
                self.attempt,
                step,
                "test" if name == "test" else "validation",
                name,
                loss,
                1_000,
                loss / 3,
                seconds,
                time.time(),
            )
        )


@pytest.fixture
def worker(run: RunDirectory) -> Iterator[Worker]:
    with RunDatabase(run.database_path) as database:
        worker = Worker(run, database)
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


def test_poll_returns_none_without_changes(run: RunDirectory, worker: Worker) -> None:
    monitor = RunMonitor(run)
    worker.event("running")
    assert monitor.poll() is not None
    assert monitor.poll() is None
    worker.steps(1, 3)
    snapshot = monitor.poll()
    assert snapshot is not None
    assert (snapshot.summary.step, snapshot.summary.tokens_seen, len(snapshot.series)) == (
        3,
        150,
        3,
    )
    assert monitor.poll() is None
    assert monitor.snapshot() is snapshot


def test_changed_labels_are_noticed_during_training(run: RunDirectory, worker: Worker) -> None:
    worker.event("running")
    monitor = RunMonitor(run)
    monitor.poll()
    change_labels(run, lambda labels: RunLabels(("paper",), "the one of the talk", pinned=True))
    seen = monitor.poll()
    assert seen is not None
    assert (seen.summary.tags, seen.summary.note, seen.summary.pinned) == (
        ("paper",),
        "the one of the talk",
        True,
    )
    run.database_path.write_bytes(b"damaged" * 1_000)
    assert summary_or_problem(run).tags == ("paper",)


def test_a_heartbeat_alone_gives_no_snapshot(run: RunDirectory, worker: Worker) -> None:
    worker.event("paused")
    worker.lock.acquire()
    worker.database.heartbeat(time.time())
    monitor = RunMonitor(run)
    assert monitor.snapshot().summary.status == "paused"
    worker.database.heartbeat(time.time())
    assert monitor.poll() is None


def test_a_new_log_line_gives_a_snapshot(run: RunDirectory, worker: Worker) -> None:
    monitor = RunMonitor(run)
    assert monitor.snapshot().log_tail == ()
    run.log_path.write_text("Traceback\nValueError: so it ends\n")
    snapshot = monitor.poll()
    assert snapshot is not None
    assert snapshot.log_tail == ("Traceback", "ValueError: so it ends")


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


def test_following_a_long_run_reads_only_new_rows(run: RunDirectory, worker: Worker) -> None:
    worker.steps(1, 3_000)
    for step in range(10, 3_001, 10):
        worker.evaluation(step, 4.0)
        worker.database.add_event(EventRow(worker.attempt, step, "evaluation", "", time.time()))
        worker.database.add_hardware(HardwareRow(1.0 + step, 50.0, 20.0, 1, 2, 1, 1))
    monitor = RunMonitor(run)
    before = monitor.snapshot()
    connection = monitor._reader._connection
    assert connection is not None
    rows, factory = 0, connection.row_factory

    def counted(cursor: object, row: tuple[object, ...]) -> tuple[object, ...]:
        nonlocal rows
        rows += 1
        return row

    connection.row_factory = counted
    worker.steps(3_001, 3_002)
    worker.evaluation(3_002, 3.9)
    worker.database.add_hardware(HardwareRow(5_000.0, 50.0, 20.0, 1, 2, 1, 1))
    after = monitor.snapshot()
    connection.row_factory = factory
    assert rows < 60
    assert (after.summary.step, len(after.evaluations), after.summary.evaluation.best_step) == (
        3_002,
        301,
        3_002,
    )
    assert after.evaluations[:-1] == before.evaluations
    assert all(new is old for new, old in zip(after.events, before.events, strict=True))


def test_old_events_that_charts_mark_are_included(run: RunDirectory, worker: Worker) -> None:
    worker.steps(1, 50)
    for kind in ("started", "running", "setting", "resumed", "skipped"):
        worker.event(kind)
    for step in range(EVENTS):
        worker.database.add_event(EventRow(worker.attempt, step, "evaluation", "", time.time()))
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
    "problem", [StorageError("run.db is locked by another program"), KeyError("a bug of ours")]
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
            "meta",
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
    for second in range(700):
        worker.database.add_hardware(HardwareRow(1.0 + second, 50.0, 20.0, 1, 2, 1, 1))
    snapshot = monitor.snapshot()
    assert (len(snapshot.machine), snapshot.machine.time[0], len(snapshot.hardware)) == (
        700,
        1.0,
        600,
    )
    worker.steps(1, 2)
    assert monitor.snapshot().machine is snapshot.machine


def test_a_pin_is_noticed_at_once_without_a_worker(run: RunDirectory, worker: Worker) -> None:
    for step in (500, 1_000):
        path = write_checkpoint(run, step, lambda folder: None, None, {})
        worker.database.put_checkpoint(
            CheckpointRow(
                1, step, 0.5, 100, 4.0, None, 10, f"checkpoints/{path.name}", False, False, 1.0
            )
        )
    monitor = RunMonitor(run)
    assert monitor.snapshot().summary.checkpoints.pinned == ()
    pin_checkpoint(run, 500)
    snapshot = monitor.poll()
    assert snapshot is not None
    assert snapshot.summary.checkpoints.pinned == (500,)
    assert monitor.poll() is None


def test_preparing_shows_its_progress(run: RunDirectory, worker: Worker) -> None:
    worker.lock.acquire()
    worker.event("preparing")
    worker.database.set_progress(Progress("encoding", 5, 10))
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
    worker.attempt = worker.database.begin_attempt(4_243, host_name(), boot_id(), "cpu", 0, {})
    worker.event("running")
    summary = summarize(run)
    assert (summary.attempt, summary.status) == (2, "crashed")
    assert "was killed" in str(summary.message)


def test_a_stopped_run_hints_at_the_step_of_a_resume(run: RunDirectory, worker: Worker) -> None:
    worker.event("stopped")
    assert (
        summarize(run).hint
        == "`rnnlm-tui resume plain-otter` restarts from step 0: no checkpoint was saved"
    )
    worker.database.put_checkpoint(
        CheckpointRow(
            1,
            40,
            1.0,
            2_000,
            3.1,
            3.0,
            500,
            "checkpoints/step-000000040",
            False,
            False,
            time.time(),
        )
    )
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
    bad = [
        StepRow(
            worker.attempt,
            step,
            step * 50,
            step / 40,
            math.nan,
            1.0,
            0.01,
            500.0,
            step * 0.1,
            time.time(),
        )
        for step in range(31, 51)
    ]
    worker.database.add_steps(bad[:-1])
    assert not summarize(run).diverged
    worker.database.add_steps(bad[-1:])
    assert summarize(run).diverged
    worker.event("stopped")
    assert not summarize(run).diverged


def test_a_run_without_steps_for_long_is_stalled_with_the_time(
    run: RunDirectory, worker: Worker
) -> None:
    worker.lock.acquire()
    long_ago = time.time() - 2 * STALE_SECONDS
    worker.event("running", at=long_ago)
    worker.steps(1, 5, ended=long_ago)
    summary = summarize(run)
    assert summary.status == "stalled"
    assert f"no step since {time.strftime('%H:%M:%S', time.localtime(long_ago))}" in str(
        summary.message
    )


def test_a_worker_that_keeps_rows_in_memory_is_degraded_with_the_reason(
    run: RunDirectory, worker: Worker
) -> None:
    worker.lock.acquire()
    long_ago = time.time() - 2 * STALE_SECONDS
    worker.event("running", at=long_ago)
    worker.steps(1, 5, ended=long_ago)
    worker.database.heartbeat(long_ago)
    monitor = RunMonitor(run)
    assert monitor.snapshot().summary.status == "stalled"
    worker.lock.report_degraded("7 rows wait in memory: can't write run.db: disk full")
    summary = monitor.snapshot().summary
    assert (summary.status, summary.message) == (
        "degraded",
        (
            "it keeps training, on disk: metrics up to step 5 and no checkpoint; 7 rows wait in"
            " memory: can't write run.db: disk full"
        ),
    )
    worker.lock.report_degraded("8 rows wait in memory: can't write run.db: disk full")
    assert "; 8 rows wait in memory" in str(monitor.snapshot().summary.message)
    os.utime(run.lock_path, (long_ago, long_ago))
    assert monitor.summary().status == "stalled"
    worker.lock.report_degraded("")
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


def test_slow_steps_are_not_stalled(run: RunDirectory, worker: Worker) -> None:
    worker.lock.acquire()
    long_ago = time.time() - 2 * STALE_SECONDS
    worker.event("running", at=long_ago)
    worker.steps(1, 5, ended=long_ago, seconds=STALE_SECONDS / 2)
    assert summarize(run).status == "running"


def test_one_slow_step_does_not_delay_the_stall_status(run: RunDirectory, worker: Worker) -> None:
    worker.lock.acquire()
    long_ago = time.time() - 2 * STALE_SECONDS
    worker.event("running", at=long_ago)
    worker.steps(1, 5, ended=long_ago)
    worker.steps(
        6, 9, ended=long_ago, seconds=STALE_SECONDS
    )  # from 0.5 s of training to 360 s in one step: a mean of 60 s, a median of 0.1 s
    worker.database.add_steps(
        [
            StepRow(
                worker.attempt,
                step,
                step * 50,
                step / 40,
                4.0,
                1.0,
                0.01,
                500.0,
                540 + step / 10,
                long_ago,
            )
            for step in range(10, 30)
        ]
    )
    assert summarize(run).status == "stalled"


def test_before_the_second_step_the_trial_step_sets_the_stall_limit(
    run: RunDirectory, worker: Worker
) -> None:
    worker.lock.acquire()
    worker.event("running", at=time.time() - 2 * STALE_SECONDS)
    assert summarize(run).status == "stalled"
    worker.database.set_meta("rehearsed_seconds", str(STALE_SECONDS / 2))
    assert summarize(run).status == "running"


def test_a_clock_that_jumps_does_not_stall_a_run(
    run: RunDirectory, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.lock.acquire()
    worker.event("running")
    worker.steps(1, 5)
    worker.database.heartbeat(time.time())
    monitor = RunMonitor(run)
    assert monitor.snapshot().summary.status == "running"
    jumped = time.time() + 86_400
    monkeypatch.setattr("rnnlm_tui.client.monitor.time.time", lambda: jumped)
    worker.database.set_meta("device", "cpu")
    assert monitor.snapshot().summary.status == "running"


def test_a_run_on_a_silent_host_is_lost(run: RunDirectory) -> None:
    with RunDatabase(run.database_path) as database:
        attempt = database.begin_attempt(1, "elsewhere", "another boot", "cpu", 0, {})
        database.add_event(EventRow(attempt, 0, "running", "", time.time()))
        assert summarize(run).status == "running"
        database.heartbeat(time.time() - 2 * STALE_SECONDS)
    summary = summarize(run)
    assert summary.status == "lost"
    assert "elsewhere" in str(summary.message)


def test_summaries_have_the_newest_and_the_best_evaluation(
    run: RunDirectory, worker: Worker
) -> None:
    worker.steps(1, 60)
    for step, loss in [(20, 4.0), (40, 3.0), (60, 3.5)]:
        worker.evaluation(step, loss)
    worker.evaluation(60, 3.6, name="test")
    worker.database.put_checkpoint(
        CheckpointRow(
            1,
            40,
            1.0,
            2_000,
            3.1,
            3.0,
            500,
            "checkpoints/step-000000040",
            False,
            False,
            time.time(),
        )
    )
    worker.database.put_checkpoint(
        CheckpointRow(
            1,
            60,
            1.5,
            3_000,
            3.1,
            3.5,
            700,
            "checkpoints/step-000000060",
            False,
            False,
            time.time(),
        )
    )
    worker.database.set_meta("source_loss", "1.0")
    worker.event("failed")
    worker.database.set_meta("message", "the disk is full")
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
        summary.checkpoints.bytes,
    ) == (40, 60, 2, 1_200)
    assert summary.source.perplexity == pytest.approx(2.71828, abs=1e-4)
    assert (summary.status, summary.message) == ("failed", "the disk is full")


def test_an_unreadable_run_has_a_summary_with_the_reason(run: RunDirectory, home: object) -> None:
    run.database_path.write_bytes(b"this was a database" * 1_000)
    with pytest.raises(DatabaseError):
        summarize(run)
    summary = summary_or_problem(run)
    assert (summary.run, summary.status) == ("plain-otter", "lost")
    assert "damaged" in str(summary.message)


def test_an_unusually_long_evaluation_is_not_a_stall(run: RunDirectory, worker: Worker) -> None:
    worker.lock.acquire()
    long_ago = time.time() - 100 * STALE_SECONDS
    worker.event("running", at=long_ago)
    worker.steps(1, 5, ended=long_ago)
    worker.database.heartbeat(time.time())
    worker.database.set_meta("activity", "evaluating")
    assert summarize(run).status == "running"
    worker.database.set_meta("activity", "")
    assert summarize(run).status == "stalled"


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "1e999"])
def test_an_invalid_number_is_ignored(run: RunDirectory, worker: Worker, text: str) -> None:
    worker.steps(1, 5)
    for key in (
        "heartbeat",
        "max_steps",
        "parameters",
        "epochs",
        "source_loss",
        "baseline_loss",
        "created",
    ):
        worker.database.set_meta(key, text)
    summary = RunMonitor(run).snapshot().summary
    assert (
        summary.step,
        summary.max_steps,
        summary.model.parameters,
        summary.source.perplexity,
    ) == (5, None, None, None)


def test_cores_used_by_other_processes_are_reported_during_training(
    run: RunDirectory, worker: Worker
) -> None:
    worker.lock.acquire()
    worker.event("running")
    worker.steps(1, 5)
    for key, value in {"device": "cpu, 2 threads", "threads": "2", "cores": "2"}.items():
        worker.database.set_meta(key, value)
    for own in (95.0, *[45.0] * 10):
        worker.database.add_hardware(HardwareRow(time.time(), 100.0, own, 1, 2, 1, 1))
    summary = summarize(run)
    assert (summary.others_cores, summary.cores) == (1.1, 2)
    worker.database.set_meta("device", "cuda:0 NVIDIA L4")
    assert summarize(run).others_cores is None
    worker.database.set_meta("device", "cpu, 2 threads")
    worker.event("paused")
    assert summarize(run).others_cores is None
