"""Kill workers at random moments, in training and in saves, and report what was lost: `python -m
tests.benchmarks.random_kills [--kills 200]`."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path
from threading import Lock

from psutil import pid_exists

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.cells import CellType
from rnnlm_tui.schema.config import DataMode
from rnnlm_tui.store.manifest import CHECKPOINT_FOLDER, verify_checkpoint
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.files import TEMPORARY_PREFIX
from tests.benchmarks.command_line import options, say, temporary_home
from tests.benchmarks.exact_resume import CELLS, MODES, exact_config, finished, weights_hash
from tests.faults.workers import Workers
from tests.integration.runs import wait_for, write_text

KILLS = 200
KILLS_A_RUN = 20
STEPS, SAVED_EVERY = 400, 10
"""A save takes about as long as ten steps of these models, so half of a worker's time is spent
saving."""
LIFE_SECONDS, SAVE_SECONDS = 0.6, 0.04
"""A kill comes at a random moment within this time after the first step, or after the start of a
save."""


@dataclass(slots=True)
class Tally:
    """The results of the kills."""

    kills: int = 0
    in_save: int = 0
    """Kills that left an incomplete checkpoint."""
    invalid: int = 0
    """Checkpoints with a final name that fail verification."""
    steps: int = 0
    """Steps of each attempt that were committed just before a kill."""
    lost: int = 0
    """Steps of those that were missing at the end."""
    stuck: int = 0
    """Runs that could not be resumed."""
    runs: int = 0
    unequal: int = 0
    """Runs whose final weights or losses differ from an undisturbed run's."""

    def add(self, other: Tally) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @property
    def clean(self) -> bool:
        return not (self.invalid or self.lost or self.stuck or self.unequal)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills of {self.runs} runs, {self.in_save} of them in mid-save:"
            f" {self.invalid} invalid checkpoints under a final name, {self.lost} of {self.steps:,}"
            f" committed steps lost, {self.stuck} runs that can't resume,"
            f" {self.runs - self.unequal} of {self.runs} bit-equal"
        )


def losses(run: RunDirectory) -> list[tuple[int, float, int]]:
    """The loss curve of a run."""
    with RunReader(run) as reader:
        return [(row.step, row.loss, row.tokens_seen) for row in reader.steps()]


def kill_one_run(
    workers: Workers,
    source: Path,
    name: str,
    cell: CellType,
    mode: DataMode,
    kills: int,
    steps: int,
    draw: random.Random,
) -> Tally:
    """Compare an undisturbed run with one of the same config that is killed `kills` times and then
    finishes."""
    config = exact_config(source, cell, mode, steps, **{"checkpoint.every": SAVED_EVERY})
    straight, run = create_run(config, f"{name}-straight"), create_run(config, f"{name}-killed")
    assert workers.work(straight) == 0
    tally, seen = Tally(runs=1), set[tuple[int, int]]()
    while tally.kills < kills and not finished(run) and _kill(workers, run, draw, tally, seen):
        pass
    if not finished(run) and workers.work(run) != 0:
        tally.stuck += 1
    elif (weights_hash(run, steps), losses(run)) != (
        weights_hash(straight, steps),
        losses(straight),
    ):
        tally.unequal += 1
    tally.steps, tally.lost = len(seen), len(seen.difference(committed_steps(run)))
    return tally


def _kill(
    workers: Workers,
    run: RunDirectory,
    draw: random.Random,
    tally: Tally,
    seen: set[tuple[int, int]],
) -> bool:
    """Run one attempt and kill it; False if it ended before. Adds the steps committed just before
    the kill to `seen`."""
    pid = workers.start(run)
    aimed = draw.random() < 0.5
    wait_for(lambda: _trains(run, pid) or not pid_exists(pid), "the first step")
    if aimed:
        wait_for(lambda: _half_made(run) or not pid_exists(pid), "a save")
    time.sleep(draw.uniform(0, SAVE_SECONDS if aimed else LIFE_SECONDS))
    seen.update(committed_steps(run))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    code = workers.wait()
    if code != -signal.SIGKILL:
        tally.stuck += code != 0
        return False
    tally.kills += 1
    tally.in_save += bool(_half_made(run))
    tally.invalid += sum(not _valid(path) for path in run.checkpoints_path.glob("step-*"))
    return True


def _trains(run: RunDirectory, pid: int) -> bool:
    with RunReader(run) as reader:
        attempts, state = reader.attempts(), reader.last_state()
    return (
        bool(attempts) and attempts[-1].pid == pid and state is not None and state.kind == "running"
    )


def _half_made(run: RunDirectory) -> bool:
    return any(run.checkpoints_path.glob(f"{TEMPORARY_PREFIX}*"))


def _valid(path: Path) -> bool:
    try:
        return CHECKPOINT_FOLDER.fullmatch(path.name) is not None and verify_checkpoint(
            path
        ).step == int(path.name.removeprefix("step-"))
    except StorageError:
        return False


def committed_steps(run: RunDirectory) -> list[tuple[int, int]]:
    """(attempt, step) of every whole line of the logs, including superseded ones."""
    return [
        (int(path.stem), json.loads(line)["step"])
        for path in sorted(run.logs_path.glob("*.jsonl"))
        for line in path.read_bytes().split(b"\n")[:-1]
        if line.startswith(b'{"kind":"step"')
    ]


def kill_randomly(
    source: Path,
    kills: int,
    draw: random.Random,
    crew: Sequence[Workers],
    *,
    steps: int = STEPS,
    a_run: int = KILLS_A_RUN,
) -> Tally:
    """Kill workers this many times, over runs of every cell in both modes, in parallel."""
    total, turn, left = Tally(), count(), kills
    pairs = [(cell, mode) for cell in CELLS for mode in MODES]
    draw.shuffle(pairs)
    lock = Lock()

    def work(workers: Workers, own: random.Random) -> None:
        nonlocal left
        while True:
            with lock:
                share, number = min(left, a_run), next(turn)
                left -= share
            if not share:
                return
            found = kill_one_run(
                workers, source, f"run-{number}", *pairs[number % len(pairs)], share, steps, own
            )
            with lock:
                left += share - found.kills
                total.add(found)

    with ThreadPoolExecutor(len(crew)) as pool:
        for done in [
            pool.submit(work, workers, random.Random(draw.getrandbits(32))) for workers in crew
        ]:
            done.result()
    return total


def main() -> int:
    """Kill and print the tally; 0 if nothing was lost. The seed is that of the moments."""
    given = options(__doc__, kills=KILLS, seed=0)
    seed, began = given.seed or secrets.randbits(32), time.monotonic()
    with temporary_home() as folder, Workers() as one, Workers() as other:
        source = write_text(folder / "text.txt")
        tally = kill_randomly(source, given.kills, random.Random(seed), (one, other))
    say(f"{tally} (seed {seed}, {time.monotonic() - began:.0f} s)")
    return 0 if tally.clean else 1


if __name__ == "__main__":
    sys.exit(main())
