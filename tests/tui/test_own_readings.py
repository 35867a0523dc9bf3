"""While nothing trains, the app reads the machine itself, but only while the user is present."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.metrics import HardwareRow
from rnnlm_tui.store.series import empty_machine
from rnnlm_tui.tui import poller
from rnnlm_tui.tui.poller import (
    FIRST_READING_SECONDS,
    PRESENT_SECONDS,
    READING_SECONDS,
    IdleMachinePoller,
)
from tests.tui.fakes import FakeReader, FakeServices, make_snapshot
from tests.tui.support import lines_of, running_app, until, with_runs


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(poller, "monotonic", clock)
    return clock


def test_the_machine_is_read_only_while_the_user_is_present(
    clock: Clock,
) -> None:
    shown: list[tuple[int, bool]] = []
    FakeServices().install()
    readings = IdleMachinePoller(lambda: True, lambda rows, live: shown.append((len(rows), live)))
    for _ in range(200):
        readings.poll()
        clock.now += 0.5
    assert shown == [], "the user is absent"
    readings.key_pressed()
    for _ in range(400):
        readings.poll()
        clock.now += 0.5
    count = int((PRESENT_SECONDS - FIRST_READING_SECONDS) / READING_SECONDS) + 1
    assert shown == [*((number, True) for number in range(1, count + 1)), (count, False)]


def test_the_app_does_not_read_the_machine_while_a_worker_does(clock: Clock) -> None:
    shown: list[bool] = []
    trains = True
    FakeServices().install()
    readings = IdleMachinePoller(lambda: not trains, lambda _rows, live: shown.append(live))
    for tick in range(60):
        trains = tick < 20 or tick > 30
        readings.key_pressed()
        readings.poll()
        clock.now += 0.5
    assert shown[0] is True
    assert shown[-1] is False
    assert 2 <= len(shown) <= 5


def test_a_failed_reading_is_repeated_at_the_next_poll(clock: Clock) -> None:
    """A poll that reads nothing would count as a success, and the error be reported again."""
    shown: list[int] = []

    class Reader(FakeReader):
        away = True

        def sample(self) -> HardwareRow:
            if self.away:
                raise StorageError("the disk is gone")
            return super().sample()

    reader, services = Reader(), FakeServices()
    services.machine_reader = lambda: reader  # type: ignore[method-assign]
    services.install()
    readings = IdleMachinePoller(lambda: True, lambda rows, _: shown.append(len(rows)))
    readings.key_pressed()
    readings.poll()
    clock.now += FIRST_READING_SECONDS
    for _ in range(3):
        with pytest.raises(StorageError):
            readings.poll()
        clock.now += 0.1
    reader.away = False
    readings.poll()
    assert shown == [1]


async def test_an_ended_run_without_readings_shows_the_current_machine_after_a_key() -> None:
    services = with_runs(replace(make_snapshot("failed", 0), hardware=(), machine=empty_machine()))
    async with running_app(services, pane="train", size=(120, 40)) as (app, pilot):
        await pilot.press("l")
        await until(pilot, lambda: any("4 % busy" in line for line in lines_of(app)))
        app.watcher._readings._last_key = -1e9
        await until(
            pilot, lambda: any("at " in line and "Machine" in line for line in lines_of(app))
        )


async def test_an_ended_run_shows_its_totals_without_reading_the_machine() -> None:
    services = with_runs(make_snapshot("finished", 4_754))
    async with running_app(services, pane="train", size=(120, 40)) as (app, pilot):
        await pilot.press("l")
        looks = app.watcher.polls
        await until(pilot, lambda: app.watcher.polls > looks + 20)
        assert not app.readings.rows
        assert any("Machine" in line and "whole run" in line for line in lines_of(app))


async def test_only_the_worker_reads_the_machine_while_it_trains() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services, pane="train", size=(120, 40)) as (app, pilot):
        await pilot.press("l")
        looks = app.watcher.polls
        await until(pilot, lambda: app.watcher.polls > looks + 20)
        assert not app.readings.rows


def test_a_reading_of_a_real_machine_is_plausible(clock: Clock, tmp_path: Path) -> None:
    from rnnlm_tui.system.machine import MachineReader

    reader = MachineReader(tmp_path, worker=False)
    row = reader.sample()
    reader.close()
    assert 0 <= row.cpu_percent <= 100
    assert 0 < row.memory_used < row.memory_total
    assert row.disk_free > 0
    assert replace(row, process_memory=0) == row
