"""What a checkpoint costs a run: `python -m tests.benchmarks.checkpoint_cost [--shape book lstm]
[--rounds 6] [--steps N] [--against CHECKOUT]`.

Blocks of steps alternate: one without a checkpoint, and one at whose first step a checkpoint is
begun, which includes its end and the removal of an old one. The difference is
the cost of a checkpoint, as wall time, processor time (which other programs disturb less) and
stalls: what steps, and the waits between them, take beyond the median of the blocks without one.
The last columns are shares of a run that saves every 30 seconds: of its time, by the wall time,
and of the cores, by the processor time.

With `--against`, the same is measured with the code of another checkout, in turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.benchmarks.command_line import options, say

SAVED_EVERY = 30.0
"""Seconds between two checkpoints of the run whose share is printed."""
WARM_SAVES = 3
"""Saves before the measured ones: the first ones remove no old checkpoint."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A model and its step."""

    cell: str
    vocabulary: int
    width: int
    layers: int
    batch: int
    bptt: int
    steps: int
    """Steps of a block; it should take some seconds, longer than a checkpoint."""


SHAPES = {
    "book": Shape("elman", 32_011, 128, 2, 32, 34, 12),
    "lstm": Shape("lstm", 4_096, 1_024, 2, 16, 16, 12),
}


@dataclass(frozen=True, slots=True)
class Block:
    """Some steps, with a checkpoint beside them or without."""

    saves: bool
    wall: float
    processor: float
    begin: float
    """Seconds until training went on after the checkpoint was begun."""
    steps: list[float]
    """Wall time of each step, and of what lies between it and the one before."""


def measure(shape: Shape, rounds: int, steps: int, threads: int) -> dict[str, Any]:
    """Blocks in turns, in this process."""
    import numpy as np
    import torch

    from rnnlm_tui.engine.batches import StreamBatches
    from rnnlm_tui.engine.device import set_threads
    from rnnlm_tui.engine.trainer import Trainer
    from rnnlm_tui.schema.config import RunConfig
    from rnnlm_tui.schema.estimates import Schedule
    from rnnlm_tui.store.runs import create_run
    from rnnlm_tui.system.locks import RunLock
    from rnnlm_tui.worker.checkpointing import Checkpointer
    from rnnlm_tui.worker.recorder import Recorder
    from tests.unit.engine.builders import built_model
    from tests.unit.worker.stores import session_of

    set_threads(threads)
    torch.manual_seed(1)
    model = built_model(
        vocab_size=shape.vocabulary, embedding_dim=shape.width, hidden_size=shape.width,
        num_layers=shape.layers, cell_type=shape.cell,
    )  # fmt: skip
    length = shape.batch * shape.bptt * 64
    tokens = np.random.default_rng(1).integers(0, shape.vocabulary, length).astype(np.uint16)
    batches = StreamBatches(tokens, shape.batch, shape.bptt)
    trainer = Trainer(model, batches, max_steps=10**9, schedule=Schedule(1e-4))
    config = RunConfig()
    run = create_run(config, "otter")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (run.path / name).write_text("{}", encoding="utf-8")
    blocks: list[Block] = []
    with RunLock(run.lock_path) as lock:
        recorder = Recorder(run, lock)
        recorder.begin_attempt(0, {})
        corpus = SimpleNamespace(path=run.path)
        session = session_of(run, config, recorder, trainer, corpus, [])
        keeper = Checkpointer(session, facts={}, parent=None)

        def block(saves: bool) -> Block:
            used, began, times, blocked = os.times(), time.perf_counter(), [], 0.0
            last = began
            for number in range(steps):
                keeper.collect()
                session.metrics.add(trainer.train_step())
                if saves and number == 0:
                    start = time.perf_counter()
                    keeper.save_beside_training(None)
                    blocked = time.perf_counter() - start
                now = time.perf_counter()
                times.append(now - last)
                last = now
            keeper.finish()
            wall, end = time.perf_counter() - began, os.times()
            processor = end.user + end.system - used.user - used.system
            return Block(saves, wall, processor, blocked, times)

        for _ in range(WARM_SAVES):
            block(True)
        for turn in range(rounds):
            order = (True, False) if turn % 2 else (False, True)
            blocks.extend([block(saves) for saves in order])
        recorder.close()
        size = sum(file.stat().st_size for file in (run.path / keeper.path).iterdir())
    return {"bytes": size, "blocks": [asdict(one) for one in blocks]}


