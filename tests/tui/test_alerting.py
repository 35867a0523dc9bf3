"""Alerts in the app, and notifications of a real terminal while it has no focus."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rnnlm_tui.schema.status import RunStatus
from rnnlm_tui.tui.widgets.frame import FooterLine
from tests.terminal import Terminal
from tests.tui.fakes import FakeServices, make_snapshot
from tests.tui.support import lines_of, running_app, text_of, until, with_runs

DEADLINE = 60.0
PROGRAM = """
import sys
from pathlib import Path
from rnnlm_tui.tui.app import RnnlmApp
from tests.tui.fakes import FakeMonitor, FakeServices, make_snapshot

status_file = Path(sys.argv[1])

class FileMonitor(FakeMonitor):
    said = ""

    def poll(self):
        said = status_file.read_text()
        if said != self.said:
            self.said = said
            status, attempt = said.split()
            self.services.snapshots["plain-otter"] = make_snapshot(status, attempt=int(attempt))
        return super().poll()

class FileServices(FakeServices):
    def monitor(self, run):
        return FileMonitor(self, run.name)

snapshot = make_snapshot()
services = FileServices(snapshot, runs=[])
services.install()
sys.exit(RnnlmApp(services.run("plain-otter"), "train", fps=20.0).run())
"""
BLUR, FOCUS = "\x1b[O", "\x1b[I"


def write_status(status_file: Path, status: str) -> None:
    whole = status_file.with_suffix(".new")
    whole.write_text(status)
    whole.rename(status_file)


def test_a_terminal_is_notified_only_without_focus(tmp_path: Path) -> None:
    status_file = tmp_path / "status_file"
    write_status(status_file, "running 1")
    with Terminal([sys.executable, "-c", PROGRAM, str(status_file)]) as terminal:
        terminal.wait_for("● running", DEADLINE)
        bells = terminal.raw.count(b"\x07")
        write_status(status_file, "stalled 1")
        terminal.wait_for("◌ stalled", DEADLINE)
        assert terminal.raw.count(b"\x07") == bells
        terminal.send(BLUR)
        write_status(status_file, "failed 1")
        terminal.wait_for(
            lambda: b"\x1b]9;rnnlm-tui: plain-otter failed\x07" in terminal.raw, DEADLINE
        )
        assert b"plain-otter makes no progress" not in terminal.raw
        assert terminal.raw.count(b"\x07") == bells + 2, "the bell, and the end of one notification"
        terminal.send(FOCUS)
        write_status(status_file, "running 2")
        terminal.wait_for("● running", DEADLINE)
        write_status(status_file, "crashed 2")
        terminal.wait_for("! crashed", DEADLINE)
        assert terminal.raw.count(b"\x07") == bells + 2


def become(services: FakeServices, status: RunStatus) -> None:
    services.snapshots["plain-otter"] = snapshot = make_snapshot(status)
    services.runs[0] = snapshot.summary


async def test_an_alert_is_a_notice_except_on_the_runs_own_pane() -> None:
    services = with_runs(make_snapshot())
    async with running_app(services, pane="runs") as (app, pilot):
        become(services, "finished")
        await until(
            pilot,
            lambda: (
                "plain-otter finished: val perplexity 55.3 after 3,751 steps" in lines_of(app)[-1]
            ),
        )
        assert app.screen.query_one(FooterLine)._timer is None, "it stays until a key is pressed"
        await pilot.press("j")
        await until(pilot, lambda: "finished" not in lines_of(app)[-1])
    services = with_runs(make_snapshot())
    async with running_app(services, pane="train") as (app, pilot):
        become(services, "failed")
        await until(pilot, lambda: "failed" in lines_of(app)[0])
        assert "Retry" in lines_of(app)[-1]


async def test_a_low_disk_is_reported_on_every_pane() -> None:
    services = with_runs(make_snapshot())
    services.machine_facts = replace(services.machine_facts, disk_total=400 * 10**9)
    async with running_app(services, pane="train") as (app, pilot):
        assert app.machine is not None
        app.machine = replace(app.machine, disk_free=4 * 10**9)
        await until(pilot, lambda: "the disk of the runs has 4.0 GB free" in lines_of(app)[-1])


async def test_terminal_notifications_can_be_switched_off_and_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []
    monkeypatch.setattr(
        "rnnlm_tui.tui.app.write_to_terminal", lambda _app, sequence: called.append(sequence)
    )
    services = with_runs(make_snapshot())
    async with running_app(services, pane="train") as (app, pilot):
        app.app_focus = False
        await pilot.press("ctrl+p", *"alerts")
        await until(pilot, lambda: "alerts to the terminal: on or off" in text_of(app))
        await pilot.press("enter")
        await until(pilot, lambda: app.settings.get("alerts") is False)
        await until(pilot, lambda: "terminal notifications off" in lines_of(app)[-1])
        app.app_focus = False  # a key means that the user is present
        become(services, "failed")
        await until(pilot, lambda: "failed" in lines_of(app)[0])
        assert called == []
        app.action_alerts()
        assert app.settings["alerts"] is True
        become(services, "running")
        await until(pilot, lambda: "running" in lines_of(app)[0])
        become(services, "crashed")
        await until(pilot, lambda: called)
        assert "plain-otter crashed" in called[0]
