"""RunList: ended runs are shown from the last lines of their logs, and never as they were."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rnnlm_tui.client.listing import RunList, kept_summary, stamps
from rnnlm_tui.client.monitor import RunMonitor, summary_or_problem
from rnnlm_tui.schema.metrics import EventRow, StepRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.index import index_folder
from rnnlm_tui.store.labels import RunLabels, labels_file, pin_checkpoint
from rnnlm_tui.store.lineage import ParentCheckpoint, take_parent
from rnnlm_tui.store.log import RunLog, logs_of
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run, find_run, list_runs, rename_run
from rnnlm_tui.store.summaries import append_summary
from rnnlm_tui.store.trash import delete_run, restore_run
from rnnlm_tui.system.locks import RunLock
from tests.fakes.long_run import build, build_many, make_older
from tests.unit.client.logs import begin
from tests.unit.store.rows import step_row

STEPS, CHECKPOINT = 1_000, "step-000001000"
"""The first run's steps, and the checkpoint that all have."""
OPENED: list[str] = []
"""Every file that anything opens while the test looks."""
_watching = False


def _see(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event in ("open", "sqlite3.connect") and not isinstance(arguments[0], int):
        OPENED.append(str(arguments[0]))


sys.addaudithook(_see)


def opened_by(work: Callable[[], object]) -> list[str]:
    """The files opened in the block."""
    global _watching
    OPENED.clear()
    _watching = True
    try:
        work()
    finally:
        _watching = False
    return list(OPENED)


def truth() -> list[str]:
    """The summaries read from the runs themselves, with NaN as text."""
    return [repr(summary_or_problem(run)) for run in list_runs()]


def listed() -> list[str]:
    """The list of a new process."""
    runs = RunList()
    try:
        return [repr(summary) for summary in runs.look()]
    finally:
        runs.close()


def end_again(run: RunDirectory) -> None:
    """Append the summary once more, as the run is now."""
    with RunLog(run, len(logs_of(run))) as log:
        append_summary(run, log)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three runs that ended at least a minute ago, each newer than the next; the second
    is a fork of the first."""
    path = tmp_path_factory.mktemp("listed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RNNLM_TUI_HOME", str(path / "home"))
        patch.setenv("XDG_CACHE_HOME", str(path / "cache"))
        first, second, _ = build_many(3, STEPS)
        parent = ParentCheckpoint(first, first.checkpoints_path / CHECKPOINT)
        take_parent(second, parent, second.read_config())
        end_again(second)
        make_older(second)
    return path / "home"


@pytest.fixture
def runs(made: Path, home: Path) -> list[RunDirectory]:
    """Those three runs in the test's home."""
    shutil.copytree(made, home)
    return list_runs()


def test_ended_runs_are_listed_without_an_index(runs: list[RunDirectory]) -> None:
    opened = opened_by(RunList().look)
    assert not [path for path in opened if path.startswith(str(index_folder()))]
    logs = [str(logs_of(run)[-1][1]) for run in runs]
    assert [path for path in opened if path.endswith(".jsonl")] == logs
    assert listed() == truth()


def test_ended_runs_are_listed_as_they_are_also_with_nan() -> None:
    run = build("odd-otter", STEPS)
    with RunLog(run, 2) as log:
        log.append(
            *(
                StepRow(2, step, 1, 1.0, float("nan"), float("inf"), 1e-3, 1.0, 50.0, 1.0)
                for step in range(STEPS + 1, STEPS + 200)
            ),
            EventRow(2, STEPS + 199, "failed", "losses are no numbers", 2.0),
        )
    end_again(run)
    assert "inf" in truth()[0]
    assert [repr(kept_summary(run, stamps(run)))] == truth() == listed()


def replace_by_another(run: RunDirectory) -> None:
    found = run.config_path.stat()
    delete_run(run)
    create_run(DEMO, run.name)
    os.utime(run.config_path, ns=(found.st_atime_ns, found.st_mtime_ns))


def swap_names(run: RunDirectory) -> None:
    other = find_run("otter-0002")
    name = run.name
    moved = rename_run(run, "for-a-moment")
    rename_run(other, name)
    rename_run(moved, other.name)


def say_something(run: RunDirectory) -> None:
    labels_file(run).write(RunLabels(("paper",), "worth a second look", pinned=True))


def begin_again(run: RunDirectory) -> None:
    with RunLock(run.lock_path), begin(run, start_step=STEPS) as log:
        log.append(EventRow(3, STEPS, "resumed", "from step 1,000", time.time()))


def link_a_log(run: RunDirectory) -> None:
    path = run.logs_path / "000001.jsonl"
    path.rename(run.path / "elsewhere.jsonl")
    path.symlink_to(run.path / "elsewhere.jsonl")


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def last_log(run: RunDirectory) -> Path:
    return logs_of(run)[-1][1]


UNSEEN: dict[str, Callable[[RunDirectory], object]] = {
    "deleted and restored": lambda run: restore_run(delete_run(run)),
    "a torn last line": lambda run: os.truncate(last_log(run), last_log(run).stat().st_size - 9),
    "a damaged last line": lambda run: edit(last_log(run), '"summary":{', '"summary":{"state":1,'),
    "damaged last steps": lambda run: edit(last_log(run), '"checkpoints":[', '"checkpoints":[[],'),
}
"""These change no summary."""
CHANGES: dict[str, Callable[[RunDirectory], object]] = {
    "renamed": lambda run: rename_run(run, "other-otter"),
    "deleted": delete_run,
    "replaced": replace_by_another,
    "names swapped": swap_names,
    "labelled": say_something,
    "pinned": lambda run: pin_checkpoint(run, STEPS),
    "begun again": begin_again,
    "a damaged log": lambda run: (run.logs_path / "000001.jsonl").write_bytes(b"damaged" * 1_000),
    "no parent": lambda run: (run.path / "parent.json").unlink(),
    "a log less": lambda run: (run.logs_path / "000001.jsonl").unlink(),
    "a linked log": link_a_log,
    "a checkpoint less": lambda run: shutil.rmtree(run.checkpoints_path / CHECKPOINT),
    "another config": lambda run: edit(run.config_path, "192", "96"),
    **UNSEEN,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_run_is_listed_at_once(change: str, runs: list[RunDirectory]) -> None:
    open_list = RunList()
    before = [repr(summary) for summary in open_list.look()]
    CHANGES[change](runs[1])
    assert listed() == truth()
    assert [repr(summary) for summary in open_list.look()] == truth()
    assert change in UNSEEN or before != truth()


def test_a_resumed_run_is_listed_correctly_while_it_trains_and_after(
    runs: list[RunDirectory],
) -> None:
    run = runs[1]
    with RunLock(run.lock_path), begin(run, start_step=STEPS) as log:
        log.append(EventRow(3, STEPS, "running", "", time.time()))
        assert "running" in {summary.status for summary in RunList().look()}
        log.append(EventRow(3, STEPS, "finished", "", time.time()))
        append_summary(run, log)
    assert kept_summary(run, stamps(run)) is not None
    assert listed() == truth()


def test_a_change_with_equal_size_and_time_is_noticed(
    runs: list[RunDirectory],
) -> None:
    run = runs[1]
    say_something(run)
    known = RunList()
    known.look()
    path = run.path / "labels.json"
    found = path.stat()
    path.write_text(path.read_text().replace("second", "fourth"))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert [summary.note for summary in known.look() if summary.run == run.name] == [
        "worth a fourth look"
    ]
    assert listed() == truth()


def test_a_summary_of_another_version_is_not_used(
    runs: list[RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept_summary(runs[0], stamps(runs[0])) is not None
    monkeypatch.setattr("rnnlm_tui.client.listing.SUMMARY_VERSION", 0)
    assert kept_summary(runs[0], stamps(runs[0])) is None


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


def test_only_news_of_a_running_run_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[str] = []
    make = RunMonitor.__init__

    def counting(monitor: RunMonitor, run: RunDirectory, **options: Any) -> None:
        opened.append(run.name)
        make(monitor, run, **options)

    monkeypatch.setattr(RunMonitor, "__init__", counting)
    run = build("long-haul", STEPS, ended=False)
    with RunLock(run.lock_path):
        runs = RunList()
        assert [(summary.step, summary.status) for summary in runs.look()] == [(STEPS, "running")]
        with RunLog(run, 2) as log:
            log.append(step_row(STEPS + 1, 2))
        assert [summary.step for summary in runs.look()] == [STEPS + 1]
        assert opened == ["long-haul"]
    assert [summary.status for summary in runs.look()] == ["crashed"]
    run.path.rename(run.path.with_name("short-haul"))
    assert [summary.run for summary in runs.look()] == ["short-haul"]
    assert opened == ["long-haul", "short-haul"]
