"""Waiting runs in the list, and the queue over it: move, remove, add, pause."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from rnnlm_tui.client.queue import add_run
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.queue import QueueEntry
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.schema.validation import merge, parse_config
from rnnlm_tui.store.paths import queue_file
from rnnlm_tui.store.queue import change_queue, read_queue
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import RunLock, host_name
from rnnlm_tui.tui.screens.queue import QueueScreen
from tests.homes import queue_in_use, trained
from tests.tui.panes.seeing import press
from tests.tui.support import at_home, lines_of, shown, shows, text_of, until

SECONDS = {"plain-otter": 151.0, "quiet-marten": 7_149.0}


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A run that trains, two that wait, a draft that doesn't, and one that failed."""

    def remaining(run: RunSummary) -> tuple[float | None, int | None]:
        return SECONDS.get(run.run), 4_754

    monkeypatch.setattr("rnnlm_tui.client.queue.remaining", remaining)
    on_cpu = parse_config(merge(DEMO, {"training.device": "cpu"}))
    trained("amber-vole", "failed")
    with queue_in_use(), RunLock(trained("plain-otter", "running", config=on_cpu).lock_path):
        for name in ("salty-wren", "brisk-heron", "quiet-marten"):
            run = create_run(on_cpu, name)
            if name != "salty-wren":
                add_run(run, place=1)
        training = QueueEntry(run="plain-otter", added=1.0)
        failed = QueueEntry(run="amber-vole", added=1.0, problem="/data/{}.txt not found")
        change(entries=(training, *read_queue().entries), ended=(failed,))
        yield


def change(**fields: object) -> None:
    change_queue(lambda queue: queue.model_copy(update=fields))


def waits() -> list[str]:
    return [entry.run for entry in read_queue().entries if entry.run != "plain-otter"]


@pytest.mark.usefixtures("queued")
async def test_the_queue_is_listed_reordered_changed_and_paused_by_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    restarts: list[str] = []

    def restart() -> str:
        restarts.append("")
        return ""

    monkeypatch.setattr("rnnlm_tui.client.queue.ensure_running", restart)
    async with at_home() as (app, pilot):
        # in the list of runs: place and expected start
        await until(pilot, lambda: shows(app, "waiting 1"))
        for name, place, start in (("quiet-marten", 1, "2 min"), ("brisk-heron", 2, "2 h")):
            assert re.search(rf"{name} +○ waiting {place} +in {start} ", text_of(app))
        assert "2 waiting" in lines_of(app)[0]
        assert "Q Queue" in lines_of(app)[-1]
        while "salty-wren" not in next(row for row in shown(app) if row.startswith("›")):
            await pilot.press("down")
        process = f"process {os.getpid()} on {host_name()}"
        await press(pilot, "Q", "running on cpu", "2 min 31 s left", "in ≈ 2 h 01 min", process)
        text = text_of(app)
        assert text.index("1 ○ quiet-marten") < text.index("2 ○ brisk-heron")
        assert "/data/{}.txt not found" in text
        assert "2 runs wait" in text
        assert len(restarts) == 1, "only the first look starts the process"

        # the cursor goes with the run that it moves
        await press(pilot, "down J", "1 ○ brisk-heron")
        await press(pilot, "J", "quiet-marten is last in the queue already")
        await press(pilot, "shift+up", "1 ○ quiet-marten")
        assert not shows(app, "in the queue already")
        words = "plain-otter has started: it can't be moved"
        await press(pilot, "home K", words, "stop plain-otter", "a add salty-wren")
        assert waits() == ["quiet-marten", "brisk-heron"]
        await press(pilot, "down d", "quiet-marten removed from the queue", "it stays a draft")
        await press(pilot, "a", "2 ○ salty-wren")
        assert waits() == ["brisk-heron", "salty-wren"]
        assert not shows(app, "a add salty-wren")
        await press(pilot, "u", "quiet-marten waits in the queue again")
        assert waits() == ["quiet-marten", "brisk-heron", "salty-wren"]

        await until(pilot, lambda: shows(app, "space pause"))
        await press(pilot, "space", "space resume")
        assert read_queue().paused
        await until(pilot, lambda: not shows(app, "in ≈"))
        await press(pilot, "F", "pauses if a run fails")
        change(reason="amber-vole failed")
        await press(pilot, "F", "paused: amber-vole failed")
        await press(pilot, "space", "space pause")
        assert (read_queue().paused, read_queue().stop_on_failure) == (False, False)

        # a queue that can't be read is read again
        data = queue_file().read_bytes()
        queue_file().unlink()
        queue_file().mkdir()
        await until(pilot, lambda: shows(app, "✗ can't read"))
        assert shows(app, "esc close")
        queue_file().rmdir()
        queue_file().write_bytes(data)
        await until(pilot, lambda: shows(app, "running on cpu") and not shows(app, "can't read"))
        await pilot.press("end", "enter")
        await until(pilot, lambda: app.run_directory and app.run_directory.name == "amber-vole")
        assert not isinstance(app.screen, QueueScreen)


@pytest.mark.usefixtures("queued")
async def test_damage_is_reported_and_train_lists_what_waits_and_announces_a_pause() -> None:
    kept = read_queue()
    queue_file().write_bytes(b"?")
    async with at_home(pane="train", size=(120, 40)) as (app, pilot):
        await until(pilot, lambda: shows(app, "the queue's file was damaged and is kept as"))
        change(entries=kept.entries, ended=kept.ended)
        app.watcher.poll_now()
        await until(pilot, lambda: shows(app, "waiting 2"))
        line = next(line for line in lines_of(app) if "waiting 1" in line)
        assert "in 2 min" in line[:25]
        change(paused=True, reason="amber-vole failed")
        app.watcher.poll_now()
        await until(pilot, lambda: "queue paused: amber-vole failed" in lines_of(app)[-1])
        change(entries=(), ended=())
        app.watcher.poll_now()
        await pilot.press("r")
        await until(pilot, lambda: not shows(app, "waiting"))
        await press(pilot, "Q", "nothing waits")
        await pilot.press("d", "J", "enter")
        assert isinstance(app.screen, QueueScreen)
        await pilot.press("q")
        await until(pilot, lambda: not isinstance(app.screen, QueueScreen))
