"""A run of a million steps, made in seconds without torch: `python -m tests.fakes.long_run HOME
NAME [STEPS] [--live [--gpu MACHINE]]`.

Its logs look as after two attempts: steps with spikes, a gap and superseded ones, evaluations,
samples, events and a reading of the machine every second. With `--live` it keeps training until it
is killed.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rnnlm_tui.errors import StorageError
from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.facts import Facts
from rnnlm_tui.schema.metrics import (
    AttemptRow,
    EvaluationRow,
    EventKind,
    EventRow,
    GpuRow,
    HardwareRow,
    SampleRow,
    StepRow,
)
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.log import Row, RunLog, logs_of
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.reader import RunReader
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.summaries import append_summary
from rnnlm_tui.system.locks import LockPage, RunLock, boot_id, host_name
from tests.fakes import nvml

STEPS_A_SECOND = 20
TOKENS_A_STEP = 1_400
STEPS_AN_EPOCH = 6_460
EVERY = 500
"""Steps between two evaluations."""
SAMPLED = 1_000
KEPT = 12
"""Checkpoints on disk at the end."""
REDONE = 300
"""Steps of the first attempt after its last checkpoint; the second attempt repeats them."""
DIFFERENT = 6
"""This many runs of a list differ; the others are copies."""
GIB = 2**30


def loss_at(step: int) -> float:
    """The training loss without its noise, nats."""
    return 3.4 + 4.2 / (1 + step / 4000)


def build(name: str, steps: int = 1_000_000, *, ended: bool = True) -> RunDirectory:
    """Make the run in RNNLM_TUI_HOME; its last step was just now.

    Args:
        ended: the run is finished; otherwise its worker seems to have just died, unless `train_on`
            replaces it.
    """
    config = RunConfig()
    whole = steps if ended else 2 * steps
    run = create_run(
        config.model_copy(
            update={"training": config.training.model_copy(update={"max_steps": whole})}
        ),
        name,
    )
    began = time.time() - steps / STEPS_A_SECOND
    resumed = max(1, steps * 3 // 5 // EVERY * EVERY)
    _write(run, 0, min(steps, resumed + REDONE), began, whole, ended=ended and steps <= resumed)
    if steps > resumed:
        _write(run, resumed, steps, began, whole, ended=ended)
    for step in list(range(EVERY, steps + 1, EVERY))[-KEPT:]:
        facts = {
            "attempt": 1 if step <= resumed else 2,
            "epoch": step / STEPS_AN_EPOCH,
            "tokens_seen": step * TOKENS_A_STEP,
            "train_loss": loss_at(step),
            "validation_loss": _validation_loss(step),
        }
        write_checkpoint(run, step, _weights, None, facts)
    with (
        RunLock(run.lock_path),
        RunLog(run, len(logs_of(run))) as log,
        suppress(StorageError),  # too long to be read at the end
    ):
        append_summary(run, log)
    return run


def build_many(count: int, steps: int = 2_000, name: str = "otter") -> list[RunDirectory]:
    """Make `count` finished runs, `otter-0000` the newest: copies of a few of different lengths,
    each an hour older than the one before."""
    runs = [
        build(f"{name}-{index:04d}", steps + index * steps // 4)
        for index in range(min(count, DIFFERENT))
    ]
    for index in range(len(runs), count):
        origin = runs[index % DIFFERENT]
        copy = origin.path.with_name(f"{name}-{index:04d}")
        runs.append(RunDirectory(shutil.copytree(origin.path, copy)))
        log = logs_of(runs[-1])[-1][1]
        log.write_bytes(log.read_bytes().replace(origin.name.encode(), copy.name.encode()))
    for index, run in enumerate(runs):
        make_older(run, 60 + 3_600 * index)
    return runs


def make_older(run: RunDirectory, seconds: float = 60) -> None:
    """Make the files of a run look this many seconds older."""
    for path in (run.path, *run.path.rglob("*")):
        found = path.stat()
        os.utime(path, (found.st_atime - seconds, found.st_mtime - seconds))


def train_on(run: RunDirectory, *, seconds: float = math.inf, gpus: Sequence[GpuRow] = ()) -> None:
    """Act as the run's worker for a time: rows four times a second, a heartbeat and a reading every
    second, evaluations when due.

    Args:
        gpus: the GPU that trains and the others; empty: none.
    """
    with RunReader(run) as reader:
        step, attempt = reader.recent_steps(1)[0].step, reader.attempts()[-1].attempt
    with RunLock(run.lock_path) as lock, RunLog(run, attempt) as log:
        log.append(EventRow(attempt, step, "running", "", time.time()))
        began = time.time() - step / STEPS_A_SECOND
        beats, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.25)
            due = int((time.time() - began) * STEPS_A_SECOND)
            for number in range(step + 1, due + 1):
                log.append(*_rows_of(number, attempt, began + number / STEPS_A_SECOND, math.inf))
            step, beats = due, beats + 1
            if beats % 4 == 0:
                lock.show(LockPage())
                log.append(
                    HardwareRow(
                        time.time(),
                        97.0,
                        95.0 + beats % 3,
                        9 * GIB + beats * 2**20,
                        62 * GIB,
                        GIB,
                        212 * 10**9,
                        *_moved(gpus, beats),
                    )
                )


def _moved(gpus: Sequence[GpuRow], beats: int) -> tuple[GpuRow, tuple[GpuRow, ...]]:
    """The GPUs of a reading: the first, and the others; loads vary a little."""
    moved = [
        gpu if gpu.percent is None else gpu._replace(percent=max(0.0, gpu.percent - beats // 4 % 5))
        for gpu in gpus
    ]
    return next(iter(moved), GpuRow()), tuple(moved[1:])


def _write(
    run: RunDirectory, start_step: int, last: int, began: float, whole: int, *, ended: bool
) -> None:
    """Write the log of an attempt."""
    started = began + start_step / STEPS_A_SECOND
    process, device = (os.getpid(), host_name(), boot_id()), "cpu, 2 threads"
    row = AttemptRow(1, *process, device, start_step, {"threads": 2}, started)
    with RunLog.begin(run, row) as log:

        def event(step: int, kind: EventKind, text: str = "") -> EventRow:
            return EventRow(log.attempt, step, kind, text, began + step / STEPS_A_SECOND)

        first: EventKind = "resumed" if start_step else "started"
        log.append(
            event(start_step, first, f"from step {start_step:,}" if start_step else ""),
            event(start_step, "preparing"),
            _facts(whole),
            event(start_step, "running"),
        )
        if start_step:
            words = "learning rate 1.5e-3 → 1.2e-3"
            log.append(event(start_step + 1, "setting", words))
        waiting: list[Row] = []
        for step in range(start_step + 1, last + 1):
            at = began + step / STEPS_A_SECOND
            waiting += _rows_of(step, log.attempt, at, whole)
            if step % STEPS_A_SECOND == 0:
                waiting.append(_reading(step // STEPS_A_SECOND, at))
            if step % EVERY == 0:
                words = f"validation perplexity {math.exp(_validation_loss(step)):.1f}"
                waiting += event(step, "evaluation", words), event(step, "checkpoint", f"{step:,}")
            if step % 97_003 == 0:
                waiting.append(event(step, "spike", "the loss jumped to 9.5"))
            if len(waiting) > 4_096:
                log.append(*waiting)
                waiting = []
        log.append(*waiting, *([event(last, "finished")] if ended else []))


def _rows_of(step: int, attempt: int, at: float, whole: float) -> list[Row]:
    """A step, and its evaluation and samples if they are due."""
    rows: list[Row] = [_step(step, attempt, at, whole)]
    if step % EVERY == 0:
        rows.append(_evaluation(step, attempt, at))
    if step % SAMPLED == 0:
        text = f" is what the model says at step {step:,}, and every word of it is new."
        prompts = ("The state of the Union", "My fellow Americans,", "We must")
        rows += (SampleRow(attempt, step, prompt, text, 14, 7, at) for prompt in prompts)
    return rows


def _reading(second: int, at: float) -> HardwareRow:
    return HardwareRow(
        at,
        30.0 + second * 7919 % 23,
        12.0 + second * 104729 % 11,
        9 * GIB + second * 31337 % GIB,
        62 * GIB,
        GIB + second * 1000,
        212 * 10**9 - second * 100000,
        GpuRow(
            0,
            "NVIDIA L4",
            88.0 + second * 7919 % 12 - (70 if second % 2500 < 20 else 0),
            5 * GIB,
            4 * GIB,
            23 * GIB,
            60.0 + second * 104729 % 9,
            58.0 + second * 31337 % 6,
        ),
    )


def _facts(whole: int) -> Facts:
    """What a worker records about its run."""
    return Facts(
        max_steps=whole,
        steps_per_epoch=STEPS_AN_EPOCH,
        epochs=whole / STEPS_AN_EPOCH,
        parameters=543_488,
        vocab_size=2_048,
        baseline_loss=4.29,
        baseline_validation_loss=4.24,
        corpus_title="57 State of the Union addresses",
        precision="float32",
        matmul="medium",
        threads=2,
        cores=2,
        rehearsed_seconds=0.05,
    )


def _weights(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "rnnlm"}', encoding="utf-8")
    (folder / "model.safetensors").write_bytes(bytes(256))


def _validation_loss(step: int) -> float:
    return loss_at(step) + 0.1 + (step * 7919 % 101) / 5000


def _evaluation(step: int, attempt: int, at: float) -> EvaluationRow:
    loss = _validation_loss(step)
    return EvaluationRow(
        attempt, step, "validation", "validation", loss, 20_000, loss / 2.4, 0.4, at
    )


def _step(step: int, attempt: int, at: float, whole: float) -> StepRow:
    spike = step % 97_003 == 0
    loss = 9.5 if spike else loss_at(step) + (step * 7919 % 1009 - 504) / 3500
    warm = 0.0015 * step / 2_000
    return StepRow(
        attempt,
        step,
        step * TOKENS_A_STEP,
        step / STEPS_AN_EPOCH,
        math.nan if 350_000 <= step % 400_000 <= 350_004 else loss,
        0.4 + 1.2 / (1 + step / 1_500) + step * 104729 % 499 / 4_000 + 8 * spike,
        warm if step < 2_000 else 0.0015 * (1 - step * 0.97 / whole),
        STEPS_A_SECOND * TOKENS_A_STEP
        + (step * 31337 % 1201 - 600)
        - (9_000 if step % 50_000 < 400 else 0),
        step / STEPS_A_SECOND,
        at,
    )


def main() -> int:
    """Run the script; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("name")
    parser.add_argument("steps", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--live", action="store_true", help="go on training until ended")
    parser.add_argument(
        "--gpu", choices=sorted(nvml.MACHINES), help="with --live: the readings of these GPUs"
    )
    chosen = parser.parse_args()
    os.environ["RNNLM_TUI_HOME"] = str(chosen.home)
    begun = time.monotonic()
    run = build(chosen.name, chosen.steps, ended=not chosen.live)
    print(f"{run.path}: {chosen.steps:,} steps in {time.monotonic() - begun:.1f} s", flush=True)  # noqa: T201
    if chosen.live:
        train, others = nvml.read_machine(chosen.gpu) if chosen.gpu else (None, ())
        train_on(run, gpus=(train, *others) if train is not None else ())
    return 0


if __name__ == "__main__":
    sys.exit(main())
