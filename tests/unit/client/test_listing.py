"""RunList: stored summaries of ended runs are used, and never stale."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from rnnlm_tui.store.database import RunDatabase

from rnnlm_tui.client.listing import RunList, listed_runs
from rnnlm_tui.client.monitor import RunMonitor, summary_or_problem
from rnnlm_tui.schema.metrics import EventRow, StepRow
from rnnlm_tui.schema.presets import DEMO
from rnnlm_tui.store.labels import RunLabels, labels_file
from rnnlm_tui.store.paths import RunDirectory, summaries_file
from rnnlm_tui.store.retention import pin_checkpoint
from rnnlm_tui.store.runs import create_run, find_run, list_runs, rename_run
from rnnlm_tui.store.trash import delete_run, list_trash, restore_run
from rnnlm_tui.system.locks import RunLock
from tests.fakes.long_run import build, build_many, make_older

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


@pytest.fixture
def runs() -> list[RunDirectory]:
    """Three runs that ended at least a minute ago, with stored summaries."""
    made = build_many(3, 1_000)
    assert listed() == truth()
    assert summaries_file().exists()
    return made


def test_a_second_listing_opens_one_file_for_any_number_of_runs(
    runs: list[RunDirectory],
) -> None:
    assert opened_by(lambda: RunList().look()) == [str(summaries_file())]
    assert not [path for path in opened_by(listed_runs) if "/runs/" in path]


def test_stored_summaries_equal_the_runs_also_with_nan() -> None:
    run = build("odd-otter", 1_000)
    with RunDatabase(run.database_path) as database:
        database.add_steps(
            [
                StepRow(2, step, 1, 1.0, float("nan"), float("inf"), 1e-3, 1.0, 50.0, 1.0)
                for step in range(1_001, 1_200)
            ]
        )
        database.add_event(EventRow(2, 1_199, "failed", "losses are no numbers", 2.0))
    make_older(run)
    assert "nan" in truth()[0] or "inf" in truth()[0]
    assert listed() == truth()
    assert listed() == truth()


def rename(run: RunDirectory) -> None:
    rename_run(run, "other-otter")


def delete(run: RunDirectory) -> None:
    delete_run(run)


def delete_and_restore(run: RunDirectory) -> None:
    delete_run(run)
    restore_run(list_trash()[0])


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


def pin_newest(run: RunDirectory) -> None:
    assert pin_checkpoint(run, 1_000)


def begin_again(run: RunDirectory) -> None:
    with RunLock(run.lock_path), RunDatabase(run.database_path) as database:
        database.begin_attempt(3, "box", "boot", "cpu", 1_000, {})
        database.add_event(EventRow(3, 1_000, "resumed", "from step 1,000", time.time()))


def lose_the_database(run: RunDirectory) -> None:
    run.database_path.write_bytes(b"damaged" * 1_000)


CHANGES = (
    rename,
    delete,
    delete_and_restore,
    replace_by_another,
    swap_names,
    say_something,
    pin_newest,
    begin_again,
    lose_the_database,
)


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_run_is_listed_at_once(
    change: Callable[[RunDirectory], None], runs: list[RunDirectory]
) -> None:
    open_list = RunList()
    before = [repr(summary) for summary in open_list.look()]
    change(runs[1])
    assert listed() == truth()
    assert [repr(summary) for summary in open_list.look()] == truth()
    assert change is delete_and_restore or before != truth()


def test_a_resumed_run_is_listed_correctly_while_it_trains_and_after(
    runs: list[RunDirectory],
) -> None:
    run = runs[1]
    with RunLock(run.lock_path), RunDatabase(run.database_path) as database:
        database.begin_attempt(3, "box", "boot", "cpu", 1_000, {})
        database.add_event(EventRow(3, 1_000, "running", "", time.time()))
        database.heartbeat(time.time())
        assert "running" in {summary.status for summary in RunList().look()}
        database.add_event(EventRow(3, 1_000, "finished", "", time.time()))
    assert listed() == truth()
    make_older(run)
    assert listed() == truth()
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


def test_statuses_that_depend_on_clock_or_host_are_not_stored() -> None:
    run = build("dead-otter", 1_000, ended=False)
    make_older(run)
    assert [summary.status for summary in RunList().look()] == ["crashed"]
    assert not summaries_file().exists()


def odd_contents() -> list[bytes]:
    """Invalid files, and valid ones with changed, missing or repeated parts."""
    draw, own = random.Random(11), summaries_file().read_bytes()
    head, _, content = own.partition(b"\n")
    found = [
        b"",
        b"\n",
        b"null",
        b"[]",
        b"{}",
        b"\xff" * 99,
        head,
        head + b"\n",
        content,
        own[:-1],
        own + own,
        own.replace(b"finished", b"failed"),
        b"[" * 100_000,
    ]
    values: tuple[object, ...] = (
        None,
        True,
        0,
        -1,
        1e400,
        "",
        "\ud800",
        [],
        {},
        [[1, 2]],
        {"otter-0000": [[], {}]},
        {"otter-0000": 7},
        {"": [[[0, 0, 0]], {"run": ""}]},
    )
    found += [head + b"\n" + json.dumps(value).encode() for value in values]
    for _ in range(80):
        changed = bytearray(own)
        for _ in range(draw.choice((1, 1, 1, 5, 50))):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        found.append(bytes(changed[: draw.choice((len(changed), draw.randrange(len(changed))))]))
    return found


def test_damaged_stored_summaries_never_change_a_list(
    runs: list[RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, contents = truth(), odd_contents()
    known = {run.name: summary_or_problem(run) for run in runs}
    monkeypatch.setattr(
        RunMonitor, "summary", lambda monitor: known[monitor.run.name]
    )  # read from the runs, but quicker
    for content in contents:
        summaries_file().write_bytes(content)
        assert listed() == expected
        assert opened_by(lambda: RunList().look()) == [str(summaries_file())], "it was stored again"


@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "unreadable", "read-only home"])
def test_runs_are_read_if_summaries_cannot_be_stored(
    kind: str, runs: list[RunDirectory], tmp_path: Path
) -> None:
    path = summaries_file()
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        (path / "below").mkdir(parents=True)
    elif kind == "link":
        (tmp_path / "elsewhere").write_text("untouched")
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "unreadable":
        path.touch(mode=0)
    else:
        path.parent.chmod(0o500)
    try:
        assert listed() == truth()
    finally:
        with suppress(OSError):
            path.parent.chmod(0o700)
    assert kind != "link" or (tmp_path / "elsewhere").read_text() == "untouched"


def test_an_empty_home_stays_empty(home: Path) -> None:
    assert RunList().look() == []
    assert not home.exists()


def test_stored_summaries_are_private(runs: list[RunDirectory]) -> None:
    assert summaries_file().stat().st_mode & 0o077 == 0
