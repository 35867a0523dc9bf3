"""Waiting runs in the list, and the queue over it: move, remove, add, pause."""

from __future__ import annotations

from time import time

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.queue import QueuedRun, QueueProcess
from rnnlm_tui.tui.screens.queue import QueueScreen
from tests.tui.fake_queue import FakeQueue, waiting
from tests.tui.fakes import FakeServices, make_snapshot, make_summary
from tests.tui.support import lines_of, running_app, shown, shows, text_of, until, with_runs

RUNNING = QueuedRun(
    run="plain-otter", state="running", status="running", device="cpu", added=1.0, seconds=24.0
)
FAILED = QueuedRun(
    run="amber-vole", state="ended", outcome="failed", message="/data/gone.txt not found",
    status="failed", added=1.0, ended=1.0,
)  # fmt: skip


def queued() -> tuple[FakeServices, FakeQueue]:
    """A run that trains, two that wait, a draft that doesn't, and one that failed."""
    services = with_runs(make_snapshot())
    services.runs += [
        make_summary(name, "draft", 0) for name in ("brisk-heron", "quiet-marten", "salty-wren")
    ]
    services.runs.append(make_summary("amber-vole", "failed", 0))
    now = time()
    queue = FakeQueue(
        [RUNNING],
        [waiting("quiet-marten", now + 151), waiting("brisk-heron", now + 7_300)],
        [FAILED],
        process=QueueProcess(pid=4_242, started=now, host="gpu1"),
    )
    services.queue = queue
    return services, queue


async def test_the_list_shows_waiting_runs_with_place_and_expected_start() -> None:
    services, queue = queued()
    async with running_app(services, pane="runs") as (app, pilot):
        await until(pilot, lambda: shows(app, "waiting 1"))
        rows = {line[5:].split()[0]: line for line in lines_of(app) if "waiting " in line[20:60]}
        assert "in 2 min" in rows["quiet-marten"]
        assert "waiting 2" in rows["brisk-heron"]
        assert "in 2 h" in rows["brisk-heron"]
        assert "2 waiting" in lines_of(app)[0]
        assert "Q Queue" in lines_of(app)[-1]
        queue.waits.clear()
        app.watcher.poll_now()
        await until(pilot, lambda: not shows(app, "waiting"))
        assert queue.restarts == 1


async def test_the_queue_lists_runs_by_place_and_results_and_enter_opens_one() -> None:
    services, _ = queued()
    async with running_app(services, pane="runs") as (app, pilot):
        await pilot.press("Q")
        await until(pilot, lambda: shows(app, "running on cpu"))
        text = text_of(app)
        assert "24 s left" in text
        assert "in ≈ 2 h 01 min" in text
        assert text.index("1 ○ quiet-marten") < text.index("2 ○ brisk-heron")
        assert "/data/gone.txt not found" in text
        assert "2 runs wait" in text
        assert "process 4242 on gpu1" in text
        await pilot.press("end", "enter")
        await until(pilot, lambda: app.run_directory and app.run_directory.name == "amber-vole")
        assert not isinstance(app.screen, QueueScreen)


async def test_runs_move_by_keys_and_the_cursor_goes_with_them() -> None:
    services, queue = queued()
    async with running_app(services, pane="runs") as (app, pilot):
        await pilot.press("Q")
        await until(pilot, lambda: shows(app, "running on cpu"))
        await pilot.press("down", "J")
        await until(pilot, lambda: shows(app, "1 ○ brisk-heron"))
        await pilot.press("J")
        await until(pilot, lambda: shows(app, "quiet-marten is last in the queue already"))
        await pilot.press("shift+up")
        await until(pilot, lambda: shows(app, "1 ○ quiet-marten"))
        assert not shows(app, "in the queue already")
        await pilot.press("home", "K")
        await until(pilot, lambda: shows(app, "plain-otter has started: it can't be moved"))
        assert shows(app, "stop plain-otter")
        assert [run.run for run in queue.waits] == ["quiet-marten", "brisk-heron"]


