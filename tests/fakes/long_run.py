"""A run of a million steps, made in seconds without torch: `python -m tests.fakes.long_run HOME
NAME [STEPS] [--live [--gpu MACHINE] | --copies N]`.

Its database looks as after two attempts: steps with spikes, a gap and superseded ones, evaluations,
checkpoints, samples, events,
a reading of the machine every second, and the roll-ups, which the store computes. With `--live` it
keeps training until it is killed.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rnnlm_tui.schema.config import RunConfig
from rnnlm_tui.schema.metrics import (
    CheckpointRow,
    EvaluationRow,
    EventKind,
    EventRow,
    GpuRow,
    HardwareRow,
    SampleRow,
    StepRow,
)
from rnnlm_tui.store.checkpoints import write_checkpoint
from rnnlm_tui.store.database import RunDatabase
from rnnlm_tui.store.paths import RunDirectory
from rnnlm_tui.store.runs import create_run
from rnnlm_tui.store.series import HARDWARE_FIELDS
from rnnlm_tui.system.locks import RunLock, boot_id, host_name
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

_STEPS = f"""
WITH RECURSIVE numbers(step) AS (
    SELECT :first UNION ALL SELECT step + 1 FROM numbers WHERE step < :last)
INSERT INTO steps SELECT
    :attempt, step, step * {TOKENS_A_STEP}, step * 1.0 / {STEPS_AN_EPOCH},
    CASE WHEN step % 400000 BETWEEN 350000 AND 350004 THEN NULL WHEN step % 97003 = 0 THEN 9.5
        ELSE 3.4 + 4.2 / (1 + step / 4000.0) + ((step * 7919) % 1009 - 504) / 3500.0 END,
    0.4 + 1.2 / (1 + step / 1500.0) + ((step * 104729) % 499) / 4000.0
        + CASE WHEN step % 97003 = 0 THEN 8 ELSE 0 END,
    CASE WHEN step < 2000 THEN 0.0015 * step / 2000 ELSE 0.0015 * (1.0 - step * 0.97 / :whole) END,
    {STEPS_A_SECOND * TOKENS_A_STEP} + ((step * 31337) % 1201 - 600)
        - CASE WHEN step % 50000 < 400 THEN 9000 ELSE 0 END,
    step * 1.0 / {STEPS_A_SECOND}, :began + step * 1.0 / {STEPS_A_SECOND},
    CASE WHEN step % 400000 BETWEEN 350000 AND 350004 THEN '{{"loss": "nan"}}' END, 0
FROM numbers
"""
_FIRST_FIELDS = HARDWARE_FIELDS.index("other_gpus") + 1
_READINGS = f"""
WITH RECURSIVE numbers(second) AS (
    SELECT 0 UNION ALL SELECT second + 1 FROM numbers WHERE second < :seconds)
INSERT INTO hardware ({", ".join(("id", *HARDWARE_FIELDS[:_FIRST_FIELDS]))}) SELECT
    NULL, :began + second, 30 + (second * 7919) % 23, 12 + (second * 104729) % 11,
    {9 * GIB} + (second * 31337) % {GIB}, {62 * GIB}, {GIB} + second * 1000,
    {212 * 10**9} - second * 100000, 'NVIDIA L4',
    88 + (second * 7919) % 12 - CASE WHEN second % 2500 < 20 THEN 70 ELSE 0 END,
    {5 * GIB}, {4 * GIB}, {23 * GIB},
    60 + (second * 104729) % 9, 58 + (second * 31337) % 6, NULL
