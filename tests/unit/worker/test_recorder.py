"""Rows that the disk refuses are kept in order, reported, and stored once when it accepts them."""

from __future__ import annotations

import errno
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from rnnlm_tui.errors import DatabaseError, StorageError
from rnnlm_tui.schema.metrics import EventRow, HardwareRow, Progress, SampleRow, StepRow
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.locks import RunLock, read_lock
from rnnlm_tui.worker.recorder import Recorder, versions


class Run:
    """A run with its records, and a database that can be full: SQLite's own limit of pages stands
    for the disk's."""

    def __init__(self, path: Path) -> None:
        self.directory = RunDirectory(path)
        self.path = path
        self.database = RunDatabase(self.directory.database_path)
        self.lock = RunLock(self.directory.lock_path)
        self.lock.acquire()
        self.records = Recorder(self.directory, self.lock, self.database, max_kept=1_000)
        self.records.make_ballast()
        self.records.begin_attempt(1, "here", "boot", "cpu", 0, {})

    def fill(self, *, leave: int = 0) -> None:
        pages = self.database._connection.execute("PRAGMA page_count").fetchone()[0]
        self.database._connection.execute(f"PRAGMA max_page_count = {pages + leave}")

    def free(self) -> None:
        self.database._connection.execute("PRAGMA max_page_count = 1000000")

    def steps(self, first: int, last: int) -> None:
        """Add rows in batches of ten up to `last`."""
        for start in range(first, last + 1, 10):
            self.records.add_steps(
                [
                    StepRow(1, step, step, 0.0, 5.0, 1.0, 0.1, 9.0, step / 10, 0.0)
                    for step in range(start, min(start + 10, last + 1))
                ]
            )

    def stored(self) -> list[int]:
        with RunReader(self.directory) as reader:
            return [row.step for row in reader.steps_since()]

    def events(self) -> list[tuple[int, str, str]]:
        with RunReader(self.directory) as reader:
            return [(event.step, event.kind, event.text) for event in reversed(reader.events())]

    @property
    def ballast(self) -> Path:
        return self.path / "run.db.ballast"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.database.close()
    run.lock.release()


def hardware() -> HardwareRow:
    return HardwareRow(0.0, 1.0, 1.0, 1, 2, 1, 3)


def until_degraded(run: Run, first: int = 1) -> int:
    """The step after which the database was full."""
    while not run.records.degraded:
        run.steps(first, first + 9)
        first += 10
    return first - 1


def test_a_full_disk_loses_no_row_and_stores_none_twice(run: Run) -> None:
    run.steps(1, 20)
    run.fill()
    last = until_degraded(run, 21)
    run.records.add_event(EventRow(1, last, "note", "kept", 0.0))
    run.records.add_sample(SampleRow(1, last, "The", " cat", 1, 7, 0.0))
    run.records.set_meta("settings", "{}")
    run.steps(last + 1, last + 200)
    assert len(run.stored()) < last
    run.free()
    run.records.heartbeat(time.time())
    assert run.records.degraded == ""
    assert run.stored() == list(range(1, last + 201))
    assert [(step, kind) for step, kind, _ in run.events()] == [
        (last, "degraded"),
        (last, "note"),
        (last + 200, "recovered"),
    ]
    with RunReader(run.directory) as reader:
        assert [row.text for row in reader.samples()] == [" cat"]
        assert reader.meta()["settings"] == "{}"


def test_the_ballast_makes_space_to_log_that_the_disk_is_full_and_is_restored(run: Run) -> None:
    assert run.ballast.stat().st_blocks * 512 >= 4 * 2**20
    run.fill()
    until_degraded(run)
    assert not run.ballast.exists()
    run.free()
    run.records.heartbeat(time.time())
    assert run.ballast.stat().st_size == 4 * 2**20
    run.records.close()
    assert not run.ballast.exists()


def test_the_lock_file_shows_the_reason_and_that_the_worker_is_alive(run: Run) -> None:
    run.fill()
    until_degraded(run)
    told = read_lock(run.directory.lock_path)
    assert (
        "rows wait in memory (10): can't write run.db: database or disk is full; free some space on"
        " this disk" in told.degraded
    )
    os.utime(run.directory.lock_path, (1.0, 1.0))
    run.records.heartbeat(time.time())
    touched = read_lock(run.directory.lock_path).touched
    assert touched is not None
    assert touched > 1.0
    run.free()
    run.records.heartbeat(time.time())
    assert read_lock(run.directory.lock_path).degraded == ""


