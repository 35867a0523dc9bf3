"""A long run in a minute: the whole worker with a model that computes nothing, and a reader beside
it. `python -m tests.benchmarks.soak` prints the resources of both."""

from __future__ import annotations

import functools
import gc
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest import mock

import psutil

from rnnlm_tui.client.control import WORKER_SETTINGS, send
from rnnlm_tui.client.monitor import RunMonitor
from rnnlm_tui.schema.status import HEARTBEAT_SECONDS, LIVING
from rnnlm_tui.store.index import index_path
from rnnlm_tui.store.log import logs_of
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.processes import child_environment
from tests.benchmarks.command_line import options, say, temporary_home
from tests.integration.runs import tiny_config, write_text

STEPS = 1_000_000
MARKS = 40
"""Measurements of both processes, at equal distances."""
ACCELERATED = 50
"""Rows are committed and heartbeats written this many times faster than in a real run: a million
empty steps take a minute, not an hour."""
POLL_SECONDS = 0.25 / ACCELERATED
MARKS_NAME = "marks.jsonl"


@dataclass(frozen=True, slots=True)
class Held:
    """The resources of one process at one step."""

    step: int
    memory: int
    """Resident bytes."""
    blocks: int
    """Allocated blocks of Python's allocator: a leak of one object per step shows here long before
    it shows in memory."""
    descriptors: int
    threads: int
    """Without that which writes a checkpoint beside training: how long it lives is the disk's."""
    wal: int
    """Bytes of the index's write-ahead log."""


@dataclass(frozen=True, slots=True)
class Soaked:
    """A whole run."""

    steps: int
    seconds: float
    status: str
    rows: int
    """Steps found by a reader at the end."""
    log: int
    """Bytes of the run's log."""
    index: int
    """Bytes of its index."""
    worker: tuple[Held, ...]
    reader: tuple[Held, ...]


def held(run: RunDirectory, step: int) -> Held:
    """The resources of this process now."""
    gc.collect()
    gc.freeze()  # so that the next collection skips these million blocks, mostly torch's
    process = psutil.Process()
    wal = index_path(run).with_suffix(".db-wal")
    size = wal.stat().st_size if wal.exists() else 0
    writing = sum(thread.name == "checkpoint" for thread in threading.enumerate())
    return Held(
        step,
        process.memory_info().rss,
        sys.getallocatedblocks(),
        process.num_fds(),
        process.num_threads() - writing,
        size,
    )


def soak(home: Path, steps: int) -> Soaked:
    """Train `steps` steps under `home`, read them as the app does, and measure both processes."""
    every = max(3_000, steps // 200)
    changes = {
        "training.max_steps": steps,
        "evaluation.every": every,
        "checkpoint.every": every,
        "training.deterministic": False,
    }
    run = create_run(tiny_config(write_text(home.parent / "text.txt"), changes))
    marks = home / MARKS_NAME
    began = time.monotonic()
    with run.log_path.open("wb") as log:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.soak",
            f"--worker={run.path}",
            f"--steps={steps}",
        ]
        worker = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env={**child_environment(WORKER_SETTINGS), "OMP_NUM_THREADS": "1"},
        )
    try:
        reader = _read_along(run, marks, worker)
    finally:
        worker.kill()
        code = worker.wait()
    if code:
        raise SystemExit(f"the worker left with {code}:\n{run.log_path.read_text()}")
    monitor = RunMonitor(run)
    snapshot = monitor.snapshot()
    monitor.close()
    worker_marks = tuple(Held(**json.loads(line)) for line in marks.read_text().splitlines())
    table = snapshot.series
    return Soaked(
        steps=steps,
        seconds=time.monotonic() - began,
        status=snapshot.summary.status,
        rows=int(table.step[-1]) if len(table) else 0,
        log=sum(path.stat().st_size for _, path in logs_of(run)),
        index=index_path(run).stat().st_size,
        worker=worker_marks,
        reader=tuple(reader),
    )


