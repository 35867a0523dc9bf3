"""The app and its run: the app killed, hung up, suspended, on a terminal that takes no output, and
two apps at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from rnnlm_tui.client.control import send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.schema.protocol import Verb
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.locks import read_lock
from tests.integration.runs import ENDLESS, start, tiny_config, wait_for, wait_for_step
from tests.terminal import Terminal

pytestmark = pytest.mark.usefixtures("warm")

OPEN = [sys.executable, "-m", "rnnlm_tui", "open", "otter"]
DEADLINE = 60.0
"""Seconds that anything here may take on a slow machine."""


@pytest.fixture
def run(text: Path) -> RunDirectory:
    """A run that trains until it is stopped; with a checkpoint, so that an app starts its
    sampler."""
    run = start(
        tiny_config(
            text, {"training.max_steps": ENDLESS, "evaluation.every": 0, "checkpoint.every": 0}
        ),
        "otter",
    )
    wait_for_step(run, 5)
    assert send(run, "checkpoint").ok
    return run


def opened() -> Terminal:
    """The app on the run, its output read."""
    app = Terminal(OPEN)
    app.wait_for("otter ●", DEADLINE)
    return app


def hang_up(app: Terminal) -> None:
    """Close the window."""
    os.close(app.descriptor)
    app.descriptor = -1


ENDS: dict[str, Callable[[Terminal], None]] = {
    "kill -9": lambda app: os.kill(app.pid, signal.SIGKILL),
    "SIGHUP": lambda app: os.kill(app.pid, signal.SIGHUP),
    "SIGTERM": lambda app: os.kill(app.pid, signal.SIGTERM),
    "terminal closed": hang_up,
}


def gone(process: psutil.Process) -> bool:
    """Whether the process and its children have ended."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def sampler_of(app: Terminal) -> psutil.Process:
    """The app's child process, once it is started."""
    itself = psutil.Process(app.pid)
    return wait_for(
        lambda: next(
            (child for child in itself.children() if "rnnlm_tui.worker.sampler" in child.cmdline()),
            None,
        ),
        "the app's sampler",
    )


def wait_until_gone(processes: list[psutil.Process], why: str) -> None:
    wait_for(lambda: all(gone(one) for one in processes), f"the app's end after {why}")


@pytest.mark.fault("the terminal closes, the app is killed or stopped")
def test_a_killed_app_leaves_no_process_and_a_run_that_continues_with_every_point(
    run: RunDirectory,
) -> None:
    worker = read_lock(run.lock_path).pid
    for how, end in ENDS.items():
        app = opened()
        try:
            family = [psutil.Process(app.pid), sampler_of(app)]
            end(app)
            wait_until_gone(family, how)
        finally:
            if app.descriptor >= 0:
                app.close()
        assert read_lock(run.lock_path).pid == worker
        wait_for_step(run, summarize(run).step + 10)
    with opened() as again:
        before = summarize(run).step
        wait_until_shown(again, before)
    with RunReader(run) as reader:
        steps = [row.step for row in reader.recent_steps(10**6)]
    assert steps == list(range(1, len(steps) + 1))


def shown_step(app: Terminal) -> int:
    """The step on the screen; -1: none."""
    words = app.text.replace(",", "").split()
    return next(
        (int(word) for before, word in pairwise(words) if before == "step" and word.isdigit()), -1
    )


def wait_until_shown(app: Terminal, step: int) -> None:
    app.wait_for(lambda: shown_step(app) >= step, DEADLINE)


DEAF_TERMINAL = """
import asyncio, sys
from textual.drivers._writer_thread import WriterThread
from rnnlm_tui.tui.terminal import leave_on_hangup
async def main():
    leave_on_hangup(lambda: None)
    writer = WriterThread(sys.__stdout__)
    writer.start()
    while True:  # blocks the loop as soon as terminal and queue are full, as a repaint does
        writer.write("x" * 65_536)
asyncio.run(main())
"""
"""An app that paints through Textual's writer to a terminal whose output isn't read."""


@pytest.mark.fault("the terminal closes, the app is killed or stopped")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_an_app_on_a_terminal_that_takes_no_output_quits_on_a_signal(
    number: signal.Signals,
) -> None:
    app = Terminal([sys.executable, "-c", DEAF_TERMINAL])
    try:
        app.wait_for(lambda: app.received > 0, DEADLINE)
        itself = psutil.Process(app.pid)
        wait_for(lambda: itself.status() == psutil.STATUS_SLEEPING, "the writer to stand still")
        os.kill(app.pid, number)
        wait_until_gone([itself], number.name)
    finally:
        app.close()
    assert app.exit_code == 128 + number


@pytest.mark.fault("the terminal closes, the app is killed or stopped")
def test_an_app_quits_while_a_command_is_unanswered(run: RunDirectory) -> None:
    worker = read_lock(run.lock_path).pid
    assert worker is not None
    with opened() as app:
        os.kill(worker, signal.SIGSTOP)
        try:
            app.send("e")
            app.wait_for("evaluating", DEADLINE)
            app.send("q")
            app.wait_for("Leave rnnlm-tui?", DEADLINE)
            app.send("\r")
            assert app.wait(DEADLINE) == 0
        finally:
            os.kill(worker, signal.SIGCONT)


@pytest.mark.fault("two apps on one run")
def test_two_apps_show_and_control_one_run_and_the_journal_keeps_the_order(
    run: RunDirectory,
) -> None:
    with opened() as first, opened() as second:
        for steers in (first, second):
            steers.send(" ")
            for sees in (first, second):
                sees.wait_for("paused", DEADLINE)
            at = summarize(run).step
            steers.send(" ")
            for sees in (first, second):
                wait_until_shown(sees, at + 1)
    assert commands(run) == ["checkpoint", "pause", "resume", "pause", "resume"]
    assert changes(run) == ["running", "paused", "running", "paused", "running"]


@pytest.mark.fault("two apps on one run")
def test_simultaneous_commands_act_one_after_the_other_and_none_twice(run: RunDirectory) -> None:
    with ThreadPoolExecutor(4) as pool:
        verbs: list[Verb] = ["pause", "pause", "resume", "resume"] * 5
        results = list(pool.map(lambda verb: send(run, verb), verbs))
    assert all(result.ok for result in results)
    journal = commands(run)
    assert journal.count("pause") == journal.count("resume") == 10
    kept = changes(run)
    assert all(before != after for before, after in pairwise(kept)), (
        "paused or going on twice in a row"
    )
    effects = [
        verb
        for before, verb in zip(["resume", *journal[1:]], journal[1:], strict=False)
        if verb != before
    ]
    assert kept[1:] == [{"pause": "paused", "resume": "running"}[verb] for verb in effects]


def changes(run: RunDirectory) -> list[str]:
    """Every pause and resume that had an effect, in order."""
    with RunReader(run) as reader:
        return [
            event.kind for event in reversed(reader.events()) if event.kind in ("paused", "running")
        ]


def commands(run: RunDirectory) -> list[str]:
    """The verbs of the journal, in order."""
    with RunReader(run) as reader:
        return [row.verb for row in reader.commands()]
