"""Check exact mode: `python -m tests.benchmarks.exact_resume` trains each cell in both data modes:
undisturbed, stopped at three random steps, and sampled over 200 times."""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import get_args

from rnnlm_tui.client.control import send
from rnnlm_tui.errors import RunStateError, WorkerError
from rnnlm_tui.schema.cells import CellType
from rnnlm_tui.schema.config import DataMode, RunConfig
from rnnlm_tui.store.addresses import checkpoint_path
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.system.locks import read_lock
from tests.benchmarks.command_line import options, say, temporary_home
from tests.faults.workers import Workers
from tests.integration.runs import tiny_config, wait_for, write_text

STEPS = 300
STOPS = 3
PROMPTS = tuple(
    f"The {word}" for word in ("cat", "dog", "bird", "mat", "house", "old", "red", "big", "a", "")
)
SAMPLINGS = 20
"""At this many steps of the run, all prompts are continued and the model is evaluated."""
TRIES = 5
"""Attempts for a run that ends before it is stopped, as on a busy machine."""
SAVED_EVERY = 40
CELLS: tuple[CellType, ...] = get_args(CellType)
MODES: tuple[DataMode, ...] = get_args(DataMode)


def exact_config(
    source: Path, cell: CellType, mode: DataMode, steps: int = STEPS, **changes: object
) -> RunConfig:
    """Every kind of dropout that the mode has, a schedule, clipping, a checkpoint within an
    epoch."""
    stream: dict[str, object] = (
        {"model.variational_dropout": True, "model.embedding_dropout": 0.1}
        if mode == "stream"
        else {}
    )
    fixed: dict[str, object] = {
        "model.cell_type": cell,
        "training.data_mode": mode,
        "training.context_length": 16,
        "training.max_steps": steps,
        "evaluation.every": 0,
        "evaluation.max_sentences": 2,
        "evaluation.prompts": [],
        "checkpoint.every": SAVED_EVERY,
        "sampling.max_new_tokens": 4,
    }
    return tiny_config(source, {**fixed, **stream, **changes})


def weights_hash(run: RunDirectory, steps: int = STEPS) -> str:
    """sha256 of the model.safetensors of the last step."""
    with RunReader(run) as reader:
        state = reader.last_state()
    assert state is not None, run.name
    assert state.kind == "finished", f"{run.name}: {state.kind}: {state.text}"
    return hashlib.sha256(
        (checkpoint_path(run, str(steps)) / "model.safetensors").read_bytes()
    ).hexdigest()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result for one cell in one mode."""

    cell: CellType
    mode: DataMode
    straight: str
    """sha256 of the final weights of an undisturbed run."""
    stopped: str
    """The same for a run that was stopped `STOPS` times and resumed."""
    stops: tuple[str, ...]
    """Where and how it was stopped: `kill 117`."""
    sampled: str
    """The same for a run that was sampled `samples` times."""
    samples: int

    @property
    def equal(self) -> bool:
        return self.straight == self.stopped == self.sampled


def compare(
    workers: Workers,
    source: Path,
    cell: CellType,
    mode: DataMode,
    draw: random.Random,
    *,
    steps: int = STEPS,
    samplings: int = SAMPLINGS,
) -> Outcome:
    """Three runs of one config: straight, stopped, sampled."""
    name = f"{cell}-{mode}"
    config = exact_config(source, cell, mode, steps)
    looking = {"evaluation.every": steps // (samplings + 1), "evaluation.prompts": PROMPTS}
    straight, sampled = (
        create_run(config, f"{name}-straight"),
        create_run(exact_config(source, cell, mode, steps, **looking), f"{name}-sampled"),
    )
    assert workers.work(straight) == 0
    for number in range(TRIES):
        stopped = create_run(config, f"{name}-stopped-{number}")
        wanted = sorted(draw.sample(range(steps // 30, steps * 2 // 3), STOPS))
        stops = [
            stop
            for step in wanted
            if (stop := _stop_at(workers, stopped, step, draw.choice(("kill", "term", "stop"))))
        ]
        if len(stops) == STOPS:
            break
    assert len(stops) == STOPS, f"{name} ended before it could be stopped, {TRIES} times"
    assert workers.work(stopped) == 0
    assert workers.work(sampled) == 0
    with RunReader(sampled) as reader:
        samples = sum(row.step < steps for row in reader.samples())
    return Outcome(
        cell,
        mode,
        weights_hash(straight, steps),
        weights_hash(stopped, steps),
        tuple(stops),
        weights_hash(sampled, steps),
        samples,
    )


def reached(run: RunDirectory, pid: int, step: int) -> int:
    """The worker's step from its socket, once it is at least `step`."""

    def answer() -> int | None:
        with RunReader(run) as reader:
            attempts, facts = reader.attempts(), reader.facts()
        if (
            not attempts
            or attempts[-1].pid != pid
            or not facts.socket
            or read_lock(run.lock_path).pid != pid
        ):
            return None
        result = send(run, "status")
        return result.step if result.status != "preparing" and result.step >= step else None

    return wait_for(answer, f"step {step} of {run.name}")


