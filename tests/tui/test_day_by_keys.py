"""One user's day: from the demo to an export, by keys alone, with real processes and files."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from rnnlm_tui.client.monitor import summarize
from rnnlm_tui.store.labels import read_labels
from rnnlm_tui.store.lineage import read_parent
from rnnlm_tui.store.paths import RunDirectory, listed_run, queue_lock
from rnnlm_tui.store.queue import read_queue
from rnnlm_tui.store.runs import list_runs
from rnnlm_tui.store.state import load_state
from rnnlm_tui.store.trash import list_trash
from rnnlm_tui.system.locks import read_lock
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.runs import RunsScreen
from rnnlm_tui.tui.settings import last_session
from tests.faults.workers import Workers, warm_starts
from tests.integration.runs import ENDLESS, tiny_config, write_text
from tests.tui.panes.filling import focused
from tests.tui.panes.seeing import press, until_shown
from tests.tui.support import until


@pytest.fixture(autouse=True)
def workers_end(workers: Workers, home: Path) -> Iterator[None]:
    """Let workers start fast, and kill those, and the queue's process, that a failure leaves."""
    with warm_starts(workers):
        yield
    for lock in (queue_lock(), *(run.lock_path for run in list_runs())):
        state = read_lock(lock)
        if state.held and state.pid is not None:
            os.kill(state.pid, signal.SIGKILL)


@asynccontextmanager
async def terminal() -> AsyncIterator[tuple[RnnlmApp, Pilot[int]]]:
    """The app in a new terminal, where the last session ended."""
    settings = load_state()
    run, pane = last_session(settings)
    app = RnnlmApp(run, pane, settings=settings, fps=20.0)
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        await until(pilot, lambda: app.summaries is not None)
        yield app, pilot


async def choose(app: RnnlmApp, pilot: Pilot[int], run: RunDirectory) -> None:
    """Go to the list of runs, and there to a run."""
    await pilot.press("r")
    screen = app.pane_screen
    assert isinstance(screen, RunsScreen)
    await pilot.press("home")
    while screen.chosen is None or screen.chosen.run != run.name:
        await pilot.press("down")


def status_of(app: RnnlmApp, run: str) -> str | None:
    """The status of a listed run; None if it isn't listed."""
    return next((one.status for one in app.summaries or () if one.run == run), None)


async def test_a_day_from_the_demo_to_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"training.max_steps": ENDLESS, "checkpoint.every": 200, "model.tie_weights": False}
    demo = tiny_config(write_text(tmp_path / "text.txt"), changes)
    monkeypatch.setattr("rnnlm_tui.tui.screens.runs._demo", lambda: demo)
    monkeypatch.setattr("tests.tui.support.DEADLINE", 240.0)  # five processes start
    monkeypatch.chdir(tmp_path)

    # start the demo, and leave while it trains
    async with terminal() as (app, pilot):
        await until_shown(pilot, "enter")
        await pilot.press("enter")
        await until_shown(pilot, "● running")
        (run,) = list_runs()
        await pilot.press("q")
        await until_shown(pilot, "Training continues without this terminal.")
        await pilot.press("enter")
        await until(pilot, lambda: app.return_value == 0)
    assert read_lock(run.lock_path).held, "it trains on"

    async with terminal() as (app, pilot):
        # return, and watch
        await until(pilot, lambda: app.run_directory == run and app.current_mode == "train")
        await until_shown(pilot, run.name, "● running", "The cat")
        step = summarize(run).step
        await until(pilot, lambda: app.snapshot is not None and app.snapshot.summary.step > step)
        await pilot.press("c")
        await until_shown(pilot, "saved")
        await until(pilot, lambda: app.snapshot is not None and len(app.snapshot.checkpoints) > 1)

        await pilot.press("space")
        await until_shown(pilot, "‖ paused")

        # note and pin a checkpoint, and queue a fork of it, which waits until the demo ends
        await pilot.press("3")
        await until_shown(pilot, "★ best", "▸ last")
        await pilot.press("end")
        rows = app.snapshot.checkpoints if app.snapshot is not None else ()
        await until_shown(pilot, f"Step {rows[0].step:,}")
        await pilot.press("m", *"before the fork", "enter")
        await until_shown(pilot, "before the fork")
        await pilot.press("p")
        await until_shown(pilot, "⚑ pinned")
        labels, pinned = read_labels(run), rows[0].step
        assert labels.pins == {pinned}
        assert labels.notes == {pinned: "before the fork"}
        await pilot.press("F")
        await until_shown(pilot, f"fork of {run.name}@")
        await pilot.press("slash", *"training.max_steps")
        await until_shown(pilot, "training.max_steps")
        await pilot.press("enter")
        await until(pilot, lambda: focused(app) == "training.max_steps")
        await pilot.press("enter", "ctrl+u", *"30", "enter")
        await until_shown(pilot, f"was {ENDLESS:,}")
        await pilot.press("Q")
        await until_shown(pilot, "waits in the queue, place 1")
        child = listed_run(read_queue().entries[0].run)
        found = read_parent(child)
        assert found is not None
        assert (found.run, found.changed) == (run.name, {"training.max_steps": (ENDLESS, 30)})

        # resume the demo, and stop it
        await press(pilot, "r", "waiting 1")  # the cursor goes to the new run once it is listed
        await choose(app, pilot, run)
        await pilot.press("enter")
        await until_shown(pilot, "‖ paused", "space Resume")
        await pilot.press("space")
        await until_shown(pilot, "● running")
        await pilot.press("S")
        await until_shown(pilot, f"Stop {run.name}?")
        await pilot.press("enter")
        await until_shown(pilot, "stopped")
        await until(pilot, lambda: status_of(app, child.name) == "finished")

        # export the pinned checkpoint
        await pilot.press("3")
        await until_shown(pilot, "⚑ pinned")
        await pilot.press("end")
        await until_shown(pilot, f"Step {pinned:,}")
        await pilot.press("w")
        await until_shown(pilot, f"Export {run.name}@{pinned}")
        await pilot.press("up", "enter")
        await until_shown(pilot, "✓", "written", "enter close")
        await pilot.press("enter")
        await until_shown(pilot, "→ exported")
        (export,) = read_labels(run).exports
        assert export.step == pinned
        assert list(tmp_path.glob(f"{run.name}-{pinned}-*/*"))

        # delete the fork, and undo that
        await choose(app, pilot, child)
        await pilot.press("d")
        await until(pilot, lambda: [trashed.name for trashed in list_trash()] == [child.name])
        await until(pilot, lambda: status_of(app, child.name) is None)
        await pilot.press("u")
        await until(pilot, lambda: status_of(app, child.name) == "finished")
        assert child.path.is_dir()
        await pilot.press("q")
        await until(pilot, lambda: app.return_value == 0)
    assert not any(read_lock(one.lock_path).held for one in list_runs())
