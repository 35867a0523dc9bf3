"""The watcher's thread, the list of runs, saved sessions, and crashes of the app."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from textual.message import Message

from rnnlm_tui.client.listing import RunList
from rnnlm_tui.client.monitor import RunMonitor, RunSnapshot
from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.metrics import HardwareRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.labels import RunLabels, labels_file
from rnnlm_tui.store.log import RunLog
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import RunLock
from rnnlm_tui.system.machine import MachineFacts
from rnnlm_tui.tui import settings as settings_module
from rnnlm_tui.tui.actions import Pane
from rnnlm_tui.tui.messages import MachineChanged, NoticePosted, RunsChanged, SnapshotChanged
from rnnlm_tui.tui.poller import Watcher, seconds_to_next_list
from rnnlm_tui.tui.terminal import crash_report, log_traceback
from rnnlm_tui.tui.threads import wait_for_threads
from tests.fakes.long_run import build, make_older
from tests.tui.fakes import FakeMonitor, FakeReader, FakeServices, make_snapshot
from tests.tui.support import running_app, text_of, until, with_runs
from tests.unit.store.rows import step_row

DEADLINE = 60.0


@contextmanager
def watching(
    services: FakeServices, *, reads_machine: bool = False
) -> Iterator[tuple[Watcher, list[Message]]]:
    """A watcher in its thread, and what it has posted."""
    posted: list[Message] = []
    services.install()
    watcher = Watcher(posted.append, fps=200.0, reads_machine=lambda: reads_machine)
    thread = threading.Thread(target=watcher.loop)
    thread.start()
    try:
        yield watcher, posted
    finally:
        watcher.close()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def wait_for_looks(watcher: Watcher, looks: int) -> None:
    wanted, end = watcher.polls + looks, monotonic() + DEADLINE
    while watcher.polls < wanted:
        assert monotonic() < end
        threading.Event().wait(0.002)


def test_a_run_is_posted_once_for_each_change() -> None:
    services = with_runs(make_snapshot())
    with watching(services) as (watcher, posted):
        watcher.open(services.run("plain-otter"))
        wait_for_looks(watcher, 5)
        services.snapshots["plain-otter"] = newer = make_snapshot(step=3_900)
        wait_for_looks(watcher, 5)
        snapshots = [message.snapshot for message in posted if isinstance(message, SnapshotChanged)]
        assert len(snapshots) == 2
        assert snapshots[-1] is newer
        assert sum(isinstance(message, RunsChanged) for message in posted) == 1
        assert sum(isinstance(message, MachineChanged) for message in posted) == 1


def test_nothing_but_the_run_is_read_before_its_first_paint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lists and machines load and read much, in the time in which the main thread draws."""
    monkeypatch.setattr("rnnlm_tui.tui.poller.PAINT_SECONDS", DEADLINE)
    services, posted, shown = with_runs(make_snapshot()), list[Message](), threading.Event()

    def post(message: Message) -> None:
        posted.append(message)
        if isinstance(message, SnapshotChanged):
            shown.set()

    services.install()
    watcher = Watcher(post, fps=200.0)
    watcher.open(services.run("plain-otter"), paint_first=True)
    thread = threading.Thread(target=watcher.loop)
    thread.start()
    try:
        assert shown.wait(DEADLINE)
        threading.Event().wait(0.05)  # ten turns
        assert [type(message) for message in posted] == [SnapshotChanged]
        watcher.painted()
        wait_for_looks(watcher, 3)
        assert {RunsChanged, MachineChanged} <= {type(message) for message in posted}
    finally:
        watcher.close()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_shown_steps_are_read_and_forgotten_with_the_run() -> None:
    services = with_runs(make_snapshot())
    with watching(services) as (watcher, posted):
        watcher.open(services.run("plain-otter"))
        wait_for_looks(watcher, 5)
        watcher.look_at((1_000, 2_000))
        wait_for_looks(watcher, 5)
        watcher.open(services.run("brisk-heron"))
        wait_for_looks(watcher, 5)
        assert services.looked_at == [None, (1_000, 2_000), None]
        assert sum(isinstance(message, RunsChanged) for message in posted) == 1


def test_a_runs_files_are_closed_when_another_is_opened_and_at_the_end() -> None:
    services = with_runs(make_snapshot())
    with watching(services) as (watcher, _):
        watcher.open(services.run("plain-otter"))
        wait_for_looks(watcher, 5)
        watcher.open(services.run("brisk-heron"))
        wait_for_looks(watcher, 5)
        assert services.closed_monitors == ["plain-otter"]
    assert services.closed_monitors == ["plain-otter", "brisk-heron"]


