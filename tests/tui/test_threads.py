"""Actions that await, and threads: results return, and none keeps the process alive."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Label
from textual.worker import WorkerFailed, WorkerState, get_current_worker

from rnnlm_tui.errors import WorkerError
from rnnlm_tui.tui.app import RnnlmApp
from rnnlm_tui.tui.screens.overlay import ConfirmScreen, Overlay
from rnnlm_tui.tui.threads import act
from tests.tui.support import shows, until

PROGRAM = """
import asyncio, pathlib, sys, threading
from rnnlm_tui.tui.threads import to_thread, wait_for_threads
begun = threading.Event()
def write():
    begun.set()
    pathlib.Path(sys.argv[1]).write_text("kept")
def endless():
    begun.set()
    threading.Event().wait()
async def main(work):
    task = asyncio.create_task(to_thread(work))
    while not begun.is_set():
        await asyncio.sleep(0)
asyncio.run(main(write))
print(wait_for_threads(60))
begun.clear()
asyncio.run(main(endless))
print(wait_for_threads(0))
"""


def refuse(words: str) -> int:
    raise WorkerError(words)


def test_a_running_write_is_awaited_and_endless_work_keeps_no_process_alive(tmp_path: Path) -> None:
    left = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "words")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (left.returncode, left.stdout, left.stderr) == (0, "True\nFalse\n", "")
    assert (tmp_path / "words").read_text() == "kept"


async def test_an_action_asks_before_the_next_key_and_ends_with_its_question_or_the_app(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = list[Any]()  # answers, and workers that wait for one

    async def action_leave(app: RnnlmApp) -> None:
        ends.append(get_current_worker())
        ends[-1] = await app.ask(ConfirmScreen("Go on?", "", "", "stay", "go on"))
        await app.wait_for(lambda: refuse("no answer"))

    monkeypatch.setattr(RnnlmApp, "action_leave", act(action_leave))
    app = RnnlmApp(None, "runs")
    async with app.run_test(notifications=True) as pilot:
        for key in ("q", "D", "q", "q"):  # typed ahead
            app.simulate_key(key)
        await until(pilot, lambda: ends == [True, False] and shows(app, "no answer"))
        await pilot.press("q")
        app.open_pane("config")
        await until(pilot, lambda: ends[2:] == [None])
        await pilot.press("q")
        app.workers.cancel_group(app, "threads")
        await until(pilot, lambda: not isinstance(app.screen, ConfirmScreen))
        await pilot.press("q")
    assert [worker.state for worker in ends[3:]] == [WorkerState.CANCELLED] * 2


class Reading(Overlay[None]):
    """A list whose action looks for a widget that isn't there."""

    @act
    async def show_rows(self) -> None:
        self.query_one(Label)


async def show_rows() -> None:
    """Call the action on a closed screen and on an open one, and wait for its ends."""
    app = RnnlmApp(None, "runs")
    async with app.run_test(notifications=True) as pilot:
        for closed in (True, False):
            screen = Reading()
            app.push_screen(screen)
            await pilot.pause()
            if closed:
                await app.pop_screen()
            others = list(app.workers)
            await screen.show_rows()
            (worker,) = (worker for worker in app.workers if worker not in others)
            await worker.wait()
            assert closed, "it hides what is missing"


async def test_an_action_whose_screen_has_closed_ends_and_no_other_hides_what_is_missing() -> None:
    with pytest.raises(WorkerFailed, match="NoMatches"):
        await show_rows()
