"""While nothing trains, the app reads the machine itself, but only while the user is present."""

from __future__ import annotations

from pathlib import Path

import pytest

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.metrics import EventRow
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.machine import MachineReader
from rnnlm_tui.tui import poller
from rnnlm_tui.tui.poller import (
    FIRST_READING_SECONDS,
    PRESENT_SECONDS,
    READING_SECONDS,
    IdleMachinePoller,
)
from tests.homes import trained, training
from tests.tui.fakes import make_hardware
from tests.tui.support import at_home, lines_of, shows, until
from tests.unit.client.logs import record


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(poller, "monotonic", clock)
    return clock


def test_the_machine_is_read_only_while_the_user_is_present_and_no_worker_reads_it(
    clock: Clock,
) -> None:
    shown: list[tuple[int, bool]] = []
    trains = False
    readings = IdleMachinePoller(
        lambda: not trains, lambda rows, live: shown.append((len(rows), live))
    )

    def wait(polls: int) -> None:
        for _ in range(polls):
            readings.poll()
            clock.now += 0.5

    wait(200)
    assert shown == [], "the user is absent"
    readings.key_pressed()
    wait(400)
    count = int((PRESENT_SECONDS - FIRST_READING_SECONDS) / READING_SECONDS) + 1
    assert shown == [*((number, True) for number in range(1, count + 1)), (count, False)]
    shown.clear()
    for tick in range(60):
        trains = 20 <= tick <= 30
        readings.key_pressed()
        wait(1)
    assert shown[0][1] is True
    trains = True
    wait(20)
    assert shown[-1][1] is False
    assert 2 <= len(shown) <= 40


def test_a_failed_reading_is_repeated_at_the_next_poll(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll that reads nothing would count as a success, and the error be reported again."""
    shown: list[int] = []
    readings = IdleMachinePoller(lambda: True, lambda rows, _: shown.append(len(rows)))
    readings.key_pressed()
    readings.poll()
    clock.now += FIRST_READING_SECONDS
    with monkeypatch.context() as patch:
        patch.setattr(MachineReader, "sample", lambda _: Path("/nowhere").stat())
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                readings.poll()
            clock.now += 0.1
    readings.poll()
    assert shown == [1]


async def test_only_an_ended_run_without_readings_shows_the_current_machine_after_a_key() -> None:
    trained("plain-otter", "failed")
    measured = create_run(RunConfig(), "brisk-heron")
    record(measured, *make_hardware(gpu=False), EventRow(1, 0, "finished", "", 2e9))
    settings: dict[str, object] = {"runs order": ["name", False]}
    with training("calm-badger"):
        async with at_home("brisk-heron", "train", size=(120, 40), settings=settings) as (
            app,
            pilot,
        ):
            for name in ("brisk-heron", "calm-badger"):
                await until(pilot, lambda: name in lines_of(app)[0] and app.snapshot)  # noqa: B023
                await pilot.press("l")
                looks = app.watcher.polls
                await until(pilot, lambda: app.watcher.polls > looks + 20)  # noqa: B023
                assert not app.readings.rows
                assert shows(app, "whole run") == (name == "brisk-heron")
                await pilot.press("J")
            await until(pilot, lambda: "plain-otter" in lines_of(app)[0] and app.snapshot)
            assert shows(app, "no readings yet")
            await pilot.press("l")
            await until(pilot, lambda: app.readings.rows and shows(app, " GB free"))
            app.watcher._readings._last_key = -1e9
            await until(
                pilot, lambda: any("at " in line and "Machine" in line for line in lines_of(app))
            )
