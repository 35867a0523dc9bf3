"""The watcher's thread, the list of runs, saved sessions, and crashes of the app."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from textual.message import Message

from rnnlm_tui import client
from rnnlm_tui.client.listing import RunList
from rnnlm_tui.client.monitor import RunMonitor, RunSnapshot
from rnnlm_tui.errors import StorageError
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import find_run
from rnnlm_tui.store.state import load_state
from rnnlm_tui.system.machine import MachineReader
from rnnlm_tui.tui.messages import Notice
from rnnlm_tui.tui.poller import Polled, Watcher, seconds_to_next_list
from rnnlm_tui.tui.settings import last_session, save_settings
from rnnlm_tui.tui.terminal import crash_report, log_traceback
from rnnlm_tui.tui.threads import wait_for_threads
from tests.homes import queue_in_use, trained
from tests.tui.panes.seeing import press, until_shown
from tests.tui.support import at_home, text_of, until
from tests.unit.store.rows import step_row

DEADLINE = 60.0


class Posted(list[Message]):
    """What a watcher has posted."""

    def of(self, name: str) -> list[Any]:
        """The values of an attribute of the app."""
        return [
            message.values[name]
            for message in self
            if isinstance(message, Polled) and name in message.values
        ]

    @property
    def notices(self) -> list[str]:
        return [notice.text for notice in self.of("pending_notice")]


@pytest.fixture(autouse=True)
def alone() -> None:
    """No thread of an app before reads a run any more."""
    wait_for_threads(DEADLINE)


@contextmanager
def watching(
    *, open: str = "", paint_first: bool = False, reads_machine: bool = False
) -> Iterator[tuple[Watcher, Posted]]:
    """A watcher in its thread, with an open run."""
    posted = Posted()
    watcher = Watcher(posted.append, fps=200.0, reads_machine=lambda: reads_machine)
    if open:
        watcher.open(find_run(open), paint_first=paint_first)
    thread = threading.Thread(target=watcher.loop)
    thread.start()
    try:
        yield watcher, posted
    finally:
        watcher.close()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], object]) -> None:
    end = monotonic() + DEADLINE
    while not condition():
        assert monotonic() < end
        threading.Event().wait(0.002)


def wait_for_looks(watcher: Watcher, looks: int) -> None:
    wanted = watcher.polls + looks
    wait_for(lambda: watcher.polls >= wanted)


@pytest.mark.usefixtures("three_at_home")
def test_the_open_run_and_the_marked_ones_are_read_once_each_and_posted_when_they_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[tuple[str, object]] = []

    class Recorded(RunMonitor):
        steps: object = ()

        def __init__(self, run: RunDirectory, **options: Any) -> None:
            super().__init__(run, **options)
            done.append((run.name, "opened"))

        def look_at(self, steps: tuple[int, int] | None) -> None:
            if self.steps != steps:
                self.steps = steps
                done.append((self.run.name, steps))
            super().look_at(steps)

        def close(self) -> None:
            super().close()
            done.append((self.run.name, "closed"))

    def reached(*runs: str) -> Callable[[], bool]:
        return lambda: bool(found := posted.of("followed")) and set(found[-1]) == set(runs)

    def taken() -> list[tuple[str, object]]:
        found = list(done)
        del done[: len(found)]
        return found

    monkeypatch.setattr(client.monitor, "RunMonitor", Recorded)
    monkeypatch.setattr(RunList, "look", lambda *_: [])  # it has monitors of its own
    with watching(open="plain-otter") as (watcher, posted):
        watcher.compare(("brisk-heron", "plain-otter"))
        wait_for(reached("plain-otter", "brisk-heron"))
        wait_for_looks(watcher, 5)
        assert taken() == [
            (name, what) for name in ("plain-otter", "brisk-heron") for what in ("opened", None)
        ]
        before = len(posted.of("followed"))
        with RunLog(find_run("plain-otter"), 1) as log:
            log.append(step_row(4, 1))
        wait_for(lambda: posted.of("followed")[-1]["plain-otter"].summary.step == 4)
        wait_for_looks(watcher, 5)
        assert len(posted.of("followed")) == before + 1, "posted once"
        watcher.look_at({"plain-otter": (1, 2)})
        wait_for_looks(watcher, 3)
        watcher.open(find_run("amber-vole"))
        wait_for(reached("brisk-heron", "plain-otter", "amber-vole"))
        watcher.compare(())
        wait_for(reached("amber-vole"))
        found = taken()
        assert found[:2] == [("plain-otter", (1, 2)), ("amber-vole", "opened")]
        assert ("plain-otter", None) in found, "the shown steps are forgotten with the open run"
        assert set(found[-2:]) == {("plain-otter", "closed"), ("brisk-heron", "closed")}
        assert posted.of("summaries") == [()]
        assert len(posted.of("machine")) == 1
    assert taken() == [("amber-vole", "closed")]


def test_nothing_but_the_run_is_read_before_its_first_paint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lists and machines load and read much, in the time in which the main thread draws."""
    monkeypatch.setattr("rnnlm_tui.tui.poller.PAINT_SECONDS", DEADLINE)
    trained("plain-otter")
    with watching(open="plain-otter", paint_first=True) as (watcher, posted):
        wait_for(lambda: posted)
        threading.Event().wait(0.05)  # ten turns
        assert [list(message.values) for message in posted if isinstance(message, Polled)] == [
            ["followed", "compared"]
        ]
        watcher.painted.set()
        wait_for(lambda: posted.of("summaries") and posted.of("machine"))