def test_an_unreadable_run_is_reported_once() -> None:
    class Broken(FakeServices):
        def monitor(self, run: object) -> object:  # type: ignore[override]
            raise StorageError("config.toml of plain-otter is damaged", hint="restore the file")

    services = Broken()
    with watching(services) as (watcher, posted):
        watcher.open(services.run("plain-otter"))
        wait_for_looks(watcher, 10)
    told = [message.notice for message in posted if isinstance(message, NoticePosted)]
    assert [(notice.text, notice.kind) for notice in told] == [
        ("config.toml of plain-otter is damaged", "trouble")
    ]


@pytest.mark.parametrize("long", [True, False])
def test_a_log_that_takes_long_to_read_is_named_with_how_far_it_is(
    long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(FakeServices):
        def monitor(self, run: RunDirectory) -> FakeMonitor:
            for done in range(4):
                self.report_read(run.name, done * 10**7, 4 * 10**7)
            return super().monitor(run)

    monkeypatch.setattr("rnnlm_tui.tui.poller.LONG_SECONDS", 0.0 if long else DEADLINE)
    monkeypatch.setattr("rnnlm_tui.tui.poller.TELL_SECONDS", 0.0)
    services = Slow(make_snapshot())
    with watching(services) as (watcher, posted):
        watcher.open(services.run("plain-otter"))
        wait_for_looks(watcher, 5)
    told = [message.notice.text for message in posted if isinstance(message, NoticePosted)]
    parts = [f"reading the log of plain-otter: {part} %" for part in (0, 25, 50, 75)]
    assert told == ([*parts, "the log of plain-otter is read"] if long else [])


def test_a_missing_disk_is_reported_once_for_each_read() -> None:
    class Away(FakeServices):
        def monitor(self, run: object) -> object:  # type: ignore[override]
            raise StorageError("the run is gone")

        def summaries(self) -> list[RunSummary]:
            raise StorageError("the runs can't be listed")

    services = Away()
    with watching(services) as (watcher, posted):
        watcher.open(services.run("plain-otter"))
        for _ in range(5):
            watcher.poll_now()
            wait_for_looks(watcher, 2)
    told = [message.notice.text for message in posted if isinstance(message, NoticePosted)]
    assert sorted(told) == ["the run is gone", "the runs can't be listed"]


def test_an_error_of_any_poll_is_reported_again_after_it_was_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MACHINE_SECONDS", "FIRST_READING_SECONDS", "READING_SECONDS"):
        monkeypatch.setattr(f"rnnlm_tui.tui.poller.{name}", 0.0)
    away = threading.Event()

    def read(what: str) -> None:
        if away.is_set():
            raise StorageError(f"{what}: the disk is gone")

    class Monitor(FakeMonitor):
        def poll(self) -> RunSnapshot | None:
            read(self.name)
            return super().poll()

    class Reader(FakeReader):
        def sample(self) -> HardwareRow:
            read("readings")
            return super().sample()

    class Wavering(FakeServices):
        def monitor(self, run: RunDirectory) -> FakeMonitor:
            return Monitor(self, run.name)

        def summaries(self) -> list[RunSummary]:
            read("list")
            return super().summaries()

        def machine(self) -> MachineFacts:
            read("machine")
            return super().machine()

        def machine_reader(self) -> FakeReader:
            return Reader()

    services = Wavering(*(make_snapshot(name=name) for name in ("plain-otter", "brisk-heron")))
    monkeypatch.setattr(services, "queue_is_there", lambda: read("queue"))
    with watching(services, reads_machine=True) as (watcher, posted):
        watcher.key_pressed()
        watcher.open(services.run("plain-otter"))
        watcher.compare(("brisk-heron",))
        for change in (away.set, away.clear) * 2:
            change()
            for _ in range(5):
                watcher.poll_now()
                wait_for_looks(watcher, 2)
    told = Counter(message.notice.text for message in posted if isinstance(message, NoticePosted))
    polls = ("plain-otter", "brisk-heron: brisk-heron", "list", "queue", "machine", "readings")
    assert told == {f"{what}: the disk is gone": 2 for what in polls}


async def test_space_works_for_an_unreadable_run() -> None:
    class Broken(FakeServices):
        def monitor(self, run: object) -> object:  # type: ignore[override]
            raise StorageError(
                "/nowhere/runs/plain-otter/config.toml is damaged", hint="restore the file"
            )

    services = Broken()
    async with running_app(services, run=None, size=(120, 40)) as (app, pilot):
        app.open_run(services.run("plain-otter"))
        await until(pilot, lambda: "config.toml is damaged" in text_of(app))
        assert "/nowhere" not in text_of(app)
        assert "restore the file" in text_of(app)
        await pilot.press("space")
        await until(pilot, lambda: services.resumed == ["plain-otter"])


def test_a_bug_while_polling_is_reported_once_and_polling_continues(home: Path) -> None:
    class Mistaken(FakeServices):
        def monitor(self, run: RunDirectory) -> FakeMonitor:
            raise KeyError("epoch")

    services = Mistaken()
    with watching(services) as (watcher, posted):
        watcher.open(services.run("plain-otter"))
        wait_for_looks(watcher, 10)
        assert sum(isinstance(message, MachineChanged) for message in posted) == 1
    told = [message.notice for message in posted if isinstance(message, NoticePosted)]
    assert [(notice.text, notice.kind) for notice in told] == [
        ("polling the runs failed (KeyError)", "trouble")
    ]
    assert (home / "app.log").read_text().count("Traceback") == 1


def test_a_run_that_ended_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = create_run(DEMO, "calm-badger")
    make_older(run)
    read: list[str] = []
    summary_of = RunMonitor.summary

    def counting(monitor: RunMonitor) -> RunSummary:
        read.append(monitor.run.name)
        return summary_of(monitor)

    monkeypatch.setattr(RunMonitor, "summary", counting)
    runs = RunList()
    assert [summary.run for summary in runs.look()] == ["calm-badger"]
    runs.look()
    assert read == ["calm-badger"]
    run.config_path.write_text(run.config_path.read_text() + "\n")
    make_older(run)
    runs.look()
    assert read == ["calm-badger", "calm-badger"]
    labels_file(run).write(RunLabels(note="worth a second look"))
    assert [summary.note for summary in runs.look()] == ["worth a second look"]
    assert runs.configs(["calm-badger", "gone-goose"]) == {"calm-badger": run.read_config()}


def test_a_slow_first_read_has_the_newest_runs_first() -> None:
    for index in range(3):
        create_run(DEMO, f"run-{index}")
    runs = RunList()
    seen = [([summary.run for summary in runs.look(patience=0.0)], runs.complete) for _ in range(4)]
    assert seen == [
        (["run-2"], False),
        (["run-2", "run-1"], False),
        (["run-2", "run-1", "run-0"], True),
        (["run-2", "run-1", "run-0"], True),
    ]


def test_an_incomplete_list_is_read_on_at_once() -> None:
    class Slow(FakeServices):
        def summaries(self) -> list[RunSummary]:
            shown = self.runs[: len(self.closed_monitors) + 1]
            self.closed_monitors.append("")
            self.list_complete = len(shown) == len(self.runs)
            return shown

    services = Slow(
        runs=[
            make_snapshot(name=name).summary
            for name in ("plain-otter", "brisk-heron", "amber-vole")
        ]
    )
    with watching(services) as (watcher, posted):
        wait_for_looks(watcher, 4)
        lists = [
            (len(message.summaries), message.complete)
            for message in posted
            if isinstance(message, RunsChanged)
        ]
    assert lists == [(1, False), (2, False), (3, True)]


def test_only_news_of_a_running_run_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    make = RunMonitor.__init__

    def counting(monitor: RunMonitor, run: RunDirectory, **options: Any) -> None:
        opened.append(run.name)
        make(monitor, run, **options)

    monkeypatch.setattr(RunMonitor, "__init__", counting)
    run = build("long-haul", 1_000, ended=False)
    with RunLock(run.lock_path):
        runs = RunList()
        assert [(summary.step, summary.status) for summary in runs.look()] == [(1_000, "running")]
        with RunLog(run, 2) as log:
            log.append(step_row(1_001, 2))
        assert [summary.step for summary in runs.look()] == [1_001]
        assert opened == ["long-haul"]
    assert [summary.status for summary in runs.look()] == ["crashed"]
    run.path.rename(run.path.with_name("short-haul"))
    assert [summary.run for summary in runs.look()] == ["short-haul"]
    assert opened == ["long-haul", "short-haul"]


def test_run_and_pane_are_restored_at_the_next_start(home: Path) -> None:
    create_run(DEMO, "calm-badger")
    settings_module.save_settings({"run": "calm-badger", "pane": "checkpoints", "axis": "tokens"})
    settings, _ = settings_module.load_settings()
    run, pane = settings_module.last_session(settings)
    assert run is not None
    assert (run.name, pane, settings["axis"]) == ("calm-badger", "checkpoints", "tokens")
    assert settings_module.last_session({"run": "gone-goose", "pane": "train"}) == (None, None)


def test_reading_an_empty_home_creates_nothing(home: Path) -> None:
    settings_module.save_settings({"run": "", "pane": "runs"})
    assert settings_module.load_settings() == ({}, "")
    assert not home.exists()


def test_a_crash_prints_two_lines_and_logs_the_traceback(home: Path) -> None:
    error = ValueError("\x1b[31mno")
    log = log_traceback(error)
    assert log == home / "app.log"
    assert "ValueError" in log.read_text()
    text = crash_report(error, log)
    assert "Runs keep training" in text
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text


async def test_an_import_that_fails_after_a_reinstallation_says_restart_the_app(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    services = with_runs(make_snapshot())
    missing = partial(import_module, "rnnlm_tui.gone")
    monkeypatch.setattr("rnnlm_tui.store.trash.list_trash", missing)
    async with running_app(services, pane="runs") as (app, pilot):
        await pilot.press("T")
        await until(pilot, lambda: "was installed again" in text_of(app))
        await pilot.press("down")
        assert app.is_running
    assert "restart the app" in crash_report(ImportError("no name"), home / "app.log")


def test_the_app_reaches_neither_torch_nor_numpy() -> None:
    code = (
        "import rnnlm_tui.tui.app, sys; print(sorted({'torch', 'numpy', 'transformers',"
        " 'tokenizers'} & set(sys.modules)))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


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
    async with running_app(settings={"run": "plain-otter", "pane": "train"}) as (app, pilot):
        disk.clear()
        await pilot.press("0", "plus", "plus", "plus")
        disk.set()
        await until(pilot, lambda: written and written[-1] == 0.99)
        assert len(written) == 2, "not a file for each key"
        disk.clear()
        await pilot.press("minus", "minus")
    disk.set()
    wait_for_threads(20)
    app.save_last_changes()
    assert written[-1] == 0.6


def test_only_runs_removed_by_others_are_reported() -> None:
    class Gone(FakeServices):
        def monitor(self, run: RunDirectory) -> object:  # type: ignore[override]
            raise StorageError(f"{run.path} is gone")

    services = Gone(
        runs=[
            make_snapshot(name=name).summary
            for name in ("plain-otter", "brisk-heron", "amber-vole")
        ]
    )
    with watching(services) as (watcher, posted):
        for name in ("plain-otter", "brisk-heron"):
            watcher.mark_removed(name)
        watcher.open(services.run("plain-otter"))
        watcher.compare(("plain-otter", "brisk-heron"))
        wait_for_looks(watcher, 5)
        assert [message for message in posted if isinstance(message, NoticePosted)] == []
        watcher.unmark_removed("plain-otter")
        watcher.compare(("amber-vole",))
        wait_for_looks(watcher, 5)
    assert sorted(
        message.notice.text for message in posted if isinstance(message, NoticePosted)
    ) == [
        "/nowhere/runs/plain-otter is gone",
        "amber-vole: /nowhere/runs/amber-vole is gone",
    ]


@pytest.mark.parametrize("pane", [None, "prompt"])
async def test_a_run_opened_by_command_is_saved_at_once(pane: Pane | None, home: Path) -> None:
    async with running_app(
        run="plain-otter", pane=pane, settings={"run": "calm-badger", "pane": "runs"}
    ) as (app, pilot):
        app.leave_now()
        await pilot.pause()
    wait_for_threads()
    app.save_last_changes()
    kept, _ = settings_module.load_settings()
    assert (kept["run"], kept["pane"]) == ("plain-otter", pane or "train")


def test_a_slow_list_is_read_less_often() -> None:
    assert [seconds_to_next_list(took, shown=True) for took in (0.001, 0.02, 0.07, 5.0)] == [
        2.0,
        2.0,
        pytest.approx(7.0),
        20.0,
    ]
    assert seconds_to_next_list(0.001, shown=False) == 20.0