def _read_along(run: RunDirectory, marks: Path, worker: subprocess.Popen[bytes]) -> list[Held]:
    """Poll as the app does until the worker ends; request its status at each mark."""
    monitor, found = RunMonitor(run), list[Held]()
    size = 0
    while worker.poll() is None:
        snapshot = monitor.poll()
        now = marks.stat().st_size if marks.exists() else 0
        if now != size and snapshot is not None and snapshot.summary.status in LIVING:
            size = now
            send(run, "status")
            found.append(held(run, snapshot.summary.step))
        time.sleep(POLL_SECONDS)
    monitor.close()
    return found


def work(run: RunDirectory, steps: int) -> int:
    """Run the whole worker, except that updates return a fixed loss and intervals are shorter."""
    import torch

    from rnnlm_tui.engine.model import State
    from rnnlm_tui.engine.trainer import StepResult, Trainer
    from rnnlm_tui.worker import step_metrics, train
    from rnnlm_tui.worker.recorder import Recorder

    loss, norm = torch.tensor(2.5), torch.tensor(0.5)
    train_step, marks = Trainer.train_step, run.path.parents[1] / MARKS_NAME

    def costless(
        _update: object, _parts: object, _tokens: int, state: State
    ) -> tuple[torch.Tensor, torch.Tensor, State]:
        return loss, norm, state

    def nothing(_optimizer: object, _norm: torch.Tensor, _loss: torch.Tensor) -> None:
        """In place of a mock, which would keep what it is called with."""

    def watched_step(trainer: Trainer) -> StepResult:
        result = train_step(trainer)
        if result.step % max(1, steps // MARKS) == 0:
            with marks.open("a") as file:
                file.write(json.dumps(asdict(held(run, result.step))) + "\n")
        return result

    with (
        mock.patch("rnnlm_tui.engine.step.Update.gradients", costless),
        mock.patch("rnnlm_tui.engine.step.update_when_finite", nothing),
        mock.patch.object(Trainer, "train_step", watched_step),
        mock.patch.object(
            step_metrics, "REPORT_SECONDS", step_metrics.REPORT_SECONDS / ACCELERATED
        ),
        mock.patch.object(
            train,
            "Recorder",
            functools.partial(Recorder, seconds=HEARTBEAT_SECONDS / ACCELERATED),
        ),
    ):
        return train.main([str(run.path)])


def table(soaked: Soaked) -> str:
    """The figures as a table."""
    lines = [
        (
            f"{soaked.steps:,} steps in {soaked.seconds:.0f} s, {soaked.status}; {soaked.rows:,}"
            f" steps in a log of {soaked.log / soaked.rows:.0f} bytes a step and an index of"
            f" {soaked.index / 2**20:.1f} MB"
        ),
        (
            f"{'':8}{'step':>12}{'memory MB':>12}{'blocks':>12}{'descriptors':>13}{'threads':>9}"
            f"{'WAL KB':>9}"
        ),
    ]
    for name, marks in (("worker", soaked.worker), ("reader", soaked.reader)):
        shown = (
            [marks[place * (len(marks) - 1) // 8] for place in range(9)]
            if len(marks) > 9
            else marks
        )
        lines += [
            f"{name:8}{mark.step:>12,}{mark.memory / 2**20:>12.1f}{mark.blocks:>12,}"
            f"{mark.descriptors:>13}{mark.threads:>9}{mark.wal // 1024:>9,}"
            for mark in shown
        ]
    return "\n".join(lines)


def main() -> int:
    """Run the soak test and print the figures, with `--json` every mark; or run as the worker."""
    given = options(__doc__, steps=STEPS, json=False, worker="")
    if given.worker:
        return work(RunDirectory(Path(given.worker)), given.steps)
    with temporary_home() as folder:
        soaked = soak(folder / "home", given.steps)
    say(json.dumps(asdict(soaked)) if given.json else table(soaked))
    return 0


if __name__ == "__main__":
    sys.exit(main())
