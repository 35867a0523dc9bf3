"""Heartbeats and hardware readings are written until `stop`."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.metrics import HardwareRow
from rnnlm_tui.system.machine import MachineReader
from rnnlm_tui.worker.recorder import Heartbeat


class Sink:
    """Counts writes, and refuses some of them."""

    def __init__(self, refuse: int = 0) -> None:
        self.refuse = refuse
        self.beats = 0
        self.readings: list[HardwareRow] = []
        self.changed = threading.Condition()

    def heartbeat(self, time: float) -> None:
        with self.changed:
            self.beats += 1
            self.changed.notify_all()
            if 1 < self.beats <= 1 + self.refuse:
                raise StorageError("the disk is full")

    def add_hardware(self, row: HardwareRow) -> None:
        with self.changed:
            self.readings.append(row)
            self.changed.notify_all()

    def wait(self, *, beats: int, readings: int) -> None:
        with self.changed:
            assert self.changed.wait_for(
                lambda: self.beats >= beats and len(self.readings) >= readings, timeout=30
            )


def test_the_first_heartbeat_is_written_at_start_and_others_follow(tmp_path: Path) -> None:
    sink = Sink()
    heartbeat = Heartbeat(sink, MachineReader(tmp_path, worker=True), seconds=0.01)
    heartbeat.start()
    assert sink.beats >= 1
    sink.wait(beats=6, readings=2)
    heartbeat.stop()
    beats = sink.beats
    heartbeat.stop()
    assert sink.beats == beats


def test_a_full_disk_does_not_end_heartbeats(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sink = Sink(refuse=2)
    heartbeat = Heartbeat(sink, MachineReader(tmp_path, worker=True), seconds=0.01)
    heartbeat.start()
    sink.wait(beats=6, readings=1)
    heartbeat.stop()
    assert capfd.readouterr().err.count("no heartbeat written: the disk is full") == 2


def test_a_failed_reading_does_not_end_heartbeats(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class FailsOnce(MachineReader):
        failed = False

        def sample(self) -> HardwareRow:
            if not self.failed:
                self.failed = True
                raise psutil.AccessDenied(4242)
            return super().sample()

    sink = Sink()
    heartbeat = Heartbeat(sink, FailsOnce(tmp_path, worker=True), seconds=0.01)
    heartbeat.start()
    sink.wait(beats=6, readings=2)
    heartbeat.stop()
    assert "4242" in capfd.readouterr().err


def test_a_reading_is_of_this_machine(tmp_path: Path) -> None:
    row = MachineReader(tmp_path, worker=True).sample()
    assert 0 < row.memory_used < row.memory_total
    assert row.process_memory > 10_000_000
    assert row.disk_free > 0
    assert 0 <= row.cpu_percent <= 100
    assert row.gpu_name is None


def test_each_fault_of_the_gpu_is_reported_once(tmp_path: Path) -> None:
    faults = [None, "Xid 48: memory error", "Xid 48: memory error", "card lost", "card lost"]
    usual = MachineReader(tmp_path, worker=True).sample()

    class Failing:
        def sample(self) -> HardwareRow:
            return replace(usual, gpu_fault=faults.pop(0) if len(faults) > 1 else faults[0])

    sink, reported = Sink(), list[str]()
    heartbeat = Heartbeat(sink, Failing(), report=reported.append, seconds=0.01)
    heartbeat.start()
    sink.wait(beats=8, readings=7)
    heartbeat.stop()
    assert reported == ["Xid 48: memory error", "card lost"]