def test_a_log_that_takes_long_to_read_is_named_with_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    poll = RunMonitor.poll

    def slow(monitor: RunMonitor) -> RunSnapshot | None:
        if monitor._snapshot is None and monitor._report is not None:
            for done in range(4):
                monitor._report(done * 10**7, 4 * 10**7)
        return poll(monitor)

    monkeypatch.setattr(RunMonitor, "poll", slow)
    monkeypatch.setattr("rnnlm_tui.tui.poller.TELL_SECONDS", 0.0)
    trained("plain-otter")
    parts = [f"reading the log of plain-otter: {part} %" for part in (0, 25, 50, 75)]
    for long, words in ((0.0, [*parts, "the log of plain-otter is read"]), (DEADLINE, [])):
        monkeypatch.setattr("rnnlm_tui.tui.poller.LONG_SECONDS", long)
        with watching(open="plain-otter") as (watcher, posted):
            wait_for_looks(watcher, 5)
            wait_for(lambda posted=posted: posted.of("machine"))  # type: ignore[misc]
            wait_for_looks(watcher, 2)
        assert [text for text in posted.notices if "%" in text or "is read" in text] == words


def test_an_error_of_any_poll_is_reported_once_and_again_after_it_was_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MACHINE_SECONDS", "FIRST_READING_SECONDS", "READING_SECONDS"):
        monkeypatch.setattr(f"rnnlm_tui.tui.poller.{name}", 0.0)
    away = threading.Event()

    def failing(what: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        def read(*arguments: Any, **named: Any) -> Any:
            if away.is_set():
                raise StorageError(f"{what(*arguments)}: the disk is gone")
            return function(*arguments, **named)

        return read

    for owner, name, what in (
        (RunMonitor, "poll", lambda monitor: f"{monitor.run.path}/log"),
        (RunList, "look", lambda *_: "list"),
        (MachineReader, "sample", lambda _: "readings"),
        (import_module("rnnlm_tui.system.machine"), "describe_machine", lambda _: "machine"),
        (client.queue, "list_queue", lambda _: "queue"),
    ):
        monkeypatch.setattr(owner, name, failing(what, getattr(owner, name)))
    heron = trained("brisk-heron")
    trained("plain-otter")
    with queue_in_use(), watching(open="plain-otter", reads_machine=True) as (watcher, posted):
        monkeypatch.setattr(Path, "exists", lambda _path: True)  # also the queue's file
        watcher.compare(("brisk-heron", "plain-otter"))
        for change in (away.set, away.clear) * 2:
            change()
            for _ in range(5):
                watcher.poll_now()
                wait_for_looks(watcher, 2)
    told = Counter(text for text in posted.notices if "disk is gone" in text)
    polls = ("log", f"brisk-heron: {heron.path}/log", "list", "queue", "machine", "readings")
    assert told == {f"{what}: the disk is gone": 2 for what in polls}


@pytest.mark.usefixtures("three_at_home")
def test_only_runs_removed_by_others_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(monitor: RunMonitor) -> None:
        raise StorageError(f"no {monitor.run.name}")

    monkeypatch.setattr(RunMonitor, "poll", gone)
    with watching() as (watcher, posted):
        for name in ("plain-otter", "brisk-heron"):
            watcher.removed.add(name)
        watcher.open(find_run("plain-otter"))
        watcher.compare(("plain-otter", "brisk-heron"))
        wait_for_looks(watcher, 5)
        assert posted.notices == []
        watcher.removed.discard("plain-otter")
        watcher.compare(("amber-vole",))
        wait_for_looks(watcher, 5)
    assert sorted(posted.notices) == ["amber-vole: no amber-vole", "no plain-otter"]


def test_a_bug_while_polling_is_reported_once_and_polling_continues(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunMonitor, "poll", lambda monitor: vars(monitor)["epoch"])
    trained("plain-otter")
    with watching(open="plain-otter") as (watcher, posted):
        wait_for_looks(watcher, 10)
        wait_for(lambda: posted.of("machine"))
    log = home / "app.log"
    told = Notice("polling the runs failed (KeyError)", "trouble", f"details: {log}")
    assert posted.of("pending_notice") == [told]
    assert log.read_text().count("Traceback") == 1


async def test_space_works_for_an_unreadable_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained("plain-otter")
    run.config_path.write_text("= 3")
    monkeypatch.setattr(client.start, "resume_run", lambda run, _device: f"{run.name} resumed")
    async with at_home(None, "train", size=(120, 40)) as (app, pilot):
        app.open_run(run)
        await until_shown(pilot, "config.toml")
        assert str(run.path) not in text_of(app)
        await press(pilot, "space", "plain-otter resumed")


@pytest.mark.usefixtures("three_at_home")
def test_an_incomplete_list_is_read_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnnlm_tui.tui.poller.LIST_PATIENCE", 0.0)
    with watching() as (watcher, posted):
        wait_for_looks(watcher, 4)
        lists = [
            (len(found), complete)
            for found, complete in zip(posted.of("summaries"), posted.of("all_listed"), strict=True)
        ]
    assert lists == [(1, False), (2, False), (3, True)]


async def test_a_crash_is_logged_and_a_failed_import_says_restart_the_app(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    missing = partial(import_module, "rnnlm_tui.gone")
    monkeypatch.setattr("rnnlm_tui.store.trash.list_trash", missing)
    async with at_home(None) as (app, pilot):
        await press(pilot, "T", "was installed again")
        await pilot.press("down")
        assert app.is_running
    assert "restart the app" in crash_report(ImportError("no name"), home / "app.log")
    error = ValueError("\x1b[31mno")
    log = log_traceback(error)
    assert log == home / "app.log"
    assert "ValueError" in log.read_text()
    text = crash_report(error, log)
    assert "Runs keep training" in text
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text


async def test_changes_during_a_save_are_saved_next_or_after_leaving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = threading.Event()
    disk.set()
    written: list[object] = []

    def save(settings: dict[str, object]) -> None:
        assert disk.wait(20)
        written.append(settings.get("smoothing"))

    monkeypatch.setattr("rnnlm_tui.tui.app.save_settings", save)
    trained("plain-otter")
    settings: dict[str, object] = {"run": "plain-otter", "pane": "train"}
    async with at_home(pane="train", settings=settings) as (app, pilot):
        disk.clear()
        await pilot.press("0", "plus", "plus", "plus")
        disk.set()
        await until(pilot, lambda: written and written[-1] == 0.99)
        assert len(written) == 2, "not a file for each key"
        disk.clear()
        await pilot.press("minus", "minus")
        threading.Timer(0.2, disk.set).start()  # while the app leaves
    app.save_last_changes()
    assert written[-1] == 0.6


async def test_a_run_opened_by_command_is_where_the_next_start_opens(home: Path) -> None:
    save_settings({"run": "", "pane": "runs"})
    assert load_state() == {}
    assert not home.exists(), "nothing is created for an empty home"
    assert last_session({"run": "gone-goose", "pane": "train"}) == (None, None)
    trained("plain-otter")
    settings: dict[str, object] = {"run": "calm-badger", "pane": "runs", "axis": "tokens"}
    async with at_home(pane=None, settings=settings) as (app, pilot):
        app.leave_now()
        await pilot.pause()
    wait_for_threads()
    app.save_last_changes()
    kept = load_state()
    assert last_session(kept) == (find_run("plain-otter"), "train")
    assert kept["axis"] == "tokens"


def test_a_slow_list_is_read_less_often() -> None:
    taken = (0.001, 0.02, 0.07, 5.0)
    seconds = [seconds_to_next_list(took, shown=True) for took in taken]
    assert seconds == [2.0, 2.0, pytest.approx(7.0), 20.0]
    assert seconds_to_next_list(0.001, shown=False) == 20.0
