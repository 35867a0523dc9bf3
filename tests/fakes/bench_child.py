"""A child process of `bench` without torch: `python bench_child.py BEHAVIOUR` always answers with
the same figures."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from pydantic import BaseModel

from rnnlm_tui.bench.report import (
    BenchData,
    BenchTask,
    CorpusProgress,
    MachineSurvey,
    MachineTurn,
    Saved,
    SaveRequest,
    TaskReady,
    TurnDone,
    TurnRequest,
)
from rnnlm_tui.schema.protocol import TaskFailed, decode_line, encode_line

SPEEDS = {
    "naive training": 100,
    "library training": 150,
    "engine training": 500,
    "naive sampling": 10,
    "engine sampling": 200,
}
"""Tokens a second by role."""


def write(message: BaseModel) -> None:
    sys.stdout.buffer.write(encode_line(message))
    sys.stdout.buffer.flush()


def survey(free: int) -> MachineSurvey:
    return MachineSurvey(
        device="fake",
        device_type="cpu",
        torch="2",
        threads=2,
        memory_free=free,
        numbers=("float32", "medium"),
        auto="medium",
    )


def first_answer(task: BenchTask, behaviour: str) -> BaseModel:
    if task.role == "corpus":
        if behaviour == "silent text":
            signal.pause()
        write(CorpusProgress(phase="reading", done=1, total=4))
        write(CorpusProgress(phase="encoding", done=0, total=0))
        return BenchData(
            title="a text",
            own=False,
            tokenizer="word",
            folder="/nowhere",
            corpus_vocab_size=30,
            vocab_size=50,
            tokens_per_step=40.0,
            used=0.8,
            steps_per_epoch=7,
        )
    if task.role == "machine":
        if behaviour == "no device":
            return TaskFailed(message='no device "cuda"', hint="there is cpu", exit_code=2)
        return survey(1_000 if behaviour == "little memory" else 10**12)
    return TaskReady(
        threads=task.config.training.threads or 2,
        numbers="medium" if task.config.training.matmul == "medium" else "float32",
    )


def turn(task: BenchTask, request: TurnRequest) -> BaseModel:
    if task.role == "machine":
        return MachineTurn(
            gflops={"float32": 10.0, "medium": 40.0}, bandwidth=1e9, bandwidth_one=5e8
        )
    steps = max(1, request.least)
    note = f"spins {os.environ.get('GOMP_SPINCOUNT', 'as torch does')}"
    return TurnDone(
        steps=steps,
        tokens=steps * SPEEDS[task.role],
        seconds=float(steps),
        peak_bytes=1_000 if task.role.startswith("naive") else 250,
        first=3.5,
        ids=(1, 2),
        note=note,
    )


def main() -> None:
    behaviour = sys.argv[1]
    task = decode_line(sys.stdin.buffer.readline(), BenchTask)
    if behaviour.startswith("register "):
        (Path(behaviour.removeprefix("register ")) / str(os.getpid())).touch()
    sys.stdout.write("a library greets its users\n")
    sys.stdout.flush()
    write(first_answer(task, behaviour))
    for line in sys.stdin.buffer:
        if behaviour.startswith("register ") and task.role == "engine training":
            continue  # never answers
        if behaviour == "dies" and task.role == "engine training":
            sys.exit("Illegal instruction")
        if behaviour == "one dies" and task.config.training.matmul == "medium":
            sys.exit("Illegal instruction")
        request = decode_line(line, TurnRequest, SaveRequest)
        write(turn(task, request) if isinstance(request, TurnRequest) else Saved())


if __name__ == "__main__":
    main()
