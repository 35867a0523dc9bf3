"""Alerts in the app, and notifications of a real terminal while it has no focus."""

from __future__ import annotations

import sys
from dataclasses import replace
from time import time

import pytest

from rnnlm_tui.schema.metrics import EventKind, EventRow
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.tui.widgets.frame import FooterLine
from tests.homes import STEPS, trained
from tests.terminal import Terminal
from tests.tui.support import at_home, lines_of, shows, until
from tests.unit.client.logs import begin

DEADLINE = 60.0
BLUR = "\x1b[O"


def attempt(event: EventKind) -> None:
    """Let the run's next attempt begin or end so."""
    with begin(find_run("plain-otter"), start_step=STEPS) as log:
        log.append(EventRow(1, STEPS, event, "", time()))


def test_a_terminal_is_notified_only_without_focus() -> None:
    run = trained("plain-otter", "running")
    lock = RunLock(run.lock_path)

    with lock, Terminal([sys.executable, "-m", "rnnlm_tui", "open", run.name]) as terminal:
        terminal.wait_for("● running", DEADLINE)
        bells = terminal.raw.count(b"\x07")
        attempt("failed")
        lock.release()
        terminal.wait_for("✗ failed", DEADLINE)
        assert terminal.raw.count(b"\x07") == bells
        terminal.send(BLUR)
        with RunLock(run.lock_path):
            attempt("running")
            terminal.wait_for("● running", DEADLINE)
            attempt("finished")
        sent = b"\x1b]9;rnnlm-tui: plain-otter finished"
        terminal.wait_for(lambda: sent in terminal.raw, DEADLINE)
        assert b"plain-otter failed" not in terminal.raw
        assert terminal.raw.count(b"\x07") == bells + 2, "the bell, and the end of one notification"


async def test_alerts_are_notices_and_go_to_the_terminal_unless_switched_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []
    monkeypatch.setattr(
        "rnnlm_tui.tui.app.write_to_terminal", lambda _app, sequence: called.append(sequence)
    )
    run = trained("plain-otter", "stopped")
    async with at_home() as (app, pilot):

        async def end(event: EventKind, words: str) -> None:
            """Let the run's next attempt end so, once it is seen to train."""
            with RunLock(run.lock_path):
                attempt("running")
                await until(pilot, lambda: shows(app, "● running"))
                if event != "running":  # else it crashes
                    attempt(event)
            await until(pilot, lambda: shows(app, words))

        await end("finished", "plain-otter finished: val perplexity 60.3 after 3 steps")
        assert app.screen.query_one(FooterLine)._timer is None, "it stays until a key is pressed"
        await pilot.press("j")
        await until(pilot, lambda: "finished" not in lines_of(app)[-1])
        # not on the run's own pane, which shows it
        app.open_pane("train")
        await end("failed", "✗ failed")
        assert "Retry" in lines_of(app)[-1]
        assert app.machine is not None
        app.machine = replace(app.machine, disk_free=4 * 10**9, disk_total=400 * 10**9)
        await until(pilot, lambda: "the disk of the runs has 4.0 GB free" in lines_of(app)[-1])
        # the terminal is notified, unless that is switched off
        await pilot.press("ctrl+p", *"alerts")
        await until(pilot, lambda: shows(app, "alerts to the terminal: on or off"))
        await pilot.press("enter")
        await until(pilot, lambda: "terminal notifications off" in lines_of(app)[-1])
        assert app.settings["alerts"] is False
        app.app_focus = False  # a key means that the user is present
        await end("running", "! crashed")
        assert called == []
        app.action_alerts()
        assert app.settings["alerts"] is True
        await end("failed", "✗ failed")
        await until(pilot, lambda: called)
        assert "plain-otter failed" in called[0]
