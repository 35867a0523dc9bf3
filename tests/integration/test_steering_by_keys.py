"""A live run in the app, changed and changed back by keys alone."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from textual.pilot import Pilot

from rnnlm_tui.client.control import send
from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.client.steering import read_steering, steer
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.system.locks import read_lock
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.steer import SteerScreen
from tests.integration.runs import ENDLESS, start, tiny_config, wait_for_step
from tests.tui.support import lines_of, text_of, until

pytestmark = pytest.mark.usefixtures("warm")
RATE = "optimizer.learning_rate"


async def change_rate_by_keys(
    app: RnnlmApp, pilot: Pilot[int], run: RunDirectory, rate: str
) -> None:
    """Change the peak learning rate of the live run on the Train or Runs pane, and see it
    requested, then confirmed. The form stays open.

    The worker is stopped by a signal in between, so that the request is seen for certain.
    """
    await pilot.press("E")
    await until(pilot, lambda: isinstance(app.screen, SteerScreen))
    await pilot.press("enter", "ctrl+u", *rate, "enter")
    await until(pilot, lambda: "was" in text_of(app))
    worker = read_lock(run.lock_path).pid
    assert worker is not None
    os.kill(worker, signal.SIGSTOP)
    try:
        await pilot.press("f5")
        await until(pilot, lambda: f"requested: learning_rate {float(rate):g}" in text_of(app))
    finally:
        os.kill(worker, signal.SIGCONT)
    await until(pilot, lambda: "✓ confirmed at step" in text_of(app))


async def undo_by_keys(app: RnnlmApp, pilot: Pilot[int]) -> None:
    """Undo the last change from the open form, and close the form."""
    await until(pilot, lambda: "F6" in text_of(app) or "confirmed" in text_of(app))
    await pilot.press("f6")
    await until(pilot, lambda: "✓ undone at step" in text_of(app))
    await pilot.press("escape")
    await until(pilot, lambda: not isinstance(app.screen, SteerScreen))


def journal_of(run: RunDirectory) -> list[tuple[int, str, object, object, int]]:
    """Step, key, old and new value and what it undoes, for each recorded change."""
    with RunReader(run) as reader:
        return [
            (change.step, one.path, one.old, one.new, change.undoes)
            for change in reader.changes()
            for one in change.settings
        ]


async def test_what_was_asked_is_seen_in_every_terminal_until_it_is_confirmed(text: Path) -> None:
    run = start(
        tiny_config(
            text,
            {
                "training.max_steps": ENDLESS,
                "evaluation.every": 0,
                "sampling.max_new_tokens": 1_000_000,
            },
        ),
        "busy",
    )
    wait_for_step(run, 10)
    app = RnnlmApp(run, "train", fps=20.0)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.summary.step > 0)
        with ThreadPoolExecutor(3) as others:
            evaluated = others.submit(send, run, "evaluate")  # and samples for minutes
            await until(pilot, lambda: "evaluate requested" in lines_of(app)[0])
            changed = others.submit(steer, run, {RATE: 0.001})
            await until(pilot, lambda: "evaluate requested and 1 more" in lines_of(app)[0])
            words = [request.words for request in summarize(run).requests]
            assert words == ["evaluate", "learning_rate 0.001"]
            assert not changed.done()
            stopped = others.submit(send, run, "stop")  # it interrupts the samples
            assert evaluated.exception() is not None
            assert changed.result().change is not None
            assert stopped.result().ok
        await until(pilot, lambda: "stopped" in lines_of(app)[0])
    assert [change.settings[0].new for change in read_steering(run).journal] == [0.001]
    assert summarize(run).requests == ()