def _stop_at(workers: Workers, run: RunDirectory, step: int, how: str) -> str:
    """Run one attempt that is killed, terminated or stopped near a step; returns `kill 117`, or ""
    if the run ended before."""
    if finished(run):
        return ""
    pid = workers.start(run)
    found = step
    try:
        found = reached(run, pid, step)
        if how == "stop":
            found = send(run, "stop").step
        else:
            os.kill(pid, signal.SIGKILL if how == "kill" else signal.SIGTERM)
    except (RunStateError, WorkerError, ProcessLookupError):
        pass  # it is just ending
    code = workers.wait()
    if finished(run):
        return ""
    assert code == (-signal.SIGKILL if how == "kill" else 0), (run.name, how, code)
    return f"{how} {found}"


def finished(run: RunDirectory) -> bool:
    """Whether the last event says so; a kill may come later, while the process exits."""
    with RunReader(run) as reader:
        state = reader.last_state()
    return state is not None and state.kind == "finished"


@contextmanager
def crew(count: int) -> Iterator[SimpleQueue[Workers]]:
    """A queue of worker processes to borrow and return."""
    with ExitStack() as stack:
        free: SimpleQueue[Workers] = SimpleQueue()
        for _ in range(count):
            free.put(stack.enter_context(Workers()))
        yield free


def compare_all(
    source: Path,
    pairs: Sequence[tuple[CellType, DataMode]],
    draw: random.Random,
    *,
    abreast: int = 2,
) -> list[Outcome]:
    """Compare every pair, some in parallel."""
    seeds = [draw.getrandbits(32) for _ in pairs]
    with crew(abreast) as free, ThreadPoolExecutor(abreast) as pool:

        def one(pair: tuple[CellType, DataMode], seed: int) -> Outcome:
            workers = free.get()
            try:
                return compare(workers, source, *pair, random.Random(seed))
            finally:
                free.put(workers)

        return list(pool.map(one, pairs, seeds))


def table(outcomes: Sequence[Outcome]) -> str:
    """One line per pair."""
    rows = [
        f"{'cell':8}{'mode':11}{'straight':18}{'stopped at':36}{'equal':8}{'samples':>8}  equal"
    ]
    for one in outcomes:
        same = ["yes" if digest == one.straight else "NO" for digest in (one.stopped, one.sampled)]
        rows.append(
            f"{one.cell:8}{one.mode:11}{one.straight[:16]:18}{', '.join(one.stops):36}"
            f"{same[0]:8}{one.samples:>8}"
            f"  {same[1]}"
        )
    return "\n".join(rows)


def main() -> int:
    """Print the table; 0 if all are equal. The seed is that of the steps at which runs are
    stopped."""
    seed = options(__doc__, seed=0).seed or secrets.randbits(32)
    began = time.monotonic()
    with temporary_home() as folder:
        source = write_text(folder / "text.txt")
        outcomes = compare_all(
            source, [(cell, mode) for cell in CELLS for mode in MODES], random.Random(seed)
        )
    say(table(outcomes))
    equal = sum(one.equal for one in outcomes)
    say(
        f"{equal} of {len(outcomes)} equal: {STEPS} steps, {STOPS} stops, seed {seed},"
        f" {time.monotonic() - began:.0f} s"
    )
    return 0 if equal == len(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
