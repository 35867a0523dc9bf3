"""Rows that the disk refuses are kept in order, reported, and stored once when it accepts them."""

from __future__ import annotations

import errno
import itertools
import os
import threading
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import psutil
import pytest

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EventRow, GpuRow, HardwareRow, SampleRow, StepRow
from rnnlm_tui.schema.protocol import Command, CommandResult
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.locks import read_lock
from rnnlm_tui.system.machine import MachineReader
from rnnlm_tui.worker.recorder import Recorder, versions
from tests.unit.worker.stores import Disk, recorder_of, until

NEVER = 3_600.0
"""Seconds: the recorder does nothing by itself but append rows."""


class Run:
    """A run with its recorder, which is asked to flush wherever its thread would retry."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.directory = recorder, recorder._run
        self.path = self.directory.path

    def steps(self, first: int, last: int) -> None:
        """Add rows in batches of ten up to `last`."""
        for start in range(first, last + 1, 10):
            self.recorder.add(
                *(
                    StepRow(1, step, step, 0.0, 5.0, 1.0, 0.1, 9.0, step / 10, 0.0)
                    for step in range(start, min(start + 10, last + 1))
                )
            )

    def degrade(self, disk: Disk) -> None:
        """Ten steps on a full disk."""
        disk.fill()
        self.steps(1, 10)
        with pytest.raises(StorageError):
            self.recorder.flush()

    def stored(self) -> list[int]:
        with RunReader(self.directory) as reader:
            return [row.step for row in reader.steps()]

    def events(self) -> list[tuple[int, str, str]]:
        with RunReader(self.directory) as reader:
            return [(event.step, event.kind, event.text) for event in reversed(reader.events())]

    def readings(self) -> int:
        with RunReader(self.directory) as reader:
            return len(reader.hardware())

    def shown(self) -> str:
        return read_lock(self.directory.lock_path).page.degraded


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with recorder_of(RunDirectory(tmp_path), max_kept=1_000, seconds=NEVER) as recorder:
        yield Run(recorder)


@pytest.fixture
def beating(tmp_path: Path) -> Iterator[Run]:
    """A run whose recorder does all that it does once a second many times a second."""
    with recorder_of(RunDirectory(tmp_path), seconds=0.01) as recorder:
        yield Run(recorder)


def test_rows_reach_readers_without_anyone_waiting_for_them(run: Run) -> None:
    run.steps(1, 30)
    until(lambda: run.stored() == list(range(1, 31)))


def test_a_full_disk_loses_no_row_and_stores_none_twice(run: Run, disk: Disk) -> None:
    run.degrade(disk)
    run.recorder.add(EventRow(1, 10, "note", "kept", 0.0))
    run.recorder.add(SampleRow(1, 10, "The", " cat", 1, 7, 0.0), Facts(settings={"a": 1}))
    run.steps(11, 200)
    assert run.stored() == []
    disk.free()
    run.recorder.flush()
    assert run.recorder.degraded == ""
    assert run.stored() == list(range(1, 201))
    assert [(step, kind) for step, kind, _ in run.events()] == [
        (10, "degraded"),
        (10, "note"),
        (200, "recovered"),
    ]
    with RunReader(run.directory) as reader:
        assert [row.text for row in reader.samples()] == [" cat"]
        assert reader.facts().settings == {"a": 1}
        assert reader.damaged_lines == 0


def test_the_lock_file_shows_the_reason_and_that_the_worker_is_alive(
    beating: Run, disk: Disk
) -> None:
    beating.degrade(disk)
    assert (
        ": can't write log/000001.jsonl: No space left on device; free some space on this disk"
        in beating.shown()
    )
    until(lambda: beating.shown().startswith("rows wait in memory (11)"))  # with the event
    os.utime(beating.directory.lock_path, (1.0, 1.0))
    until(lambda: (read_lock(beating.directory.lock_path).touched or 0.0) > 1.0)
    disk.free()
    until(lambda: beating.shown() == "")
    assert beating.stored() == list(range(1, 11)), "it was tried again by itself"
    assert [kind for _, kind, _ in beating.events()] == ["degraded", "recovered"]


def test_readings_during_a_full_disk_are_dropped(beating: Run, disk: Disk) -> None:
    usual = MachineReader(beating.path, worker=True).sample()
    read = threading.Semaphore(0)

    class Counted(MachineReader):
        def sample(self) -> HardwareRow:
            read.release()
            return usual

    beating.degrade(disk)
    beating.recorder.watch(Counted(beating.path, worker=True), lambda _: None)
    for _ in range(5):
        assert read.acquire(timeout=60)
    assert beating.recorder.degraded.startswith("rows wait in memory (11)")
    disk.free()
    until(beating.readings)


def test_memory_for_rows_is_limited(run: Run, disk: Disk) -> None:
    run.degrade(disk)
    run.steps(11, 900)
    assert not run.recorder.full
    run.steps(901, 1_000)
    assert run.recorder.full
    assert "and training for the disk" in run.recorder.degraded
    disk.free()
    run.recorder.flush()
    assert not run.recorder.full
    assert run.stored() == list(range(1, 1_001))


def test_a_disk_with_space_for_some_rows_gets_the_rest_later(
    run: Run, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rnnlm_tui.worker.recorder.APPENDED_AT_ONCE", 100)
    run.degrade(disk)
    run.steps(11, 900)
    disk.limit = run.recorder._log.path.stat().st_size + 50_000
    with pytest.raises(StorageError):
        run.recorder.flush()
    assert 0 < len(run.stored()) < 900
    assert run.recorder.degraded
    disk.free()
    run.recorder.flush()
    assert run.stored() == list(range(1, 901))
    assert [kind for _, kind, _ in run.events()] == ["degraded", "recovered"]


def test_a_slow_disk_keeps_no_one_waiting_but_who_flushes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, answers, fsync = threading.Event(), threading.Event(), os.fsync

    def slow(descriptor: int) -> None:
        waits.set()
        assert answers.wait(60)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    run.steps(1, 10)
    flushing = threading.Thread(target=run.recorder.flush)
    flushing.start()
    assert waits.wait(60)
    run.steps(11, 500)
    run.recorder.show(activity="evaluating")
    assert flushing.is_alive()
    answers.set()
    flushing.join(60)
    until(lambda: run.stored() == list(range(1, 501)))


def test_a_command_is_on_the_disk_before_it_is_answered_unless_the_disk_is_full(
    run: Run, disk: Disk
) -> None:
    def recorded() -> list[tuple[str, str, object]]:
        with RunReader(run.directory) as reader:
            return [(row.id, row.verb, row.result) for row in reader.commands()]

    done = CommandResult(id="a", ok=True)
    run.recorder.journal_command(Command(id="a", verb="pause"), done)
    assert recorded() == [("a", "pause", done.model_dump(mode="json"))]
    run.degrade(disk)
    run.recorder.journal_command(Command(id="b", verb="resume"), done)
    assert len(recorded()) == 1
    disk.free()
    run.recorder.flush()
    assert [id for id, _, _ in recorded()] == ["a", "b"]


def test_the_end_stores_the_last_rows_and_counts_those_that_a_full_disk_refuses(
    run: Run, disk: Disk, capfd: pytest.CaptureFixture[str]
) -> None:
    run.steps(1, 10)
    run.recorder.close()
    assert run.stored() == list(range(1, 11))
    with pytest.raises(StorageError, match="has ended"):
        run.steps(11, 11)
    again = Recorder(run.directory, run.recorder._lock)
    again.begin_attempt(10, {})
    disk.fill()
    again.add(EventRow(2, 10, "note", "lost", 0.0))
    with pytest.raises(StorageError):
        again.flush()
    again.close()
    assert "2 rows could not be stored: can't write log/000002.jsonl" in capfd.readouterr().err


def test_a_failed_checkpoint_is_reported_once_until_one_succeeds(run: Run) -> None:
    for _ in range(3):
        run.recorder.saving_failed(
            StorageError("a checkpoint needs 3 MB", hint="free some space"), 7
        )
    assert run.recorder.degraded == "not saved: a checkpoint needs 3 MB; free some space"
    run.steps(8, 9)
    run.recorder.flush()
    assert run.stored() == [8, 9]
    run.recorder.saved(9)
    run.recorder.saved(10)
    run.recorder.flush()
    assert run.recorder.degraded == ""
    assert [(step, kind) for step, kind, _ in run.events()] == [(7, "degraded"), (9, "recovered")]


@pytest.mark.parametrize("which", ["the folder", "the log"])
def test_a_removed_folder_or_log_ends_the_run_with_the_reason(run: Run, which: str) -> None:
    if which == "the folder":
        run.path.rename(run.path.with_name("elsewhere"))
    else:
        run.recorder._log.path.unlink()
    run.steps(1, 1)
    with pytest.raises(StorageError, match="was removed or replaced during training") as caught:
        run.recorder.flush()
    assert "rnnlm-tui runs" in caught.value.hint
    with pytest.raises(StorageError, match="was removed"):
        run.steps(2, 2)
    assert run.path.exists() == (which == "the log")


def test_a_disk_that_briefly_fails_to_answer_does_not_end_the_run(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path) -> os.stat_result:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", fails)
        run.recorder.add(EventRow(1, 1, "note", "kept", 0.0))
        run.recorder.flush()
    assert [text for _, _, text in run.events()] == ["kept"]


def test_each_fault_of_the_gpu_is_reported_once_also_after_a_reading_that_failed(
    beating: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    faults = [None, "Xid 48: memory error", "Xid 48: memory error", "card lost", "card lost"]
    usual = MachineReader(beating.path, worker=True).sample()
    asked = itertools.count()

    class Failing(MachineReader):
        def sample(self) -> HardwareRow:
            if next(asked) == 0:
                raise psutil.AccessDenied(4242)
            fault = faults.pop(0) if len(faults) > 1 else faults[0]
            return usual._replace(gpu=GpuRow(fault=fault))

    reported = list[str]()
    beating.recorder.watch(Failing(beating.path, worker=True), reported.append)
    until(lambda: beating.readings() >= 7)
    assert reported == ["Xid 48: memory error", "card lost"]
    assert "4242" in capfd.readouterr().err


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
