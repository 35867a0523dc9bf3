"""Workers that crash at every point of saving a checkpoint: the files on disk stay valid, and the
run ends with the same weights as an undisturbed one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from rnnlm_tui.store.checkpoints import sweep_temporary, write_checkpoint
from rnnlm_tui.store.manifest import verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from tests.faults.crash_points import CHECKPOINT_POINTS, install
from tests.faults.undisturbed import Bench, bench_in, ending_of, whole_steps
from tests.faults.workers import Workers
from tests.unit.store.rows import new_run, write_model

pytestmark = pytest.mark.fault(
    "the worker is killed, even while it writes a checkpoint beside training"
)

WORKER_POINTS = tuple(point for point in CHECKPOINT_POINTS if point != "rename.aside")
"""A worker saves a step twice only after its settings change at that step; this point has its own
test."""
SECOND = {"fsync.inside": 10, "tensors.inside": 40}
"""The time at which a point with several of its kind in a checkpoint is in the second one."""
IO_ERRORS = {"fsync.after", "manifest.after", "prune.inside"}
"""Points at which the disk fails; at the others it is full."""
WRITE_POINTS = tuple(
    point
    for point in CHECKPOINT_POINTS
    if point.partition(".")[0] in ("files", "fsync", "manifest", "rename")
    and point != "files.inside"
)
"""The points inside `write_checkpoint`."""


@pytest.fixture(scope="module")
def bench(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench_in(tmp_path_factory.mktemp("crashes"), workers) as bench:
        yield bench


@pytest.mark.parametrize(
    ("point", "action"),
    [
        (point, action)
        for point in WORKER_POINTS
        for action in ("kill", "raise", "EIO" if point in IO_ERRORS else "ENOSPC")
        # a copy in memory needs no disk
        if not point.startswith("copy") or action in ("kill", "raise")
    ],
)
def test_a_run_that_crashes_inside_a_checkpoint_ends_with_the_weights_of_an_undisturbed_one(
    bench: Bench, point: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNNLM_TUI_HOME", str(bench.home))
    run = create_run(bench.config, f"{point}-{action}")
    time = (
        1 if point.startswith("prune") else SECOND.get(point, 2)
    )  # after the first checkpoint and before the next
    code = bench.workers.work(run, f"{point}:{action}:{time}")
    before = whole_steps(run)
    assert before, "the first checkpoint is always there"
    if action == "kill":
        assert code == -signal.SIGKILL
    elif action == "raise":
        assert code == 1
    else:
        assert code == 0, "a disk that is full or fails for a moment ends no run"
    if code:
        with RunReader(run) as reader:
            durable = [row.step for row in reader.steps()]
        assert durable == list(range(1, len(durable) + 1))
        assert bench.workers.work(run) == 0
        with RunReader(run) as reader:
            assert reader.attempts()[-1].start_step == before[-1]
    assert ending_of(run) == bench.undisturbed
    assert whole_steps(run) == [step for step, _, _ in bench.undisturbed.checkpoints]
    assert [
        path.name for path in run.checkpoints_path.iterdir() if not path.name.startswith("step-")
    ] == []


def write_in_a_process(run: RunDirectory, step: int, crash: str) -> int:
    """Write a checkpoint in a separate process that crashes at a point; its exit code, 1 for an
    error."""
    child = os.fork()
    if child == 0:
        try:
            install(crash)
            write_checkpoint(
                run, step, lambda folder: write_model(folder, b"new" * 1_000), None, {"new": True}
            )
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("step", [500, 1_000])
@pytest.mark.parametrize("action", ["kill", "raise", "ENOSPC"])
@pytest.mark.parametrize("point", WRITE_POINTS)
def test_a_writer_that_crashes_leaves_the_old_or_the_new_checkpoint_valid_even_of_the_same_step(
    point: str, action: str, step: int
) -> None:
    run = new_run()
    write_checkpoint(run, 500, write_model, None, {})
    reached = (point, step) != ("rename.aside", 1_000)  # no older one of that step to move aside
    assert write_in_a_process(run, step, f"{point}:{action}") == (
        (-signal.SIGKILL if action == "kill" else 1) if reached else 0
    )
    sweep_temporary(run)
    arrived = point == "rename.after" or not reached
    steps = whole_steps(run)
    assert steps == ([500, step] if arrived and step != 500 else [500])
    newest = verify_checkpoint(run.checkpoints_path / f"step-{steps[-1]:09d}")
    assert ("new" in newest.facts) == arrived
    assert sorted(path.name for path in run.checkpoints_path.iterdir()) == [
        f"step-{step:09d}" for step in steps
    ]
