"""Training waits for the disk where it must, at the limit of memory and at its end, and hears
commands meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.worker import checkpointing, loop
from rnnlm_tui.worker.checkpointing import Moment
from tests.unit.worker.stores import Disk, recorder_of, until
from tests.unit.worker.test_loop import STEPS, Bench

LIMIT = 12


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: Disk) -> Iterator[Bench]:
    """A run whose every step is a commit; its memory has room for a few rows."""
    monkeypatch.setattr("rnnlm_tui.worker.step_metrics.REPORT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(checkpointing, "FINAL_RETRY_SECONDS", 0.01)
    with recorder_of(RunDirectory(tmp_path), max_kept=LIMIT) as recorder:
        yield Bench(tmp_path, recorder, every=20)


@contextmanager
def training(bench: Bench) -> Iterator[None]:
    """Train in another thread, to the end."""
    thread = threading.Thread(target=bench.training.train)
    thread.start()
    yield
    thread.join(timeout=60)
    assert not thread.is_alive()


def test_when_memory_for_rows_is_full_training_waits_handles_commands_and_loses_nothing(
    bench: Bench, disk: Disk
) -> None:
    disk.fill()
    with training(bench):
        until(lambda: bench.recorder.full)
        bench.ask("evaluate")
        until(lambda: bench.inbox_answers)
        step = bench.trainer.step
        assert step < STEPS
        bench.ask("stop")
        until(lambda: len(bench.inbox_answers) == 2)
        assert bench.trainer.step == step
        stop = bench.inbox_answers[1]
        assert (stop.ok, stop.status) == (False, "running")
        assert "No space left on device" in stop.error
        disk.free()
    assert bench.steps() == list(range(1, STEPS + 1))


def test_the_end_waits_for_a_checkpoint_that_the_disk_refuses(bench: Bench) -> None:
    bench.checkpointer.disk_full = True
    with training(bench):
        until(lambda: bench.evaluator.evaluated == [20, 40] and bench.recorder.degraded)
        full = "not saved: can't write the checkpoint: no space left; free some space"
        assert full in bench.recorder.degraded
        assert bench.evaluator.tested == []
        bench.checkpointer.disk_full = False
    assert (bench.checkpointer.saved, bench.evaluator.tested) == ([(STEPS, 3.0)], [STEPS])
    assert [kind for kind, _ in bench.events() if kind in ("degraded", "recovered")] == [
        "degraded",
        "recovered",
    ]


def test_a_periodic_checkpoint_is_retried_before_the_next_is_due(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpointing, "RETRY_SECONDS", 0.0)
    write, tried = bench.checkpointer._write, list[int]()

    def third_time(moment: Moment, *, last: bool) -> str:
        tried.append(moment.step)
        bench.checkpointer.disk_full = len(tried) < 3
        return write(moment, last=last)

    monkeypatch.setattr(bench.checkpointer, "_write", third_time)
    # As if each checkpoint took less than a step.
    monkeypatch.setattr(bench.checkpointer, "collect", bench.checkpointer.finish)
    assert bench.training.train() == "finished"
    assert tried == [20, 21, 22, 40]
    assert [step for step, _ in bench.checkpointer.saved] == [22, 40]


def test_the_end_waits_for_rows_that_the_disk_refuses(bench: Bench, disk: Disk) -> None:
    bench.evaluator.during = lambda: disk.fill() if bench.trainer.step == STEPS else None
    with training(bench):
        until(lambda: bench.checkpointer.saved == [(20, 3.0), (40, 3.0)])
        assert bench.evaluator.tested == []
        disk.free()
    assert bench.evaluator.tested == [STEPS]
    assert ("evaluation", "test perplexity 22.20, 1.000 bits per byte") in bench.events()
