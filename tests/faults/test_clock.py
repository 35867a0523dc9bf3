"""A wall clock that jumps changes no rate, no remaining time and no order."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from rnnlm_tui.cli.main import run as command
from rnnlm_tui.client.listing import listed_runs
from rnnlm_tui.client.monitor import RunMonitor, summarize
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import EventRow, HardwareRow
from rnnlm_tui.schema.summary import RunSummary
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.trash import KEPT_DAYS, delete_checkpoints, last_deleted, list_trash
from rnnlm_tui.system.locks import LockState, RunLock, read_lock
from tests.unit.client.logs import begin
from tests.unit.store.rows import new_run, write_model
from tests.unit.worker.stores import recorder_of
from tests.unit.worker.test_loop import STEPS, Bench

DAY = 86_400.0


class WallClock:
    """The result of `time.time` in this process: the real clock plus an offset."""

    def __init__(self) -> None:
        self.offset = 0.0
        self._real: Callable[[], float] = time.time

    def __call__(self) -> float:
        return self._real() + self.offset


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Iterator[WallClock]:
    """The clock used by everything in this process, and by the file that shows heartbeats."""
    clock = WallClock()
    monkeypatch.setattr(time, "time", clock)

    def look(path: Path) -> LockState:
        state = read_lock(path)
        return state._replace(touched=(state.touched or 0.0) + clock.offset)

    monkeypatch.setattr("rnnlm_tui.client.monitor.read_lock", look)
    yield clock
    clock.offset = 0.0  # a module that was imported meanwhile with `from time import time` keeps it


@pytest.fixture
def run() -> RunDirectory:
    """A run without a worker."""
    return new_run()


def trained(run: RunDirectory, jumps: dict[int, Callable[[], None]]) -> list[RunSummary]:
    """Run the real loop to its end; the figures that a reader sees at each evaluation, right after
    the clock jumped."""
    found = []
    with recorder_of(run) as recorder:
        recorder.add(Facts(max_steps=STEPS))
        bench, monitor = Bench(run.path, recorder, every=10), RunMonitor(run)

        def look() -> None:
            jumps.get(bench.trainer.step, lambda: None)()
            found.append(monitor.summary())

        bench.evaluator.during = look
        assert bench.training.train() == "finished"
        monitor.close()
    return found


@pytest.mark.fault("the terminal changes its size, the clock jumps")
@pytest.mark.parametrize(
    "jump", [-DAY, -3_600.0, 31 * DAY], ids=["a day back", "an hour back", "a month ahead"]
)
def test_a_clock_that_jumps_changes_no_rate_no_remaining_time_and_no_order(
    run: RunDirectory, wall: WallClock, jump: float
) -> None:
    began = time.monotonic()
    seen = trained(run, {20: lambda: setattr(wall, "offset", jump)})
    spent = time.monotonic() - began
    assert [summary.status for summary in seen[:-1]] == ["running"] * 3
    for summary in seen[:-1]:
        assert summary.eta_seconds is not None
        assert 0 <= summary.eta_seconds < 10 * spent
        assert 0 < summary.active_seconds < spent
    with RunReader(run) as reader:
        rows, table = list(reader.steps()), reader.series()
    assert [row.step for row in rows] == list(range(1, STEPS + 1))
    assert list(table.step) == [float(step) for step in range(1, STEPS + 1)]
    # two fast steps may end in the same millisecond
    assert all(before.active_seconds <= after.active_seconds for before, after in pairwise(rows))
    assert 0 <= rows[0].active_seconds < rows[-1].active_seconds < spent
    assert all(0 < row.tokens_per_second < 1e9 for row in rows)
    assert any(
        abs(after.time - before.time) > abs(jump) / 2 for before, after in pairwise(rows)
    )  # the clock did jump


def test_a_deleted_checkpoint_is_purged_by_a_deletion_after_a_week_and_never_by_a_list(
    wall: WallClock, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in range(1, 8):
        write_checkpoint(run, step, write_model, None, {})

    def deleted_at(days: float, step: int) -> list[int]:
        wall.offset = days * DAY
        delete_checkpoints(run, [step])
        assert [one.step for one in last_deleted(run)] == [step]
        return sorted(one.step for one in list_trash(run))

    assert deleted_at(0, 1) == [1]
    wall.offset = 1_000 * DAY  # the clock is wrong
    for verb in (["trash", run.name], ["trash", run.name, "--json"]):
        assert command(verb) == 0
    assert deleted_at(1_000, 2) == [1, 2]
    assert deleted_at(1, 3) == [1, 2, 3]
    assert deleted_at(KEPT_DAYS + 0.1, 4) == [1, 2, 3, 4]
    assert deleted_at(-1_000, 5) == [1, 2, 3, 4, 5]
    capsys.readouterr()


@pytest.mark.fault("the clocks of two hosts differ by minutes")
@pytest.mark.parametrize("behind", [-600.0, 600.0], ids=["ahead", "behind"])
def test_a_run_on_a_host_with_another_clock_is_running_as_long_as_its_heartbeat_changes(
    run: RunDirectory, behind: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in ("store.summaries", "client.monitor"):
        monkeypatch.setattr(f"rnnlm_tui.{reader}.host_name", lambda: "login")
    ended = threading.Event()
    row = HardwareRow(time.time() - behind, 50.0, 40.0, 1, 2, 1, 2)

    def beat() -> None:
        while not ended.wait(0.2):
            now = time.time() - behind
            os.utime(run.lock_path, (now, now))
            log.append(row._replace(time=now))

    with RunLock(run.lock_path), begin(run) as log:
        log.append(EventRow(1, 0, "running", "", row.time), row)
        beating = threading.Thread(target=beat)
        beating.start()
        status = summarize(run).status
        [listed] = listed_runs().runs
        ended.set()
        beating.join()
    assert (status, listed.status) == ("running", "running")