FROM numbers
"""


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
    with RunDatabase(run.database_path) as database:
        _attempt(database, 0)
        _insert(
            run,
            _STEPS,
            first=1,
            last=min(steps, resumed + REDONE),
            attempt=1,
            began=began,
            whole=whole,
        )
        if steps > resumed:
            _attempt(database, resumed)
            _insert(run, _STEPS, first=resumed + 1, last=steps, attempt=2, began=began, whole=whole)
        _insert(run, _READINGS, seconds=steps // STEPS_A_SECOND, began=began)
        database.restore(())  # computes every roll-up
        for key, value in _facts(whole).items():
            database.set_meta(key, value)
        saved = list(range(EVERY, steps + 1, EVERY))[-KEPT:]
        for step in saved:
            write_checkpoint(run, step, _weights, None, {"validation_loss": _validation_loss(step)})
    with closing(sqlite3.connect(run.database_path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        _add_records(connection, steps, resumed, began, ended=ended)
        connection.execute("COMMIT")
    with RunDatabase(run.database_path) as database:
        for step in saved:
            row = CheckpointRow(
                1 if step <= resumed else 2,
                step,
                step / STEPS_AN_EPOCH,
                step * TOKENS_A_STEP,
                loss_at(step),
                _validation_loss(step),
                6_500_000,
                f"checkpoints/step-{step:09d}",
                False,
                False,
                began + step / STEPS_A_SECOND,
            )
            database.put_checkpoint(row)
        database.heartbeat(time.time())
    return run


def build_many(count: int, steps: int = 2_000, name: str = "otter") -> list[RunDirectory]:
    """Make `count` finished runs, `otter-0000` the newest: copies of a few of different lengths,
    each an hour older than the one before."""
    runs = [
        build(f"{name}-{index:04d}", steps + index * steps // 4)
        for index in range(min(count, DIFFERENT))
    ]
    for index in range(len(runs), count):
        runs.append(
            RunDirectory(
                shutil.copytree(
                    runs[index % DIFFERENT].path, runs[0].path.with_name(f"{name}-{index:04d}")
                )
            )
        )
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
    with (
        RunLock(run.lock_path),
        RunDatabase(run.database_path) as database,
        closing(sqlite3.connect(run.database_path)) as connection,
    ):
        step, attempt = connection.execute(
            "SELECT max(step), max(attempt) FROM steps WHERE superseded = 0"
        ).fetchone()
        database.add_event(EventRow(attempt, step, "running", "", time.time()))
        began = time.time() - step / STEPS_A_SECOND
        beats, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.25)
            due = int((time.time() - began) * STEPS_A_SECOND)
            rows = [
                _step(number, attempt, began + number / STEPS_A_SECOND)
                for number in range(step + 1, due + 1)
            ]
            database.add_steps(rows)
            for number in (row.step for row in rows if row.step % EVERY == 0):
                database.add_evaluation(_evaluation(number, attempt, time.time()))
            step, beats = due, beats + 1
            if beats % 4 == 0:
                database.heartbeat(time.time())
                database.add_hardware(
                    HardwareRow(
                        time.time(),
                        97.0,
                        95.0 + beats % 3,
                        9 * GIB + beats * 2**20,
                        62 * GIB,
                        GIB,
                        212 * 10**9,
                        **_gpu_fields(gpus, beats),
                    )
                )


def _gpu_fields(gpus: Sequence[GpuRow], beats: int) -> dict[str, Any]:
    """The GPUs of a reading; loads vary a little."""
    if not gpus:
        return {}
    moved = [
        gpu if gpu.percent is None else replace(gpu, percent=max(0.0, gpu.percent - beats // 4 % 5))
        for gpu in gpus
    ]
    known = {f"gpu_{name}": value for name, value in asdict(moved[0]).items() if name != "index"}
    return {**known, "other_gpus": tuple(moved[1:])}


def _attempt(database: RunDatabase, start_step: int) -> None:
    database.begin_attempt(
        os.getpid(), host_name(), boot_id(), "cpu, 2 threads", start_step, {"threads": 2}
    )


def _insert(run: RunDirectory, statement: str, **values: float) -> None:
    with closing(sqlite3.connect(run.database_path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(statement, values)
        connection.commit()


def _facts(whole: int) -> dict[str, str]:
    """The facts that a worker stores about its run."""
    return {
        "max_steps": str(whole),
        "steps_per_epoch": str(STEPS_AN_EPOCH),
        "epochs": str(whole / STEPS_AN_EPOCH),
        "parameters": "543488",
        "vocab_size": "2048",
        "baseline_loss": "4.29",
        "baseline_validation_loss": "4.24",
        "corpus_title": "57 State of the Union addresses",
        "precision": "float32",
        "matmul": "medium",
        "threads": "2",
        "cores": "2",
        "rehearsed_seconds": "0.05",
    }


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


def _step(step: int, attempt: int, at: float) -> StepRow:
    noise = (step * 7919 % 1009 - 504) / 3500
    return StepRow(
        attempt,
        step,
        step * TOKENS_A_STEP,
        step / STEPS_AN_EPOCH,
        loss_at(step) + noise,
        0.42 + noise,
        1e-3,
        STEPS_A_SECOND * TOKENS_A_STEP * (1 + noise),
        step / STEPS_A_SECOND,
        at,
    )


def _add_records(
    connection: sqlite3.Connection, steps: int, resumed: int, began: float, *, ended: bool
) -> None:
    """Evaluations, samples and the log, as `RunDatabase` writes them row by row."""
    connection.executemany(
        "UPDATE attempts SET started = ? WHERE attempt = ?",
        [(began, 1), (began + resumed / STEPS_A_SECOND, 2)],
    )
    evaluations = [
        _evaluation(step, 1 if step <= resumed else 2, began + step / STEPS_A_SECOND)
        for step in range(EVERY, steps + 1, EVERY)
    ]
    evaluated = [
        (
            row.attempt,
            row.step,
            row.split,
            row.name,
            row.loss,
            row.tokens,
            row.bits_per_byte,
            row.seconds,
            row.time,
            row.unknown,
        )
        for row in evaluations
    ]
    connection.executemany(
        "INSERT INTO evaluations VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, 0, ?, NULL, NULL)",
        evaluated,
    )
    prompts = ("The state of the Union", "My fellow Americans,", "We must")
    samples = [
        SampleRow(
            1 if step <= resumed else 2,
            step,
            prompt,
            f" is what the model says at step {step:,}, and every word of it is new.",
            14,
            7,
            began + step / STEPS_A_SECOND,
        )
        for step in range(SAMPLED, steps + 1, SAMPLED)
        for prompt in prompts
    ]
    sampled = [
        (row.attempt, row.step, row.prompt, row.text, row.tokens, row.seed, row.time)
        for row in samples
    ]
    connection.executemany("INSERT INTO samples VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, 0)", sampled)
    log: list[tuple[int, EventKind, str]] = [
        (0, "started", ""),
        (0, "preparing", ""),
        (0, "running", ""),
    ]
    log += [
        (row.step, "evaluation", f"validation perplexity {row.perplexity:.1f}")
        for row in evaluations
    ]
    log += [(step, "checkpoint", f"step {step:,}") for step in range(EVERY, steps + 1, EVERY)]
    log += [
        (resumed, "resumed", f"from step {resumed:,}"),
        (resumed, "running", ""),
        (resumed + 1, "setting", "learning rate 1.5e-3 → 1.2e-3"),
    ]
    log += [(step, "spike", "the loss jumped to 9.5") for step in range(97_003, steps + 1, 97_003)]
    log += [(steps, "finished", "")] if ended else []
    order = sorted(enumerate(log), key=lambda entry: (entry[1][0], entry[0]))
    states = {"started", "preparing", "running", "resumed", "finished"}
    events = [
        (
            1 if step <= resumed else 2,
            step,
            kind,
            text,
            began + step / STEPS_A_SECOND,
            int(kind in states),
        )
        for _, (step, kind, text) in order
    ]
    connection.executemany("INSERT INTO events VALUES (NULL, ?, ?, ?, ?, ?, ?)", events)


def main() -> int:
    """Run the script; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("home", type=Path)
    parser.add_argument("name")
    parser.add_argument("steps", type=int, nargs="?", default=1_000_000)
    parser.add_argument(
        "--copies",
        type=int,
        default=0,
        metavar="N",
        help="instead of one run N finished ones, NAME-0000 and so on",
    )
    parser.add_argument("--live", action="store_true", help="go on training until ended")
    parser.add_argument(
        "--gpu", choices=sorted(nvml.MACHINES), help="with --live: the readings of these GPUs"
    )
    chosen = parser.parse_args()
    os.environ["RNNLM_TUI_HOME"] = str(chosen.home)
    begun = time.monotonic()
    if chosen.copies:
        build_many(chosen.copies, chosen.steps, chosen.name)
        print(f"{chosen.copies:,} runs in {time.monotonic() - begun:.1f} s", flush=True)  # noqa: T201
        return 0
    run = build(chosen.name, chosen.steps, ended=not chosen.live)
    print(f"{run.path}: {chosen.steps:,} steps in {time.monotonic() - begun:.1f} s", flush=True)  # noqa: T201
    if chosen.live:
        train, others = nvml.read_machine(chosen.gpu) if chosen.gpu else (None, ())
        train_on(run, gpus=(train, *others) if train is not None else ())
    return 0


if __name__ == "__main__":
    sys.exit(main())