def in_child(code: Path, shape: str, rounds: int, steps: int, threads: int) -> dict[str, Any]:
    """Measure in a process with the code of a checkout, set up as a worker is."""
    from rnnlm_tui.client.control import WORKER_SETTINGS

    with tempfile.TemporaryDirectory(prefix="checkpoint-cost-") as home:
        environment = {**WORKER_SETTINGS, **os.environ, "PYTHONPATH": str(code)}
        environment["RNNLM_TUI_HOME"] = f"{home}/home"
        ended = subprocess.run(
            [sys.executable, code / "tests/benchmarks/checkpoint_cost.py", "--child", shape,
             "--rounds", str(rounds), "--steps", str(steps), "--threads", str(threads)],
            check=True, capture_output=True, text=True, env=environment, cwd=code,
        )  # fmt: skip
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def row(name: str, bytes_: int, blocks: list[Block], cores: int) -> str:
    """One line of the table: medians over the rounds. `cores`: those that train."""
    quiet = [one for one in blocks if not one.saves]
    busy = [one for one in blocks if one.saves]
    middle = statistics.median(step for one in quiet for step in one.steps)

    def stall(one: Block) -> float:
        return sum(max(0.0, step - middle) for step in one.steps)

    pairs = list(zip(busy, quiet, strict=True))
    stalled = statistics.median(stall(on) - stall(off) for on, off in pairs)
    wall = statistics.median(on.wall - off.wall for on, off in pairs)
    processor = statistics.median(on.processor - off.processor for on, off in pairs)
    begin = statistics.median(one.begin for one in busy)
    return (
        f"{name:18}{bytes_ / 1e6:>7.0f}{1e3 * middle:>9.0f}{1e3 * wall:>10.0f}"
        f"{1e3 * processor:>11.0f}{1e3 * begin:>9.0f}{1e3 * stalled:>9.0f}"
        f"{wall / (SAVED_EVERY + wall):>11.2%}{processor / (SAVED_EVERY * cores):>10.2%}"
    )


def main() -> None:
    """Print the table."""
    given = options(
        __doc__, shape=list(SHAPES), rounds=6, steps=0, threads=0, against=Path(), child=""
    )
    if given.child:
        shape = SHAPES[given.child]
        say(json.dumps(measure(shape, given.rounds, given.steps or shape.steps, given.threads)))
        return
    cores = given.threads or len(os.sched_getaffinity(0))
    codes = {"this checkout": Path(__file__).parents[2]}
    if given.against != Path():
        codes[given.against.name] = given.against.absolute()
    say(
        f"{'ms a checkpoint':18}{'MB':>7}{'a step':>9}{'wall':>10}{'processor':>11}{'begin':>9}"
        f"{'stalls':>9}{'every 30 s':>11}{'of cores':>10}"
    )
    for shape in given.shape:
        found: dict[str, dict[str, Any]] = {}
        rounds = 2 if len(codes) > 1 else given.rounds
        for _ in range(given.rounds // rounds):
            for name, code in codes.items():
                new = in_child(code, shape, rounds, given.steps, given.threads)
                known = found.setdefault(name, {"bytes": new["bytes"], "blocks": []})
                known["blocks"] += [Block(**one) for one in new["blocks"]]
        for name, facts in found.items():
            say(f"{shape}\n" + row(name, facts["bytes"], facts["blocks"], cores))


if __name__ == "__main__":
    main()