def test_heartbeats_and_readings_during_a_full_disk_are_dropped(run: Run) -> None:
    run.fill()
    last = until_degraded(run)
    for _ in range(5_000):
        run.records.add_hardware(hardware())
        run.records.set_progress(Progress("encoding", 1, 2))
    assert not run.records.full
    run.free()
    run.records.heartbeat(time.time())
    with RunReader(run.directory) as reader:
        assert reader.hardware() == []
    assert run.stored() == list(range(1, last + 1))


def test_memory_for_rows_is_limited(run: Run) -> None:
    run.fill()
    last = until_degraded(run)
    run.steps(last + 1, last + 900)
    assert not run.records.full
    run.steps(last + 901, last + 1_000)
    assert run.records.full
    assert "and training for the disk" in run.records.degraded
    run.free()
    run.records.heartbeat(time.time())
    assert not run.records.full
    assert run.stored() == list(range(1, last + 1_001))


def test_a_disk_with_space_for_some_rows_gets_the_rest_later(run: Run) -> None:
    run.fill()
    last = until_degraded(run)
    run.steps(last + 1, last + 900)
    run.fill(leave=4)
    run.records.heartbeat(time.time())
    part = run.stored()
    assert 0 < len(part) < last + 900
    assert run.records.degraded
    run.free()
    run.records.heartbeat(time.time())
    assert run.stored() == list(range(1, last + 901))
    assert [kind for _, kind, _ in run.events()] == ["degraded", "recovered"]


