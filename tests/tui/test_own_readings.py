"""While nothing trains, the app reads the machine itself, but only while the user is present."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from textual.message import Message

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.metrics import EventRow, GpuRow
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.machine import MachineReader
from rnnlm_tui.tui import poller
from rnnlm_tui.tui.poller import FIRST_READING_SECONDS, READING_SECONDS, Polled, Watcher
from rnnlm_tui.tui.views.machine import Readings
from tests.homes import trained, training
from tests.tui.demo_run import readings
from tests.tui.support import at_home, lines_of, shows, text_of, until
from tests.unit.client.logs import record


def test_the_machine_is_read_now_and_then_while_that_is_wanted_and_a_failure_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown, wanted, now = list[tuple[int, bool]](), False, 1_000.0
    monkeypatch.setattr(poller, "monotonic", lambda: now)

    def post(message: Message) -> None:
        assert isinstance(message, Polled)
        readings = message.values["readings"]
        assert isinstance(readings, Readings)
        shown.append((len(readings.rows), readings.live))

    watcher = Watcher(post, fps=1.0, reads_machine=lambda: wanted)

    def wait(polls: int) -> list[tuple[int, bool]]:
        nonlocal now
        shown.clear()
        for _ in range(polls):
            watcher._poll_load()
            now += 0.5
        return shown

    assert wait(200) == []
    wanted = True
    count = int((30 - FIRST_READING_SECONDS) / READING_SECONDS) + 1
    assert wait(60) == [(number, True) for number in range(1, count + 1)]
    wanted = False
    assert wait(20) == [(count, False)]
    wanted = True
    wait(1)
    with monkeypatch.context() as patch:
        patch.setattr(MachineReader, "sample", lambda _: Path("/nowhere").stat())
        for _ in range(2):  # a poll that reads nothing would count as a success
            with pytest.raises(FileNotFoundError):
                wait(1)
            now += 0.1
    assert wait(1) == [(1, True)]


async def test_only_an_ended_run_without_readings_shows_the_current_machine_after_a_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(poller, "FIRST_READING_SECONDS", 0.0)
    trained("plain-otter", "failed")
    measured = create_run(RunConfig(), "brisk-heron")
    record(measured, *readings(card=GpuRow()), EventRow(1, 0, "finished", "", 2e9))
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
                await until(pilot, lambda: app.watcher.polls > looks + 3)  # noqa: B023
                assert not app.readings.rows
                assert shows(app, "whole run") == (name == "brisk-heron")
                await pilot.press("J")
            await until(pilot, lambda: "plain-otter" in lines_of(app)[0] and app.snapshot)
            await pilot.press("l")
            await until(pilot, lambda: app.readings.rows and shows(app, " GB free"))
            app.last_key = -1e9
            await until(pilot, lambda: re.search("─ Machine ─+ at [0-9:]{8} ─", text_of(app)))