async def test_d_removes_a_waiting_run_u_undoes_it_and_a_adds_the_one_under_the_cursor() -> None:
    services, queue = queued()
    async with running_app(services, pane="runs") as (app, pilot):
        await until(pilot, lambda: shows(app, "waiting 1"))
        while "salty-wren" not in next(row for row in shown(app) if row.startswith("›")):
            await pilot.press("down")
        await pilot.press("Q")
        await until(pilot, lambda: shows(app, "a add salty-wren"))
        await pilot.press("down", "d")
        await until(pilot, lambda: shows(app, "quiet-marten removed from the queue"))
        assert shows(app, "it stays a draft")
        await pilot.press("a")
        await until(pilot, lambda: shows(app, "2 ○ salty-wren"))
        assert [run.run for run in queue.waits] == ["brisk-heron", "salty-wren"]
        assert not shows(app, "a add salty-wren")
        await pilot.press("u")
        await until(pilot, lambda: shows(app, "quiet-marten waits in the queue again"))
        assert [run.run for run in queue.waits] == ["quiet-marten", "brisk-heron", "salty-wren"]


async def test_space_pauses_and_capital_f_pauses_on_a_failure() -> None:
    services, queue = queued()
    async with running_app(services, pane="runs") as (app, pilot):
        await pilot.press("Q")
        await until(pilot, lambda: shows(app, "space pause"))
        await pilot.press("space")
        await until(pilot, lambda: shows(app, "space resume"))
        assert queue.paused
        await until(pilot, lambda: not shows(app, "in ≈"))
        await pilot.press("F")
        await until(pilot, lambda: shows(app, "pauses if a run fails"))
        queue.reason = "amber-vole failed"
        await pilot.press("F")
        await until(pilot, lambda: shows(app, "paused: amber-vole failed"))
        await pilot.press("space")
        await until(pilot, lambda: shows(app, "space pause"))
        assert (queue.paused, queue.stops) == (False, False)


async def test_an_empty_queue_says_so_and_q_closes_it() -> None:
    services = with_runs(make_snapshot())
    services.queue = FakeQueue()
    async with running_app(services, pane="runs") as (app, pilot):
        await pilot.press("Q")
        await until(pilot, lambda: shows(app, "nothing waits"))
        await pilot.press("d", "J", "enter")
        assert isinstance(app.screen, QueueScreen)
        await pilot.press("q")
        await until(pilot, lambda: not isinstance(app.screen, QueueScreen))


async def test_a_queue_that_cannot_be_read_is_reported_and_read_again() -> None:
    services, queue = queued()
    async with running_app(services, pane="runs") as (app, pilot):
        queue.unreadable = StorageError("can't read queue.json: permission denied")
        await pilot.press("Q")
        await until(pilot, lambda: shows(app, "✗ can't read queue.json: permission denied"))
        assert shows(app, "esc close")
        queue.unreadable = None
        await until(pilot, lambda: shows(app, "running on cpu"))
        assert not shows(app, "permission denied")


async def test_a_damaged_queue_is_reported_when_the_app_starts() -> None:
    services, queue = queued()
    queue.warning = "the queue's file was damaged and is kept as queue.json.unusable"
    async with running_app(services, pane="runs", size=(120, 40)) as (app, pilot):
        await until(pilot, lambda: "is kept as queue.json.unusable" in lines_of(app)[-1])


async def test_a_queue_that_pauses_itself_is_announced() -> None:
    services, queue = queued()
    async with running_app(services, pane="runs") as (app, pilot):
        await until(pilot, lambda: shows(app, "waiting 1"))
        queue.paused, queue.reason = True, "amber-vole failed"
        app.watcher.poll_now()
        await until(pilot, lambda: "queue paused: amber-vole failed" in lines_of(app)[-1])


async def test_the_train_pane_lists_waiting_runs_with_their_places() -> None:
    services, _ = queued()
    async with running_app(services, size=(120, 40)) as (app, pilot):
        await until(pilot, lambda: shows(app, "waiting 2"))
        line = next(line for line in lines_of(app) if "waiting 1" in line)
        assert "in 2 min" in line[:25]