def test_a_disk_that_fills_again_during_recovery_is_reported_as_recovered_once(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.fill()
    last = until_degraded(run)
    run.free()
    add = run.database.add_event
    refusals = [2]

    def refuses_at_first(row: EventRow) -> None:
        if row.kind == "recovered" and refusals[0]:
            refusals[0] -= 1
            raise StorageError("the disk is full")
        add(row)

    monkeypatch.setattr(run.database, "add_event", refuses_at_first)
    for _ in range(4):
        run.records.heartbeat(time.time())
    assert run.stored() == list(range(1, last + 1))
    assert [kind for _, kind, _ in run.events()] == ["degraded", "recovered"]


def test_a_run_is_degraded_until_a_heartbeat_succeeds(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat, refusals = run.database.heartbeat, [3]

    def refuses_at_first(time: float) -> None:
        if refusals[0]:
            refusals[0] -= 1
            raise StorageError("can't write metrics-1.jsonl: No space left on device")
        beat(time)

    monkeypatch.setattr(run.database, "heartbeat", refuses_at_first)
    for last in (10, 20, 30, 40):
        run.steps(last - 9, last)
        run.records.heartbeat(time.time())
        assert bool(run.records.degraded) == (last < 40)
    assert run.stored() == list(range(1, 41))
    assert [kind for _, kind, _ in run.events()] == ["degraded", "recovered"]


def test_threads_store_every_row_once_on_a_flaky_disk(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    transaction, calls = run.database._transaction, itertools.count()

    def fails_now_and_then() -> AbstractContextManager[sqlite3.Connection]:
        if next(calls) % 7 == 0:
            raise StorageError("the disk fails")
        return transaction()

    monkeypatch.setattr(run.database, "_transaction", fails_now_and_then)
    ended = threading.Event()

    def beat() -> None:
        while not ended.is_set():
            run.records.heartbeat(time.time())

    def note() -> None:
        for number in range(300):
            run.records.add_event(EventRow(1, number, "note", str(number), 0.0))

    beating, noting = threading.Thread(target=beat), threading.Thread(target=note)
    beating.start()
    noting.start()
    run.steps(1, 3_000)
    noting.join()
    ended.set()
    beating.join()
    monkeypatch.undo()
    run.records.heartbeat(time.time())
    assert run.stored() == list(range(1, 3_001))
    assert [text for _, kind, text in run.events() if kind == "note"] == [
        str(number) for number in range(300)
    ]
    kinds = [kind for _, kind, _ in run.events()]
    assert kinds.count("degraded") == kinds.count("recovered") > 0
    assert run.records.degraded == ""


def test_a_command_result_that_waits_for_the_disk_is_known_and_recorded_later(run: Run) -> None:
    run.fill()
    until_degraded(run)
    run.records.journal_command("a", "pause", "{}", '{"ok": true}')
    assert run.records.journalled("a") == '{"ok": true}'
    assert run.database.journalled("a") is None
    run.free()
    run.records.heartbeat(time.time())
    assert run.database.journalled("a") == '{"ok": true}'
    assert run.records.journalled("a") == '{"ok": true}'


def test_rows_are_stored_in_the_space_of_the_ballast_or_refused(run: Run) -> None:
    run.fill()
    last = until_degraded(run)
    with pytest.raises(StorageError, match="disk is full"):
        run.records.store_all()
    run.free()
    run.records.store_all()
    assert run.stored() == list(range(1, last + 1))
    assert run.records.degraded.startswith("rows wait in memory (0)")
    run.steps(last + 1, last + 10)
    assert run.stored()[-1] == last
    run.records.heartbeat(time.time())
    assert run.records.degraded == ""
    assert run.stored()[-1] == last + 10


def test_the_end_on_a_full_disk_stores_rows_in_the_space_of_the_ballast(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    run.fill()
    last = until_degraded(run)
    run.records.close()
    assert "10 rows could not be stored: can't write run.db" in capfd.readouterr().err
    run.free()
    run.records.close()
    assert run.stored() == list(range(1, last + 1))
    assert [kind for _, kind, _ in run.events()] == ["degraded", "recovered"]
    assert not run.ballast.exists()


def test_a_failed_checkpoint_is_reported_once_until_one_succeeds(run: Run) -> None:
    for _ in range(3):
        run.records.saving_failed(
            StorageError("a checkpoint needs 3 MB", hint="free some space"), 7
        )
    assert run.records.degraded == "not saved: a checkpoint needs 3 MB; free some space"
    run.steps(8, 9)
    assert run.stored() == [8, 9]
    run.records.saved(9)
    run.records.saved(10)
    assert run.records.degraded == ""
    assert [(step, kind) for step, kind, _ in run.events()] == [(7, "degraded"), (9, "recovered")]


@pytest.mark.parametrize("which", ["the folder", "the database"])
def test_a_removed_folder_or_database_ends_the_run_with_the_reason(run: Run, which: str) -> None:
    if which == "the folder":
        run.path.rename(run.path.with_name("elsewhere"))
    else:
        run.directory.database_path.unlink()
    with pytest.raises(StorageError, match="was removed or replaced during training") as caught:
        run.records.add_event(EventRow(1, 1, "note", "", 0.0))
    assert "rnnlm-tui runs" in caught.value.hint
    with pytest.raises(StorageError, match="was removed"):
        run.records.heartbeat(time.time())
    assert run.path.exists() == (which == "the database")


def test_a_disk_that_briefly_fails_to_answer_does_not_end_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", fails)
        run.records.add_event(EventRow(1, 1, "note", "kept", 0.0))
    assert [text for _, _, text in run.events()] == ["kept"]


def test_a_damaged_database_is_not_a_full_disk(run: Run) -> None:
    def damaged(row: EventRow) -> None:
        raise DatabaseError("run.db is damaged: malformed")

    run.database.add_event = damaged  # type: ignore[method-assign]
    with pytest.raises(DatabaseError, match="damaged"):
        run.records.add_event(EventRow(1, 1, "note", "", 0.0))
    assert run.records.degraded == ""


def test_an_attempt_that_cannot_be_stored_leaves_no_ballast(run: Run) -> None:
    run.fill()
    with pytest.raises(StorageError, match="disk is full"):
        run.records.begin_attempt(1, "here", "boot", "cpu", 0, {"long": "x" * 100_000})
    assert not run.ballast.exists()


def test_a_run_starts_only_if_its_ballast_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.system.disk.free_bytes", lambda path: 300_000)
    with pytest.raises(
        StorageError, match=r"a run needs 5\.2 MB free on the disk of .*, only 300 kB are"
    ) as caught:
        Run(tmp_path)
    assert "free some space" in caught.value.hint
    assert not (tmp_path / "run.db.ballast").exists()


def test_versions_leave_out_packages_that_are_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def installed(name: str) -> str:
        if name == "transformers":
            raise PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("rnnlm_tui.worker.recorder.version", installed)
    found = versions()
    assert "transformers" not in found
    assert found["torch"] == "1.0"
